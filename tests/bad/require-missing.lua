local m = require "gpt_os"
