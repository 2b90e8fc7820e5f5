while true do string.pack("c999999", "") end
