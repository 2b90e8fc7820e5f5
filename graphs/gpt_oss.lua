-- gpt_oss.lua - the gpt-oss models as graphs. This is the file to edit when the model is to compute something else.
--
-- Run directly it takes everything from a checkpoint (--model). gpt-oss-20b.lua, gpt-oss-120b.lua and tiny.lua give the
-- numbers themselves: gpt_oss.model { layers = 24, … }; with --model the checkpoint's win, except those in `force`.
-- Weights have the canonical names of model/model.h: param("qkv.w", …) in scope layer 7 / attn is layer7.attn.qkv.w.
-- Symbols: T tokens of a step, S rows to sample, P pages of the KV pool.

local M = {}

local PAGE = 64 -- tokens of a KV page

-- x + attention(norm(x)). kv: this layer's cache. window: how many tokens a query sees, 0 for all.
local function attention_block(c, x, kv, io, window)
  local q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local qkv_width = q_width + 2 * kv_width
  local blocks = window > 0 and io.blocks_window or io.blocks_full

  local n = rmsnorm(x, param("norm", f32, { c.hidden }), { eps = c.rms_eps, name = "n" })
  local qkv = linear(n, param("qkv.w", c.dense, { qkv_width, c.hidden }), param("qkv.b", f32, { qkv_width }), { name = "qkv" })
  local q = slice(qkv, { offset = 0, width = q_width, name = "q" })
  local k = slice(qkv, { offset = q_width, width = kv_width, name = "k" })
  local v = slice(qkv, { offset = q_width + kv_width, width = kv_width, name = "v" })

  q = rope(q, io.pos, io.rope, { head_dim = c.head_dim, name = "q.rope" })
  k = rope(k, io.pos, io.rope, { head_dim = c.head_dim, name = "k.rope" })
  kv = kv_write(kv, k, v, io.slot, io.pos, blocks, { name = "kv" })
  local a = attention(q, kv, param("sinks", f32, { c.heads }), io.slot, io.pos, blocks, { window = window, name = "heads" })

  local o = linear(a, param("o.w", c.dense, { c.hidden, q_width }), param("o.b", f32, { c.hidden }), { name = "o" })
  return name(x + o, "out")
end

-- x + the weighted sum of the best experts' MLPs of norm(x).
local function mlp_block(c, x)
  local E, H, I = c.experts, c.hidden, c.intermediate

  local n = rmsnorm(x, param("norm", f32, { H }), { eps = c.rms_eps, name = "n" })
  local r = linear(n, param("router.w", c.dense, { E, H }), param("router.b", f32, { E }), { name = "router" })
  local best, ids = topk(r, { k = c.topk, name = "best" })
  name(ids, "ids")
  local p = softmax(best, { name = "p" })

  local h = expert_linear(n, param("mlp1.w", c.experts_dtype, { E, 2 * I, H }), param("mlp1.b", f32, { E, 2 * I }), ids, { name = "mlp1" })
  local s = swiglu(h, { limit = c.swiglu_limit, name = "swiglu" })
  local y = expert_linear(s, param("mlp2.w", c.experts_dtype, { E, H, I }), param("mlp2.b", f32, { E, H }), ids, { name = "mlp2" })
  return name(x + combine(y, p, { name = "combine" }), "out")
end

local function layer(c, x, io, sliding)
  local kv = state("kv", f32, { P, 2, c.kv_heads, PAGE, c.head_dim })
  x = scope("attn", attention_block, c, x, kv, io, sliding and c.window or 0)
  return scope("mlp", mlp_block, c, x)
end

