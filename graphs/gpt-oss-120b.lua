-- gpt-oss-120b: the 20b model with more layers and four times the experts.
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "gpt-oss-120b",
  vocab = 201088, hidden = 2880, layers = 36,
  heads = 64, kv_heads = 8, head_dim = 64,
  experts = 128, topk = 4, intermediate = 2880,
}
