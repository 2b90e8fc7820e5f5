-- Equal priority: the rule that comes first; the other says what it lost to.
return program { name = "test", step = function()
  local n = rmsnorm(input("x", f32, { T, 32 }), param("g", f32, { 32 }), { name = "n" })
  output(scale(linear(n, param("w", bf16, { 32, 32 }), { name = "l" }), { by = 2.0, name = "out" }))
end }
--- rules
return {
  fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) return linear(rmsnorm(x, g), w) end },
  fusion { name = "linear_scale", kernel = "k", match = function(x, w) return scale(linear(x, w)) end },
}
