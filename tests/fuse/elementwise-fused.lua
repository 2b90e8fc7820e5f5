-- The hook behind a fused node: a cast to bf16 becomes its last step, the template still computes swiglu.
-- run: rules lua/fusions/mlp1_swiglu.lua precision fast hook expert_linear
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  local ids = input("ids", i32, { T, 2 })
  local h = expert_linear(x, param("mlp1.w", mxfp4, { 4, 128, 32 }), param("mlp1.b", f32, { 4, 128 }), ids, { name = "mlp1" })
  local s = swiglu(h, { name = "swiglu" })
  output(expert_linear(s, param("mlp2.w", mxfp4, { 4, 32, 64 }), param("mlp2.b", f32, { 4, 32 }), ids, { name = "mlp2" }))
end }
