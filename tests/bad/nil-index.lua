local c = {}
local d = c.layers.count
