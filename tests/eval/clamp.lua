-- Gates and ups are not clamped.
return require("gpt_oss").model { force = { swiglu_limit = 1e9 } }
