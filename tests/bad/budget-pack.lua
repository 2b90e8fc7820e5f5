while true do string.pack("c9999999", "") end
