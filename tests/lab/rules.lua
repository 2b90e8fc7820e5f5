-- One rule of each kind; a test names the one it wants by the file it is cut into.
-- elementwise
return fusion { name = "residual", match = function(x, w, b, r) return add(r, linear(x, w, b)) end, kernel = "linear" }
-- structural
return fusion { name = "norm_linear", priority = 30, kernel = "linear", match = function(x, g, w, b)
  local n = rmsnorm(x, g)
  return n, linear(n, w, b)
end }
-- illegal
return fusion { name = "norm_router", priority = 30, kernel = "linear", when = function(m) return m.w.shape[1] == 4 end,
  match = function(x, g, w, b) return linear(rmsnorm(x, g), w, b) end }
-- overlap
return {
  fusion { name = "first", priority = 20, match = function(x, w, b, ids) return swiglu(expert_linear(x, w, b, ids)) end, kernel = "expert_linear" },
  fusion { name = "second", priority = 15, match = function(a, w, b, ids) return expert_linear(swiglu(a), w, b, ids) end, kernel = "expert_linear" },
}
-- missed
return fusion { name = "nowhere", match = function(x, g) return softmax(rmsnorm(x, g)) end, kernel = "softmax" }
-- notemplate
return fusion { name = "bare", priority = 20, match = function(x, w, b, ids) return swiglu(expert_linear(x, w, b, ids)) end, kernel = "my_kernel" }
