local s, t = ("x"):rep(1 << 10):rep(1000), {}
for i = 1, 2000 do t[i] = s .. i end
