-- A graph file may be a module; its main makes the program.
local M = {}
function M.main() return program { name = "module", step = function() output(input("x", f32, { T })) end } end
return M
