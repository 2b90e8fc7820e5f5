return program { name = "p", step = function()
  param("w", f32, { 64, 48 })
  param("w", bf16, { 64, 48 })
end }
