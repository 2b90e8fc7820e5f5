-- RoPE without YaRN.
return require("gpt_oss").model { force = { rope_factor = 1.0 } }
