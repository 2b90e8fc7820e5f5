local gpt_oss = require "gpt_oss"

return gpt_oss.model {
  vocab = 512, hidden = 64, layers = 2,
}
