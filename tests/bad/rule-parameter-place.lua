-- run: --rules @
return fusion {
  name = "r",
  match = function(x, layer) return linear(x, layer) end,
}
