local obj
obj = setmetatable({}, { __close = function()
  local a <close> = obj
  local b <close> = obj
  while true do end
end })
local a <close> = obj
while true do end
