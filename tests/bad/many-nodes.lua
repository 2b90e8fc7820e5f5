return program { name = "p", step = function()
  local x = input("x", f32, { T, 64 })
  for i = 1, 12001 do x = x * 1.5 end
  output(x)
end }
