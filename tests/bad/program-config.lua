return program { name = "p", config = { vocab = 3 }, step = function() end }
