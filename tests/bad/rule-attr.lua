-- run: --rules @
return fusion {
  name = "r",
  match = function(x) return slice(x, { from = 3 }) end,
  kernel = "linear",
}
