-- As refused-state-order, by way of a fused node: what the second pair reads comes from the first, whose update waits for
-- attention, which reads the second pair's own result.
return program { name = "test", step = function()
  local slot, pos, blocks = input("slot", i32, { T }), input("pos", i32, { T }), input("blocks", i32, { 4, 8 })
  local x, kv = input("x", f32, { T, 16 }), state("kv", f32, { P, 2, 1, 4, 16 })
  local q = softmax(x, { name = "q" })
  local a = attention(q, kv, param("sinks", f32, { 1 }), slot, pos, blocks, { name = "a" })
  local s = scale(x, { by = 2.0, name = "s" })
  output(kv_write(kv, s, x, slot, pos, blocks, { name = "next" }))
  output(a)
  output(mul(q, s, { name = "p" }))
end }
--- rules
return {
  fusion { name = "scale_write", kernel = "k", match = function(x, kv, v, slot, pos, blocks)
    local k = scale(x)
    return kv_write(kv, k, v, slot, pos, blocks), k
  end },
  fusion { name = "softmax_mul", kernel = "k", match = function(x, y)
    local q = softmax(x)
    return q * y, q
  end },
}
