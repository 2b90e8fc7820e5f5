local d = T
for i = 1, 4 do d = d * 1048576 end