-- Block tables: which page of the pool holds tokens 64 i … 64 i + 63 of a slot's sequence. Layers with a window give
-- their old pages back, so they have a table of their own.
local function block_table(c, kind, wanted)
  for i = 1, c.layers do
    if c.sliding[i] == wanted then return input(kind, i32, { options.max_batch, (c.max_seq + PAGE - 1) // PAGE }) end
  end
end

-- T tokens of any mix of requests -> the residual stream after the last layer.
local function step(c)
  local io = {
    src = input("src", i32, { T }), -- a token id, or -1 - s: what slot s sampled last
    slot = input("slot", i32, { T }),
    pos = input("pos", i32, { T }),
    rope = input("rope", f32, { c.max_seq, c.head_dim // 2, 2 }), -- cos and sin by position
    blocks_full = block_table(c, "blocks.full", false),
    blocks_window = block_table(c, "blocks.window", true),
  }
  local last = state("last", i32, { options.max_batch })

  local ids = tokens(io.src, last, { name = "ids" })
  local x = embed(ids, param("embed", c.dense, { c.vocab, c.hidden }), { name = "x" })
  for i = 1, c.layers do x = scope("layer", i - 1, layer, c, x, io, c.sliding[i]) end
  output(name(x, "hidden"))
end

-- The logits of S of the step's rows.
local function head(c)
  local hidden = input("hidden", f32, { T, c.hidden })
  local x = rows(hidden, input("rows", i32, { S }), { name = "x" })
  local n = rmsnorm(x, param("norm", f32, { c.hidden }), { eps = c.rms_eps, name = "n" })
  return linear(n, param("unembed", c.dense, { c.vocab, c.hidden }), { name = "logits" })
end

local function sample_tokens(c)
  local ids = sample(head(c), input("sampling", i32, { S, 8 }), { name = "ids" }) -- how each row is drawn: ops.def, sample
  local last = state("last", i32, { options.max_batch })
  output(ids)
  output(set_last(last, ids, input("sample_slot", i32, { S }), { name = "last.next" }))
end

-- The numbers a configuration need not give.
local defaults = {
  name = "gpt-oss",
  window = 128, max_seq = 131072,
  original_context = 4096, rope_theta = 150000.0, rope_factor = 32.0, rope_beta_fast = 32.0, rope_beta_slow = 1.0, rope_truncate = false,
  swiglu_limit = 7.0, rms_eps = 1e-5,
  dense = bf16, experts_dtype = mxfp4,
  eos = { 200002, 199999 },
}
local required = { "vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "experts", "topk", "intermediate" }

-- What every kernel takes for granted.
local limits = {
  { "'head_dim' must be a multiple of 16 from 16 to 128", function(c) return c.head_dim % 16 == 0 and c.head_dim >= 16 and c.head_dim <= 128 end },
  { "'hidden' must be a multiple of 32", function(c) return c.hidden % 32 == 0 end },
  { "'intermediate' must be a multiple of 32", function(c) return c.intermediate % 32 == 0 end },
  { "'topk' must be 1 to 8 and no more than experts", function(c) return c.topk >= 1 and c.topk <= 8 and c.topk <= c.experts end },
  { "'heads' must be a multiple of kv_heads", function(c) return c.heads % c.kv_heads == 0 end },
  { "'window' must be 0 (none) or more", function(c) return c.window >= 0 end },
  { "'layers' must be at least 1", function(c) return c.layers >= 1 end },
}

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function text(v)
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for i, e in ipairs(v) do parts[i] = tostring(e) end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- given: a configuration's table. The checkpoint's numbers replace its own, and `force` replaces both.
-- Errors are shown at the call of M.model (level 3).
local function configure(given)
  local c, force, known = {}, given.force or {}, { sliding = true }
  for _, k in ipairs(required) do known[k] = true end
  for k, v in pairs(defaults) do c[k], known[k] = v, true end
  local function take(from)
    for k, v in pairs(from) do
      if not known[k] and k ~= "force" then error("a configuration has no '" .. tostring(k) .. "'", 4) end
      local kind = k == "sliding" and "table" or type(defaults[k] or 0)
      if k ~= "force" and type(v) ~= kind and k ~= "rope_truncate" then error("'" .. k .. "' is a " .. type(v) .. ", must be a " .. kind, 4) end
      c[k] = v
    end
  end

  take(given)
  for k, v in pairs(model or {}) do
    if given[k] ~= nil and force[k] == nil and not same(given[k], v) then
      note(k .. " " .. text(given[k]) .. " -> " .. text(v) .. " from the checkpoint")
    end
    c[k] = v
  end
  take(force)
  c.force = nil

  for _, k in ipairs(required) do
    if c[k] == nil then error("the configuration does not give '" .. k .. "'", 3) end
  end
  for _, limit in ipairs(limits) do
    if not limit[2](c) then error(limit[1], 3) end
  end
  if model and c.layers > model.layers then
    error("'layers' is " .. c.layers .. ", the checkpoint has " .. model.layers, 3)
  end
  for _, own in ipairs { { given, given.layers or c.layers }, { force, c.layers } } do
    local list, layers = own[1].sliding, own[2]
    if list and #list ~= layers then
      error("'sliding' has " .. #list .. " entries, must say true or false for each of the " .. layers .. " layers", 3)
    end
  end
  local sliding = c.sliding
  c.sliding = {}
  for i = 1, c.layers do -- layers 0, 2, 4 … slide, unless it is said
    if sliding then c.sliding[i] = sliding[i] else c.sliding[i] = i % 2 == 1 end
    if type(c.sliding[i]) ~= "boolean" then error("'sliding' is " .. tostring(c.sliding[i]) .. " for layer " .. i - 1 .. ", must be true or false", 3) end
  end
  if c.window == 0 then
    for i = 1, c.layers do c.sliding[i] = false end
  end
  if options.max_seq then
    if options.max_seq > c.max_seq then error("--max-seq " .. options.max_seq .. " is more than the model's " .. c.max_seq, 3) end
    c.max_seq = options.max_seq
  end
  return setmetatable(c, { __index = function(_, k) error("the configuration has no '" .. tostring(k) .. "'", 2) end })
end

function M.model(given)
  local c = configure(given)
  return program {
    name = c.name,
    config = c,
    step = function() step(c) end,
    sample = function() sample_tokens(c) end,
    logits = function() output(head(c)) end,
  }
end

-- When this file itself is compiled.
function M.main()
  if not model then error("the numbers come from a checkpoint: give --model, or compile gpt-oss-20b.lua, gpt-oss-120b.lua or tiny.lua") end
  return M.model {}
end

return M
