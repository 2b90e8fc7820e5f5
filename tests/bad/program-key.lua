return program { name = "p", step = 3 }
