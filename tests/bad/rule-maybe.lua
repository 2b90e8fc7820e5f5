-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, maybe(w)) end,
  kernel = "linear",
}
