local n = 0
while true do
  n = n + #("x"):rep(1 << 20)
end
