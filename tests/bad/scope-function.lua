return program { name = "p", step = function()
  scope("layer", 3)
end }
