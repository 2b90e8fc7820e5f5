-- One expert a token where there should be two.
return require("gpt_oss").model { force = { topk = 1 } }
