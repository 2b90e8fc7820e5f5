-- The alternative to mlp1_swiglu: SwiGLU as the experts' second projection loads its input. Saves a launch, but the input
-- [T,R,2I] is twice as wide and each block of output columns computes SwiGLU again; it pays where few blocks share a row.
-- Takes effect with --no-fusion mlp1_swiglu --no-fusion mlp2_combine.
return fusion {
  name   = "swiglu_mlp2",
  match  = function(h, w, b, ids) return expert_linear(swiglu(h), w, b, ids) end,
  kernel = "expert_linear",
}
