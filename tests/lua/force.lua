-- force wins over the checkpoint.
-- run: --model small @
-- only: note|attention|program
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "forced", vocab = 512, hidden = 96, layers = 2, heads = 4, kv_heads = 2, head_dim = 16, experts = 4, topk = 2, intermediate = 64,
  window = 16, force = { window = 8 },
}
