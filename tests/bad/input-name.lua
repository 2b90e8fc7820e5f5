return program { name = "p", step = function()
  input(f32, { T, 64 })
end }
