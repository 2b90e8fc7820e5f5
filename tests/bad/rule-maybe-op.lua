-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return maybe(linear(x, w)) end,
  kernel = "linear",
}
