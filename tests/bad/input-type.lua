return program { name = "p", step = function()
  input("x", "f16", { T, 64 })
end }
