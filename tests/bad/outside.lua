local x = input("x", f32, { T, 64 })
