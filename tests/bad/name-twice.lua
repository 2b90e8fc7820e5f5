return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  output(scale(x, { by = 2, name = "y" }))
  output(scale(x, { by = 3, name = "y" }))
end }
