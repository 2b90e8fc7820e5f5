-- A rule that needs a value and its rounding: maybe(cast(n)). In fast the graph has the cast and both are results, in strict
-- (cast-both-strict) just the value. Where the cast is read inside and not returned, it is matched as if it were not written.
-- run: precision fast
local function twice(x, g, w, out)
  local n = rmsnorm(x, g, { name = "n" })
  local l = linear(n, w, { name = "l" })
  output(name(n + x, "sum"))
  return out and name(scale(l, { by = 0.5 }), "half") or linear(n, w, { name = "again" })
end

return program { name = "test", step = function()
  local x, g, w = input("x", f32, { T, 32 }), param("g", f32, { 32 }), param("w", bf16, { 32, 32 })
  output(scope("returned", twice, x, g, w))
  output(scope("inside", twice, x, g, w, true))
  output(linear(scale(x, { by = 3.0, name = "s" }), w, { name = "alone" }))
end }
--- rules
return {
  fusion { name = "both", priority = 1, kernel = "k", when = function(m) return m.scope == "returned" end,
    match = function(x, g, w)
      local n = rmsnorm(x, g)
      return linear(n, w), n, maybe(cast(n, { to = "bf16" }))
    end },
  fusion { name = "read", kernel = "k", when = function(m) return m.scope == "inside" end,
    match = function(x, g, w)
      local n = rmsnorm(x, g)
      return scale(linear(maybe(cast(n, { to = "bf16" })), w)), n
    end },
  fusion { name = "only", kernel = "k", when = function(m) return m.scope == "" end,
    match = function(x) return maybe(cast(scale(x), { to = "bf16" })) end },
  fusion { name = "other", kernel = "k", match = function(x, w) return linear(maybe(cast(swiglu(x), { to = "bf16" })), w) end },
}
