-- Chains behind a plain node: bias row, residual, factor, cast; the residual as either operand; both operands at once. The
-- absent bias keeps its place. Behind a value that two read, or that is an output, there is none.
-- run: hook linear
return program { name = "test", step = function()
  local x, w, row = input("x", f32, { T, 32 }), param("w", bf16, { 32, 32 }), param("row", f32, { 32 })
  local a = linear(x, w, { name = "a" })
  output(cast(scale(add(x, add(a, row, { name = "a1" }), { name = "a2" }), { by = 0.5, name = "a3" }), { to = "bf16", name = "a4" }))
  local b = linear(x, w, row, { name = "b" })
  output(mul(b, b, { name = "b2" }))
  local c = linear(x, w, { name = "c" })
  local c1 = scale(c, { by = 2.0, name = "c1" })
  output(c1)
  output(scale(c1, { by = 2.0, name = "c2" }))
  local d = linear(x, w, { name = "d" })
  output(add(scale(d, { by = 2.0, name = "d1" }), d, { name = "d2" }))
end }
