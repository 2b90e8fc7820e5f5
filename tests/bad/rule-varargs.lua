-- run: --rules @
return fusion {
  name = "r",
  match = function(...) return linear(...) end,
  kernel = "linear",
}
