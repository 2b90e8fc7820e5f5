-- The head over S rows; the QKV projection has a bias and is not meant.
-- run: rules lua/fusions/final_norm_unembed.lua precision fast
return program { name = "test", sample = function()
  local x = rows(input("hidden", f32, { T, 32 }), input("rows", i32, { S }), { name = "x" })
  local n = rmsnorm(x, param("norm", f32, { 32 }), { name = "n" })
  output(sample(linear(n, param("unembed", f32, { 96, 32 }), { name = "logits" }), { name = "ids" }))
end }
