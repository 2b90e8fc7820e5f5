-- The router upside down: the worst experts.
local op = topk
function topk(x, ...) return op(x * -1.0, ...) end
return require("gpt_oss").model {}
