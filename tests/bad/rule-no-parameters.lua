-- run: --rules @
return fusion {
  name = "r",
  match = function() return 3 end,
  kernel = "linear",
}
