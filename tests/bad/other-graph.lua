local x
return program { name = "p",
  step = function() x = input("x", f32, { T, 64 }) output(x) end,
  sample = function() output(scale(x, { by = 2 })) end,
}
