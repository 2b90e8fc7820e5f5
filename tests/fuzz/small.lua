-- The least model that has all that a plan may have: a layer of attention, no experts. For the seeds of fuzz_plan and fuzz_run, which
-- are tried the oftener the shorter they are.
local c = model

local function head()
  local x = rows(input("hidden", f32, { T, c.hidden }), input("rows", i32, { S }), { name = "x" })
  return linear(x, param("unembed", c.dense, { c.vocab, c.hidden }), { name = "logits" })
end

return program {
  name = "small",
  config = c,
  step = function()
    local last, blocks = state("last", i32, { options.max_batch }), input("blocks.full", i32, { options.max_batch, (c.max_seq + 63) // 64 })
    local slot, pos = input("slot", i32, { T }), input("pos", i32, { T })
    local x = embed(tokens(input("src", i32, { T }), last), param("embed", c.dense, { c.vocab, c.hidden }))
    output(name(scope("layer", 0, function()
      return scope("attn", function()
        local q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
        local qkv = linear(rmsnorm(x, param("norm", f32, { c.hidden })), param("qkv.w", c.dense, { q_width + 2 * kv_width, c.hidden }))
        local k, v = slice(qkv, { offset = q_width, width = kv_width }), slice(qkv, { offset = q_width + kv_width, width = kv_width })
        local kv = kv_write(state("kv", f32, { P, 2, c.kv_heads, 64, c.head_dim }), k, v, slot, pos, blocks)
        local a = attention(slice(qkv, { offset = 0, width = q_width }), kv, param("sinks", f32, { c.heads }), slot, pos, blocks)
        return x + linear(a, param("o.w", c.dense, { c.hidden, q_width }))
      end)
    end), "hidden"))
  end,
  sample = function()
    local ids, last = sample(head(), input("sampling", i32, { S, 8 }), { name = "ids" }), state("last", i32, { options.max_batch })
    output(ids)
    output(set_last(last, ids, input("sample_slot", i32, { S }), { name = "last.next" }))
  end,
  logits = function() output(head()) end,
}
