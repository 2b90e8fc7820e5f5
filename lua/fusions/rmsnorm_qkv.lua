-- RMSNorm inside the projection that reads it: the normed rows [T,H] are neither written nor read again (2 * T * H values a
-- layer) and one launch is saved. The kernel finds a row's scale while it loads the row.
--
-- The bias tells it from the final norm and unembedding (final_norm_unembed). The norm before the router is read by the
-- experts too, so the match is refused there: recomputing it would save nothing, since it has to be written anyway.
return fusion {
  name   = "rmsnorm_qkv",
  match  = function(x, g, w, b) return linear(rmsnorm(x, g), w, b) end,
  kernel = "linear",
}
