assert(false, "layers must be even")
