return program { name = "p", step = function()
  output(name(input("x", f32, { T, 64 }), "y"))
end }
