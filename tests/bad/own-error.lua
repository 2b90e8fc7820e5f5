local function positive(n)
  if n < 1 then error("expects a positive number", 2) end
end
positive(0)
