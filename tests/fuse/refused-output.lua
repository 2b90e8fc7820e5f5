-- An interior value that is an output of the graph.
return program { name = "test", step = function()
  local n = rmsnorm(input("x", f32, { T, 32 }), param("g", f32, { 32 }), { name = "n" })
  output(linear(n, param("w", bf16, { 8, 32 }), { name = "l" }))
  output(n)
end }
--- rules
return fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) return linear(rmsnorm(x, g), w) end }
