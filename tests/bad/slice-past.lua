return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  output(slice(x, { offset = 32, width = 33 }))
end }
