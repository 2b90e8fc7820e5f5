/* lanes_avx2.c - the vector rows of isa.def compiled for AVX2. See lanes.inc. */
#include "lanemath.h"
#if defined __x86_64__
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt")
#define LANES_TABLE lanes_avx2
#include "lanes.inc"
#else
Lane *const lanes_avx2[1];
#endif
