-- when says no for the one that is 40 wide.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  output(scale(linear(x, param("w1", bf16, { 40, 32 }), { name = "l1" }), { by = 2.0, name = "s1" }))
  output(scale(linear(x, param("w2", bf16, { 48, 32 }), { name = "l2" }), { by = 2.0, name = "s2" }))
end }
--- rules
return fusion { name = "linear_scale", kernel = "k", match = function(x, w) return scale(linear(x, w)) end,
  when = function(m) return m.w.shape[1] % 16 == 0 end }
