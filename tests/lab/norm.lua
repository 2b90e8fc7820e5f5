-- RMSNorm with a kernel of its own, in the place of what the shipped rules make of it.
return fusion { name = "own_norm", priority = 50, match = function(x, g) return rmsnorm(x, g) end, kernel = "own_norm" }
