return fusion { name = ("r"):rep(501), match = function(x, g) return rmsnorm(x, g) end }
