local c = {}
c.build()
