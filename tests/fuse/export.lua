-- An interior value that others read is an output of the pattern, hence of the fused node. Its readers are found from there.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { name = "n" })
  local r = linear(n, param("w", bf16, { 8, 32 }), param("b", f32, { 8 }), { name = "router" })
  output(add(scale(n, { by = 2.0, name = "s" }), x, { name = "out" }))
  output(r)
end }
--- rules
return fusion { name = "router", kernel = "k", match = function(x, g, w, b)
  local n = rmsnorm(x, g)
  return linear(n, w, b), n
end }
