-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w, b) return linear(x, w) end,
  kernel = "linear",
}
