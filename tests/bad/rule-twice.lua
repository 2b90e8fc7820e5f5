-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) local y = linear(x, w) return y, y end,
  kernel = "linear",
}
