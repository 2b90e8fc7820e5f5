-- run: --rules @
return fusion {
  name = "r",
  match = function(x, x) return add(x, x) end,
  kernel = "linear",
}
