-- Behind the first output of a fused node with several; the others stay. A plain node with several is left alone.
-- run: hook k hook topk
return program { name = "test", step = function()
  local best, ids = topk(input("x", f32, { T, 8 }), { k = 2, name = "best" })
  output(scale(softmax(best, { name = "p" }), { by = 2.0, name = "p2" }))
  output(ids)
  local top, which = topk(input("y", f32, { T, 8 }), { k = 2, name = "top" })
  output(scale(top, { by = 2.0, name = "top2" }))
  output(which)
end }
--- rules
return fusion { name = "weights", kernel = "k", match = function(x)
  local v, i = topk(x)
  return softmax(v), i
end }
