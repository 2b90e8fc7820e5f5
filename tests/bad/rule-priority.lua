-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w) end,
  kernel = "linear",
  priority = "high",
}
