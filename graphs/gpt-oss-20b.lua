-- gpt-oss-20b: 21 billion weights, 3.6 billion of them read for a token.
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "gpt-oss-20b",
  vocab = 201088, hidden = 2880, layers = 24,
  heads = 64, kv_heads = 8, head_dim = 64,
  experts = 32, topk = 4, intermediate = 2880,
}
