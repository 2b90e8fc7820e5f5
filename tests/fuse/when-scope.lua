-- when(m) sees where the match lies, that is where its last op lies: m.scope, m.layer (nil outside of every layer).
-- run: log
local function mlp(x, w) return x + scale(linear(x, w, { name = "l" }), { by = 2.0, name = "s" }) end
local function layer(x, w) return scope("mlp", mlp, x, w) end

return program { name = "test", step = function()
  local w = param("w", bf16, { 32, 32 })
  local x = input("x", f32, { T, 32 })
  for i = 0, 3 do x = scope("layer", i, layer, x, w) end
  output(scale(linear(rmsnorm(x, param("g", f32, { 32 }), { name = "n" }), w, { name = "l" }), { by = 2.0, name = "s" }))
end }
--- rules
return {
  fusion { name = "first", kernel = "k", match = function(x, w) return scale(linear(x, w)) end,
    when = function(m) return m.layer ~= nil and m.layer <= 1 and m.scope == "layer" .. m.layer .. ".mlp" end },
  fusion { name = "second", kernel = "k", match = function(x, w) return scale(linear(x, w)) end, when = function(m) return m.layer == 2 end },
  fusion { name = "outside", kernel = "k", match = function(x, w) return scale(linear(x, w)) end,
    when = function(m) return m.layer == nil and m.scope == "" end },
}
