-- run: --rules @
return fusion {
  name = "r",
  kernel = "linear",
}
