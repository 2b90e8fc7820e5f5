-- An error in when is the author's: the place in his file.
return program { name = "test", step = function()
  output(scale(linear(input("x", f32, { T, 32 }), param("w", bf16, { 40, 32 }), { name = "l" }), { by = 2.0, name = "s" }))
end }
--- rules
return fusion { name = "linear_scale", kernel = "k", match = function(x, w) return scale(linear(x, w)) end,
  when = function(m) return m.x.shape[1] % 16 == 0 end }
