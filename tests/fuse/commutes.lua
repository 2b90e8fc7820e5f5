-- add and mul match either way round, nested: only one of the four ways fits each. At the second place y may only be what
-- it is at the first.
return program { name = "test", step = function()
  local x, y = input("x", f32, { T, 32 }), input("y", f32, { T, 32 })
  local function s(n) return scale(x, { by = 2.0, name = n }) end
  output(add(x, mul(s "s1", y, { name = "m1" }), { name = "straight" }))
  output(add(mul(y, s "s2", { name = "m2" }), x, { name = "crossed" }))
  output(add(y, mul(y, s "s3", { name = "m3" }), { name = "other" }))
end }
--- rules
return fusion { name = "axpy", kernel = "k", match = function(x, y) return mul(scale(x), y) + x end }
