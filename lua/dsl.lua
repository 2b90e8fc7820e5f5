-- dsl.lua - small things every graph file and rule may use; loaded before them. The ops and program, input, param, state,
-- output, name, scope, fusion, maybe, recompute, note, require come from compiler/front_*.c.
-- Errors in here are shown at the line that called in.

local next, type, sort, rawtostring, format, unpack = next, type, table.sort, tostring, string.format, table.unpack
_G.next = nil

-- Plain tables have no order in Lua; a graph must not depend on it. Numbers come first, then text.
function pairs(t)
  local keys, i = {}, 0
  for k in next, t do keys[#keys + 1] = k end
  sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  return function()
    i = i + 1
    if keys[i] ~= nil then return keys[i], t[keys[i]] end
  end
end

-- Without the addresses that Lua shows for tables and functions.
function tostring(v)
  local kind = type(v)
  if kind == "table" or kind == "function" then return kind end
  return rawtostring(v)
end

function string.format(form, ...)
  if form:find("%%%d*p") then error("string.format: %p is not available", 2) end
  local args = { ... }
  for i = 1, select("#", ...) do
    if type(args[i]) == "table" or type(args[i]) == "function" then args[i] = type(args[i]) end
  end
  return format(form, unpack(args, 1, select("#", ...)))
end
