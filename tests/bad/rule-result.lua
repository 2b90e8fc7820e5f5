-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w), 3 end,
  kernel = "linear",
}
