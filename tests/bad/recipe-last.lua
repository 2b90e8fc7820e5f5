-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w) end,
  kernel = { { T = 1, "a" }, { T = 2, "b" } },
}
