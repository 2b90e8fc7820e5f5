-- maybe(b): a linear with a bias and one without; an absent input is nil in the fused node.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local g = param("norm", f32, { 32 })
  output(linear(rmsnorm(x, g, { name = "n1" }), param("w1", bf16, { 64, 32 }), param("b1", f32, { 64 }), { name = "with" }))
  output(linear(rmsnorm(x, g, { name = "n2" }), param("w2", bf16, { 64, 32 }), { name = "without" }))
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, b, g, w) return linear(rmsnorm(x, g), w, maybe(b)) end }
