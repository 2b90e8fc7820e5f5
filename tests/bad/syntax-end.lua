return program { name = "p", step = function()
