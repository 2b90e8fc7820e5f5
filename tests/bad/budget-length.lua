local t = setmetatable({}, { __len = function() return 1 << 53 end })
table.insert(t, 1, 5)
