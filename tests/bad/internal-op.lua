return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  output(group(x, { experts = 4, tile = 2 }))
end }
