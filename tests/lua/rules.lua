-- run: --rules @
return {
  fusion {
    name     = "all_of_it",
    priority = -3,
    match    = function(x, g, w, b)
      local n = recompute(rmsnorm(x, g))
      local y = linear(n, w, maybe(b)) + x
      return y * 2, n
    end,
    when     = function(m) return true end,
    kernel   = { { T = 8, "few" }, { T = 64, "some" }, { "many" } },
  },
  fusion { name = "one", match = function(x) return slice(x, { offset = 0 }) end, kernel = "slice" },
}
