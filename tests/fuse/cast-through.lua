-- A cast between two matched nodes goes into the body. One that others read too is copied, like its source when that is exported.
-- A pattern may write the cast itself. A placeholder stands for what the cast gives.
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local g, w = param("g", f32, { 32 }), param("w", bf16, { 32, 32 })
  local n = rmsnorm(x, g, { name = "n" })
  local c = cast(n, { to = "bf16", name = "c" })
  output(linear(c, w, { name = "l1" }))
  output(attention(c, state("kv", bf16, { P, 2, 1, 4, 16 }), param("sinks", f32, { 2 }), input("slot", i32, { T }), input("pos", i32, { T }), input("blocks", i32, { 4, 8 }), { name = "a" }))
  output(linear(cast(scale(x, { by = 2.0, name = "s" }), { to = "bf16", name = "d" }), w, { name = "l2" }))
  output(linear(cast(x, { to = "bf16", name = "xb" }), w, { name = "l3" }) + x)
end }
--- rules
return {
  fusion { name = "norm_linear", kernel = "k", match = function(x, g, w) local n = rmsnorm(x, g) return linear(n, w), n end },
  fusion { name = "scale_cast_linear", kernel = "k", match = function(x, w) return linear(cast(scale(x), { to = "bf16" }), w) end },
  fusion { name = "linear_add", kernel = "k", match = function(x, w, r) return linear(x, w) + r end },
}
