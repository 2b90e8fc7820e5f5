-- The other operand depends on the node's other output.
-- run: hook k
return program { name = "test", step = function()
  local n = rmsnorm(input("x", f32, { T, 32 }), param("g", f32, { 32 }), { name = "n" })
  local l = linear(n, param("w", bf16, { 32, 32 }), { name = "l" })
  local s = scale(l, { by = 2.0, name = "s" })
  output(add(s, softmax(n, { name = "p" }), { name = "out" }))
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, g, w)
  local n = rmsnorm(x, g)
  return linear(n, w), n
end }
