-- tiny: the small model in models/tiny, trained to do sums, sort, copy, remember and answer (tools/tiny, bench/tiny.md).
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "tiny",
  vocab = 768, hidden = 128, layers = 4,
  heads = 8, kv_heads = 2, head_dim = 32,
  experts = 8, topk = 2, intermediate = 128,
  window = 32, max_seq = 1024,
  original_context = 256, rope_theta = 10000.0, rope_factor = 4.0,
  eos = { 760, 759 }, -- its <|return|> and <|endoftext|>
}
