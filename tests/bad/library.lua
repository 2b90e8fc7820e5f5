local s = string.rep(3)
local t = ("x"):rep(-1, {})
