-- In a scope; the message shows where.
local function attention(x)
  local w = param("w", bf16, { 96, 2944 })
  local q = linear(x, w)
  return q
end
return program { name = "p", step = function()
  local x = input("x", f32, { T, 2880 })
  for i = 0, 7 do
    if i == 7 then scope("layer", i, function() return scope("attn", attention, x) end) end
  end
end }
