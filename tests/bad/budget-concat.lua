local s = table.concat({}, "", -(1 << 40), 0)
