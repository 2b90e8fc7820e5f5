-- Each of the two pairs may be fused, but not both: a1, b1 feed b2, a2 crosswise.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local a1 = scale(x, { by = 1.5, name = "a1" })
  local b1 = softmax(x, { name = "b1" })
  output(add(a1, softmax(b1, { name = "bb" }), { name = "a2" }))
  output(mul(b1, rmsnorm(a1, param("g", f32, { 32 }), { name = "aa" }), { name = "b2" }))
end }
--- rules
return {
  fusion { name = "first", kernel = "k", match = function(x, y) local s = scale(x) return s + y, s end },
  fusion { name = "second", kernel = "k", match = function(x, y) local s = softmax(x) return s * y, s end },
}
