-- Attributes that the pattern names must be equal, others are free.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 64 })
  local g = param("norm", f32, { 32 })
  for i, offset in ipairs { 0, 32 } do
    output(rmsnorm(slice(x, { offset = offset, width = 32, name = "s" .. i }), g, { eps = i * 1e-6, name = "n" .. i }))
  end
end }
--- rules
return fusion { name = "second_half", kernel = "k", match = function(x, g) return rmsnorm(slice(x, { offset = 32 }), g) end }
