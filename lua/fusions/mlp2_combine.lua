-- The weighted sum over a token's experts behind their second projection: for one token a block has the same rows of all its experts,
-- so [T,R,H] is never written; for more it is a launch of its own. The residual's sum comes along as the chain behind it.
return fusion {
  name   = "mlp2_combine",
  match  = function(s, w, b, ids, p) return combine(expert_linear(s, w, b, ids), p) end,
  kernel = "expert_linear",
}
