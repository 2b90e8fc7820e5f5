-- The same placeholder twice is the same value; different ones may be the same value too.
return program { name = "test", step = function()
  local x, y = input("x", f32, { T, 32 }), input("y", f32, { T, 32 })
  local w = param("w", bf16, { 32, 32 })
  output(add(linear(x, w, { name = "l1" }), x, { name = "residual" }))
  output(add(linear(x, w, { name = "l2" }), y, { name = "other" }))
  output(mul(rmsnorm(x, param("g", f32, { 32 }), { name = "n" }), x, { name = "gated" }))
end }
--- rules
return {
  fusion { name = "residual", kernel = "k", match = function(x, w) return linear(x, w) + x end },
  fusion { name = "gate", kernel = "k", match = function(x, g, y) return rmsnorm(x, g) * y end },
}
