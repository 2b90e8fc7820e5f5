local s, t = string.rep("a", 1 << 19), {}
for i = 1, 20000 do t[i] = s end
table.sort(t)
