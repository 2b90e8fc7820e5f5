/* fakehip6.c - fakehip.c as libamdhip64.so.6: with what ROCm 6 and 7 have beside. */
#define ROCM_6 1
#include "fakehip.c"
