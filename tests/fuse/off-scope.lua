-- A rule that is off in a part of the graph is so for matches whose last op lies there; a rule of lower priority gets them.
-- run: hook linear off first@layer1..2.mlp off second@layer2 off all@layer.norm off elementwise@layer0
local function norm(x, g) return scale(rmsnorm(x, g, { name = "n" }), { by = 3.0, name = "s" }) end
local function mlp(x, w) return x + scale(linear(x, w, { name = "l" }), { by = 2.0, name = "s" }) end
local function layer(x, w, g) return scope("mlp", mlp, scope("norm", norm, x, g), w) end

return program { name = "test", step = function()
  local w, g = param("w", bf16, { 32, 32 }), param("g", f32, { 32 })
  local x = input("x", f32, { T, 32 })
  for i = 0, 3 do x = scope("layer", i, layer, x, w, g) end
  output(x)
end }
--- rules
return {
  fusion { name = "first", kernel = "linear", priority = 1, match = function(x, w) return scale(linear(x, w)) end },
  fusion { name = "second", kernel = "linear", match = function(x, w) return scale(linear(x, w)) end },
  fusion { name = "third", kernel = "rmsnorm", match = function(x, g) return scale(rmsnorm(x, g)) end },
}
