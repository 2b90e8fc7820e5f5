return program { name = "p", step = function()
  local last, ids, slot = state("last", i32, { 8 }), input("ids", i32, { S }), input("slot", i32, { S })
  output(set_last(last, ids, slot))
  output(tokens(ids, last))
end }
