-- Three results: the normed rows, which the experts read too, the weights and the ids. Also without a bias.
-- run: rules lua/fusions/router.lua precision fast
return program { name = "test", step = function()
  local x = input("x", f32, { T, 32 })
  for i = 1, 2 do
    local n = rmsnorm(x, param("g" .. i, f32, { 32 }), { name = "n" .. i })
    local r = linear(n, param("router.w" .. i, bf16, { 4, 32 }), i == 1 and param("router.b", f32, { 4 }) or nil, { name = "r" .. i })
    local best, ids = topk(r, { k = 2, name = "best" .. i })
    output(softmax(best, { name = "p" .. i }))
    output(expert_linear(n, param("w" .. i, mxfp4, { 4, 128, 32 }), param("b" .. i, f32, { 4, 128 }), ids, { name = "h" .. i }))
  end
end }
