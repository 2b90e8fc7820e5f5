-- Two layers of the toy: one with a window, one without.
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "small",
  vocab = 512, hidden = 64, layers = 2,
  heads = 4, kv_heads = 2, head_dim = 16,
  experts = 4, topk = 2, intermediate = 64,
  window = 16, original_context = 64, max_seq = 256,
  eos = { 504, 503 },
}
