-- The sum over a token's experts behind their projection; the residual's is the chain behind it, outside the rule.
-- run: rules lua/fusions/mlp2_combine.lua precision fast
return program { name = "test", step = function()
  local s, p = input("s", f32, { T, 2, 64 }), input("p", f32, { T, 2 })
  local ids, x = input("ids", i32, { T, 2 }), input("x", f32, { T, 32 })
  local y = expert_linear(s, param("mlp2.w", mxfp4, { 4, 32, 64 }), param("mlp2.b", f32, { 4, 32 }), ids, { name = "mlp2" })
  output(name(x + combine(y, p, { name = "combine" }), "out"))
end }
