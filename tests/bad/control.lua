error("a\27[2Jb\127")
