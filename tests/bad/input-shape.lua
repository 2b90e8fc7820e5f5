return program { name = "p", step = function()
  input("x", f32, T)
end }
