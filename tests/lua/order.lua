-- What Lua leaves open is fixed: the order of pairs, names of tables; graphs come as step, sample, logits, then by name.
local seen = {}
for k, v in pairs { b = 1, a = 2, [2] = 3, [1] = 4, c = 5 } do seen[#seen + 1] = k .. "=" .. v end
assert(table.concat(seen, " ") == "1=4 2=3 a=2 b=1 c=5", table.concat(seen, " "))
assert(tostring({}) == "table" and ("%s %d"):format({}, 3) == "table 3" and tostring(T) == "T" and tostring(4 * T + 1) == "1+4*T")
assert(model == nil and options.max_batch == 8 and options.max_seq == nil)

local function graph() output(input("x", f32, { T })) end
return program { name = "order", logits = graph, zebra = graph, step = graph, apple = graph, sample = graph }
