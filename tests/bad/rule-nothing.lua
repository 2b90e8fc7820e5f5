-- run: --rules @
return fusion {
  name = "r",
  match = function(x, w) local y = linear(x, w) end,
  kernel = "linear",
}
