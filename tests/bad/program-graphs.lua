return program { name = "p" }
