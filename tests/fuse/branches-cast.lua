-- As branches; the second branch leaves through a cast.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { name = "n" })
  output(linear(cast(n, { to = "bf16", name = "c" }), param("w1", bf16, { 32, 32 }), { name = "l" }))
  output(softmax(n, { name = "p" }))
end }
--- rules
return fusion { name = "pair", kernel = "k", match = function(x, g, w)
  local n = rmsnorm(x, g)
  return linear(n, w), softmax(n)
end }
