-- A weight that a router or another op reads as well stays f32, in every graph; one that feeds topk by way of a scale is a router.
-- run: precision fast
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local w, v = param("w", f32, { 32, 32 }), param("v", f32, { 32, 32 })
  local best, ids = topk(scale(linear(x, w, { name = "router" }), { by = 2.0, name = "s" }), { k = 2, name = "best" })
  output(best)
  output(ids)
  output(linear(x, v, { name = "l" }))
end, sample = function()
  local x = input("x", f32, { S, 32 })
  output(linear(x, param("w", f32, { 32, 32 }), { name = "l" }))
  output(linear(x, param("v", f32, { 32, 32 }), { name = "m" }))
end }
