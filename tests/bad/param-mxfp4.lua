return program { name = "p", step = function()
  param("w", mxfp4, { 64, 48 })
end }
