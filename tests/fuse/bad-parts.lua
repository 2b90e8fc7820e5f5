-- A pattern in two parts.
return program { name = "test", step = function() output(scale(input("x", f32, { T, 32 }), { by = 2.0 })) end }
--- rules
return fusion { name = "parts", kernel = "k", match = function(x, y) return scale(x), softmax(y) end }
