-- SwiGLU behind the experts' first projection: gate and up of a pair are neighbouring rows of w, so one lane has both.
-- Writes [T,R,I] instead of [T,R,2I] and saves a launch and reading [T,R,2I] back.
return fusion {
  name     = "mlp1_swiglu",
  priority = 10, -- before swiglu_mlp2, the alternative for the same swiglu
  match    = function(x, w, b, ids) return swiglu(expert_linear(x, w, b, ids)) end,
  kernel   = "expert_linear",
}
