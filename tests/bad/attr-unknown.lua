return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  output(softmax(x, { eps = 1 }))
end }
