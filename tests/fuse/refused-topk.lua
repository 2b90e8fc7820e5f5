-- The ids of topk are read and the pattern does not return them.
return program { name = "test", step = function()
  local best, ids = topk(input("x", f32, { T, 8 }), { k = 2, name = "best" })
  local p = softmax(best, { name = "p" })
  output(combine(expert_linear(input("y", f32, { T, 32 }), param("w", bf16, { 8, 32, 32 }), param("b", f32, { 8, 32 }), ids, { name = "e" }), p, { name = "c" }))
end }
--- rules
return fusion { name = "weights", kernel = "k", match = function(x) return softmax((topk(x))) end }
