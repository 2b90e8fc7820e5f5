return program { name = "p", step = function() program { name = "q" } end }
