local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  vocab = 512, hidden = 64, layers = 2, heads = 4, kv_heads = 2, head_dim = 16, experts = 4, topk = 2, intermediate = 64,
  widnow = 64,
}
