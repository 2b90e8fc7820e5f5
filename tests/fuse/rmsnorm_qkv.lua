-- The rule of the name. The same norm behind a linear without bias is not its business.
-- run: rules lua/fusions/rmsnorm_qkv.lua
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local g = param("norm", f32, { 32 })
  output(linear(rmsnorm(x, g, { name = "n" }), param("qkv.w", bf16, { 64, 32 }), param("qkv.b", f32, { 64 }), { name = "qkv" }))
  output(linear(rmsnorm(x, g, { name = "m" }), param("head.w", bf16, { 48, 32 }), { name = "head" }))
end }
