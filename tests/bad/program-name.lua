return program { step = function() end }
