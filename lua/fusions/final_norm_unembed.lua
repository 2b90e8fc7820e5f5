-- The head: RMSNorm of the sampled rows inside the unembedding, as in rmsnorm_qkv. Saves a launch and the normed rows [S,H];
-- each step ends with it, so at small S the launch is what counts.
return fusion {
  name   = "final_norm_unembed",
  match  = function(x, g, w) return linear(rmsnorm(x, g), w) end,
  kernel = "linear",
}
