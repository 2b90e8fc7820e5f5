-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return recompute(linear(x, w)) end,
  kernel = "linear",
}
