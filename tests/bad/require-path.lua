local m = require "../gpt_oss"
