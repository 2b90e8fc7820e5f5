-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w)
    local y = swiglu(x)
    return linear(x, w)
  end,
  kernel = "linear",
}
