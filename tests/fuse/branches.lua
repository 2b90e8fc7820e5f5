-- Two branches from one value, reached from the root through their source; the pattern fits from either end, once.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { name = "n" })
  output(linear(n, param("w1", bf16, { 32, 32 }), { name = "l1" }))
  output(linear(n, param("w2", bf16, { 32, 32 }), { name = "l2" }))
end }
--- rules
return fusion { name = "pair", kernel = "k", match = function(x, g, w1, w2)
  local n = rmsnorm(x, g)
  return linear(n, w1), linear(n, w2)
end }
