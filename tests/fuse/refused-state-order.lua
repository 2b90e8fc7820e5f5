-- The fused node would update the cache before attention has read what was there, on which it depends.
return program { name = "test", step = function()
  local slot, pos, blocks = input("slot", i32, { T }), input("pos", i32, { T }), input("blocks", i32, { 4, 8 })
  local kv = state("kv", f32, { P, 2, 1, 4, 16 })
  local s = scale(input("x", f32, { T, 16 }), { by = 2.0, name = "s" })
  local a = attention(s, kv, param("sinks", f32, { 1 }), slot, pos, blocks, { name = "a" })
  output(kv_write(kv, s, a, slot, pos, blocks, { name = "next" }))
end }
--- rules
return fusion { name = "scale_write", kernel = "k", match = function(x, kv, v, slot, pos, blocks)
  local k = scale(x)
  return kv_write(kv, k, v, slot, pos, blocks), k
end }
