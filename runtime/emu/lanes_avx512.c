/* lanes_avx512.c - the vector rows of isa.def compiled for AVX512. See lanes.inc. */
#include "lanemath.h"
#if defined __x86_64__
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt")
#define LANES_TABLE lanes_avx512
#include "lanes.inc"
#else
Lane *const lanes_avx512[1];
#endif
