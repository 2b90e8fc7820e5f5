/* nvtx.h - ranges for NVIDIA's profilers without their library. NVTX 3 is headers only, and CUDA 13 has no libnvToolsExt any more: what
 * these headers do is to load the library that NVTX_INJECTION64_PATH names, which nsys and ncu set, and to hand it tables of function
 * pointers to fill. That is done here, of the functions that name ranges. */
#ifndef GPTOSS_NVTX_H
#define GPTOSS_NVTX_H

#include "ir/base.h"

typedef int NvtxPush(const char *name);
typedef int NvtxPop(void);

/* Both NULL and true: NVTX_INJECTION64_PATH is not set, so no profiler is there. False with e set: it is, but cannot be had. The library
 * is asked once a process, from whatever thread, and stays loaded. */
bool nvtx_open(NvtxPush **push, NvtxPop **pop, Err *e);

#endif
