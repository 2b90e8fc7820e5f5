-- All that makes q, k and v of a token, in one launch: RMSNorm in front of the projection; behind it RoPE, of the two halves of each
-- head, and the KV write. Saves nine launches a layer, and qkv, q, k and v in memory.
return fusion {
  name     = "qkv_rope_kv",
  priority = 10, -- before rmsnorm_qkv, which is a part of it
  match    = function(x, g, w, b, pos, table, kv, slot, blocks)
    local qkv = linear(rmsnorm(x, g), w, maybe(b))
    local q, k, v = rope(slice(qkv), pos, table), rope(slice(qkv), pos, table), slice(qkv)
    return q, kv_write(kv, k, v, slot, pos, blocks)
  end,
  kernel   = "linear",
}
