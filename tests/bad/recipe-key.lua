-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w) end,
  kernel = { { T = 8, "a", tile = 3 }, { "c" } },
}
