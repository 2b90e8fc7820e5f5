-- The window is ignored: every layer sees everything.
return require("gpt_oss").model { force = { sliding = { false, false, false, false } } }
