-- No RoPE.
function rope(x) return x end
return require("gpt_oss").model {}
