-- As miss-strict, with casts in between.
-- run: precision fast log misses
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { eps = 1e-5, name = "n" })
  local l = linear(n, param("w", bf16, { 32, 32 }), param("b", f32, { 32 }), { name = "l" })
  local best, ids = topk(l, { k = 2, name = "best" })
  output(softmax(best, { name = "p" }))
  output(ids)
  output(add(l, x, { name = "sum" }))
  output(linear(n, param("v", bf16, { 8, 32 }), { name = "k" }))
end }
--- rules
return {
  fusion { name = "no-bias", kernel = "k", match = function(x, g, w) return topk(linear(rmsnorm(x, g), w)) end },
  fusion { name = "bias", kernel = "k", match = function(x, w, b) return softmax(linear(x, w, b)) end },
  fusion { name = "attribute", kernel = "k", match = function(x, g, w, b) return linear(rmsnorm(x, g, { eps = 1e-6 }), w, b) end },
  fusion { name = "result", kernel = "k", match = function(x) local _, ids = topk(x) return softmax(ids) end },
  fusion { name = "far", kernel = "k", match = function(x, g, w, b) local n = rmsnorm(x, g) return topk(linear(n, w, b)), swiglu(n) end },
  fusion { name = "twice", kernel = "k", match = function(x, w, b) return linear(x, w, b) + linear(x, w, b) end },
  fusion { name = "placeholder", kernel = "k", match = function(x, w, b) return linear(x, w, b) + w end },
  fusion { name = "absent", kernel = "k", match = function(h, w, b, ids) return expert_linear(swiglu(h), w, b, ids) end },
  fusion { name = "readers", kernel = "k", match = function(x, w) local l = linear(x, w) return l, scale(x) end },
  fusion { name = "fits", kernel = "k", match = function(x, w) return linear(x, w) end },
}
