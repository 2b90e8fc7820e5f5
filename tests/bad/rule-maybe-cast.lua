-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w), maybe(cast(x, { to = "bf16" })) end,
}
