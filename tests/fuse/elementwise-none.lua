-- No chain: the op widens a row to the shape of its other operand; the result is a state.
-- run: hook scale hook kv_write
return program { name = "test", step = function()
  local x = input("x", f32, { T, 16 })
  output(add(x, scale(param("row", f32, { 16 }), { by = 2.0, name = "row2" }), { name = "sum" }))
  local kv = kv_write(state("kv", f32, { P, 2, 1, 4, 16 }), x, x, input("slot", i32, { T }), input("pos", i32, { T }), input("blocks", i32, { 4, 8 }), { name = "kv.next" })
  output(scale(kv, { by = 2.0, name = "odd" }))
end }
