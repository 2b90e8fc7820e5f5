return program { name = "p", step = function()
  output(3)
end }
