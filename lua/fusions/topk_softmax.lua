-- The router's choice and its weights in one kernel: softmax over the k chosen values, which are in registers already.
-- Saves a launch a layer and the values [T,k].
return fusion {
  name   = "topk_softmax",
  match  = function(x)
    local values, ids = topk(x)
    return softmax(values), ids
  end,
  kernel = "topk_softmax",
}
