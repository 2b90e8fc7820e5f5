return program { name = "p", step = function()
  local last, ids, slot = input("last", i32, { 8 }), input("ids", i32, { S }), input("slot", i32, { S })
  output(set_last(last, ids, slot))
end }
