return program { name = "p", step = function()
  input("x", f32, { T, 1 << 30, 1 << 30 })
end }
