local m = require "require-self"
