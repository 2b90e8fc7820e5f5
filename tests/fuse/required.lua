-- Without maybe an absent input does not match, and a pattern without the input does not match a present one.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  output(linear(scale(x, { by = 2.0, name = "s1" }), param("w1", bf16, { 64, 32 }), param("b1", f32, { 64 }), { name = "with" }))
  output(linear(scale(x, { by = 2.0, name = "s2" }), param("w2", bf16, { 64, 32 }), { name = "without" }))
end }
--- rules
return {
  fusion { name = "with_bias", kernel = "k", match = function(x, w, b) return linear(scale(x), w, b) end },
  fusion { name = "no_bias", kernel = "k", match = function(x, w) return linear(scale(x), w) end },
}
