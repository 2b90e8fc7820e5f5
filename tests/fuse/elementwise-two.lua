-- Both operands come from nodes with a hook: the earlier one takes the sum, the later one's result is read. What a chain
-- reads twice comes in once. A kernel without a hook takes nothing.
-- run: hook linear
return program { name = "test", step = function()
  local x, w = input("x", f32, { T, 32 }), param("w", bf16, { 32, 32 })
  local sum = add(linear(x, w, { name = "a" }), linear(x, w, { name = "b" }), { name = "sum" })
  output(add(sum, rmsnorm(x, param("g", f32, { 32 }), { name = "n" }), { name = "out" }))
  local y = input("y", f32, { T, 32 })
  output(mul(add(linear(x, w, { name = "c" }), y, { name = "c1" }), y, { name = "c2" }))
  output(scale(softmax(x, { name = "p" }), { by = 2.0, name = "p2" }))
end }
