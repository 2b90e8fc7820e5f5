-- run: --rules @
local function rule() return fusion { name = "r", match = function(x, w) return linear(x, w) end, kernel = "linear" } end
return { rule(), rule() }
