-- It goes before rmsnorm_qkv, which is a part of it; the state goes in and out, the casts go along.
-- run: rules lua/fusions/qkv_rope_kv.lua rules lua/fusions/rmsnorm_qkv.lua precision fast kv16
return program { name = "test", step = function()
  local x, pos, slot = input("x", f32, { T, 32 }), input("pos", i32, { T }), input("slot", i32, { T })
  local blocks, table = input("blocks", i32, { 4, 8 }), input("rope", f32, { 32, 8, 2 })
  local kv = state("kv", f32, { P, 2, 1, 4, 16 })
  local n = rmsnorm(x, param("g", f32, { 32 }), { name = "n" })
  local qkv = linear(n, param("w", bf16, { 64, 32 }), param("b", f32, { 64 }), { name = "qkv" })
  local q = rope(slice(qkv, { offset = 0, width = 32, name = "q" }), pos, table, { head_dim = 16, name = "q.rope" })
  local k = rope(slice(qkv, { offset = 32, width = 16, name = "k" }), pos, table, { head_dim = 16, name = "k.rope" })
  local v = slice(qkv, { offset = 48, width = 16, name = "v" })
  kv = kv_write(kv, k, v, slot, pos, blocks, { name = "kv.next" })
  output(attention(q, kv, param("sinks", f32, { 2 }), slot, pos, blocks, { window = 4, name = "a" }))
end }
