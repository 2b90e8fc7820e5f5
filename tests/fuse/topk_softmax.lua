-- Two outputs: the weights, and the ids that the pattern finds through topk.
-- run: rules lua/fusions/topk_softmax.lua
return program { name = "test", step = function()
  local x = input("x", f32, { T, 8 })
  local best, ids = topk(x, { k = 2, name = "best" })
  output(softmax(best, { name = "p" }))
  output(ids)
end }
