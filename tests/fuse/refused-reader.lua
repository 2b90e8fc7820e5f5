-- An interior value that somebody else reads: the message names both.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { name = "n" })
  output(linear(n, param("w", bf16, { 8, 32 }), { name = "l" }))
  output(scale(n, { by = 2.0, name = "other" }))
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) return linear(rmsnorm(x, g), w) end }
