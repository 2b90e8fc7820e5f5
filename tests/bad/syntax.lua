return program {
  name = "p",
  step = function() local x = = 3 end,
}
