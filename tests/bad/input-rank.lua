return program { name = "p", step = function()
  input("x", f32, { 1, 2, 3, 4, 5, 6 })
end }
