-- A rule's matches overlap: the first in the order of the graph wins.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  for i = 1, 4 do x = scale(x, { by = i * 1.0, name = "s" .. i }) end
  output(x)
end }
--- rules
return fusion { name = "twice", kernel = "k", match = function(x) return scale(scale(x)) end }
