-- maybe(cast(x)) of a parameter takes the cast in front into the body: it is copied, since the other linear reads it too; the rule
-- stands for x, so fits in strict, where nothing is cast, as well. Where the graph's cast is another, x is what that gives.
-- run: precision fast
return program { name = "test", step = function()
  local x, w = input("x", f32, { T, 32 }), param("w", bf16, { 32, 32 })
  local b = cast(cast(x, { to = "bf16", name = "own" }), { to = "f32", name = "back" })
  output(scale(linear(x, w, { name = "l1" }), { by = 2.0, name = "s1" }))
  output(linear(x, w, { name = "l2" }))
  output(scale(linear(b, w, { name = "l3" }), { by = 2.0, name = "s3" }))
end }
--- rules
return fusion { name = "inside", kernel = "k", match = function(x, w) return scale(linear(maybe(cast(x, { to = "bf16" })), w)) end }
