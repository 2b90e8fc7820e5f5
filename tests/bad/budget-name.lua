return program { name = "n", step = function()
  local x = input(("x"):rep(501), f32, { T, 32 })
end }
