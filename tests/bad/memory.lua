local s, t = ("x"):rep(1 << 10):rep(1 << 13), {}
for i = 1, 200 do t[i] = s .. i end
