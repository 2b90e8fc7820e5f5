-- toy: a model of the same form for tests and for the emulator; its weights are random (gptoss-mkmodel tests/models/tiny.json).
-- Short windows and contexts, so that a hundred tokens pass the window and reach YaRN's stretched part. Its vocabulary is that
-- of gptoss-mkmodel's byte-level tokenizer.
local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  name = "toy",
  vocab = 512, hidden = 64, layers = 4,
  heads = 4, kv_heads = 2, head_dim = 16,
  experts = 4, topk = 2, intermediate = 64,
  window = 16, original_context = 64, max_seq = 1024,
  eos = { 504, 503 }, -- its <|return|> and <|endoftext|>
}
