-- The original of a recomputed node stays and reads what feeds it, which is interior.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(scale(x, { by = 2.0, name = "s" }), param("g", f32, { 32 }), { name = "n" })
  output(linear(n, param("w", bf16, { 32, 32 }), { name = "l" }))
  output(softmax(n, { name = "p" }))
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) return linear(recompute(rmsnorm(scale(x), g)), w) end }
