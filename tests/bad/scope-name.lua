return program { name = "p", step = function()
  scope(1, function() end)
end }
