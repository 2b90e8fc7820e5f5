-- A cheap node that others read is copied into the body when the rule says so; the original stays for the others. When all
-- have their copy it goes.
return program { name = "test", step = function()
  local x, g = input("x", f32, { T, 32 }), param("g", f32, { 32 })
  local n = rmsnorm(x, g, { name = "n" })
  output(linear(n, param("w1", bf16, { 32, 32 }), { name = "l1" }))
  output(softmax(n, { name = "p" }))
  local m = rmsnorm(x, g, { name = "m" })
  output(linear(m, param("w2", bf16, { 32, 32 }), { name = "l2" }))
  output(linear(m, param("w3", bf16, { 32, 32 }), { name = "l3" }))
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) return linear(recompute(rmsnorm(x, g)), w) end }
