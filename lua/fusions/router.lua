-- RMSNorm, the router's projection, the choice of experts and its softmax in one launch, a block a token; the normed row is stored for
-- the experts on the way (in fast as bf16: the cast is the chain behind it). Saves four launches a layer.
return fusion {
  name     = "router",
  priority = 10, -- before topk_softmax, which is a part of it
  match    = function(x, g, w, b)
    local n = rmsnorm(x, g)
    local values, ids = topk(linear(n, w, maybe(b)))
    return n, softmax(values), ids
  end,
  kernel   = "router",
}
