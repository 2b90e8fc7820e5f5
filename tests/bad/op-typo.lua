return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  output(rmsnrom(x, param("g", f32, { 64 })))
end }
