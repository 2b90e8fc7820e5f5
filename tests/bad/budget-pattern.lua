local s = ("a"):rep(200)
local at = s:find((".-"):rep(30) .. "b")
