/* lanes_base.c - the vector rows of isa.def compiled for any x86-64 or other host. See lanes.inc. */
#include "lanemath.h"
#define LANES_TABLE lanes_base
#include "lanes.inc"
