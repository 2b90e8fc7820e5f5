-- Fusing both linears would need y before it exists: y's input comes from the first and y feeds the second.
return program { name = "test", step = function()
  local x, w = input("x", f32, { T, 32 }), param("w", bf16, { 32, 32 })
  local a = linear(x, w, { name = "a" })
  local y = softmax(a, { name = "y" })
  output(add(a, linear(y, w, { name = "b" }), { name = "out" }))
end }
--- rules
return fusion { name = "two", kernel = "k", match = function(x, y, w)
  local a = linear(x, w)
  return a + linear(y, w), a
end }
