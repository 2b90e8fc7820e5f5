-- run: --rules @
return fusion {
  name = "r",
  match = function(x) return linear(x, param("w", f32, { 4, 4 })) end,
  kernel = "linear",
}
