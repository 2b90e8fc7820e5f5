local s = table.concat(setmetatable({}, { __index = rawlen }), "", 1, 1 << 40)
