-- run: --rules @
return fusion {
  match = function(x, w) return linear(x, w) end,
  kernel = "linear",
}
