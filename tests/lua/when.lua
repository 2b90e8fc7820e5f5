-- front_tool binds x, w, b to ops.lua's values of these names and matches all its nodes.
-- run: --rules @ tests/lua/ops.lua
local function rule(name, when) return fusion { name = name, match = function(x, w, c) return linear(x, w, maybe(c)) end, when = when, kernel = "linear" } end
return {
  rule("none"),
  rule("shape", function(m) return m.w.shape[2] % 16 == 0 and m.w.shape[1] == 128 and #m.x.shape == 2 end),
  rule("dtype", function(m) return m.w.dtype == f32 end),
  rule("name", function(m) return m.x.name == "x" end),
  rule("absent", function(m) return m.c == nil end),
  rule("attr", function(m) return m.attr.slice.width == 64 and m.attr.slice[2].width == 32 and m.attr.rope.head_dim == 16 end),
}
