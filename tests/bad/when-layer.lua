-- run: --rules @ tests/lua/ops.lua
return fusion {
  name = "r",
  match = function(x, w) return linear(x, w) end,
  kernel = "linear",
  when = function(m) return m.layer < 12 end,
}
