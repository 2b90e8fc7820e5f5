/* fakecuda.c - a CUDA driver for tests: libcuda.so.1 with no GPU. Compiled against cuda.h, so that prototypes and the structs that
 * dev_cuda.c declares itself are held against the real ones. Copies happen at once; kernels do nothing: what is tested is how they
 * are launched. At exit FAKECUDA_LOG gets a line per kind of launch and its count. FAKECUDA_VERSION: the driver's (13000). */
#include <cuda.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Names that a newer cuda.h maps to newer ones. */
#undef cuEventElapsedTime
#undef cuStreamEndCapture
#undef cuEventRecord

static int plain, early, early_in_graph, replays, attribute, capturing, wrong;

static void check(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "fakecuda: WRONG: %s\n", what);
    wrong = 1;
}

__attribute__((destructor)) static void at_exit(void) {
    FILE *f = getenv("FAKECUDA_LOG") ? fopen(getenv("FAKECUDA_LOG"), "w") : NULL;
    if (!f) return;
    fprintf(f, "plain %d\nearly %d\nearly_in_graph %d\nreplays %d\nshared %d\nwrong %d\n", plain, early, early_in_graph,
            replays, attribute, wrong);
    fclose(f);
}

CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *n) { return *n = 1, CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *v) {
    return *v = getenv("FAKECUDA_VERSION") ? atoi(getenv("FAKECUDA_VERSION")) : 13000, CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int n, CUdevice d) {
    return snprintf(name, (size_t)n, "Fake H100 %d", d), CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *id, int n, CUdevice d) {
    return snprintf(id, (size_t)n, "0000:D%d:00.0", d), CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) {
    (void)d;
    return *v = a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : 0, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) { return (void)d, *c = (CUcontext)&plain, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease(CUdevice d) { return (void)d, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext c) { return (void)c, CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult e, const char **name) { return (void)e, *name = "CUDA_ERROR_FAKE", CUDA_SUCCESS; }

CUresult cuMemGetInfo(size_t *free, size_t *total) { return *free = *total = (size_t)1 << 30, CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr *p, size_t n) {
    return (*p = (CUdeviceptr)calloc(n, 1)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFree(CUdeviceptr p) { return free((void *)p), CUDA_SUCCESS; }
CUresult cuMemHostAlloc(void **p, size_t n, unsigned flags) { return (void)flags, *p = malloc(n), CUDA_SUCCESS; }
CUresult cuMemFreeHost(void *p) { return free(p), CUDA_SUCCESS; }
CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream s) {
    return (void)s, memcpy((void *)dst, src, n), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream s) {
    return (void)s, memcpy(dst, (void *)src, n), CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char byte, size_t n, CUstream s) {
    return (void)s, memset((void *)p, byte, n), CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *s, unsigned flags) { return (void)flags, *s = malloc(1), CUDA_SUCCESS; }
CUresult cuStreamDestroy(CUstream s) { return free(s), CUDA_SUCCESS; }
CUresult cuStreamQuery(CUstream s) { return (void)s, CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *v, unsigned flags) { return (void)flags, *v = calloc(1, sizeof(double)), CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent v) { return free(v), CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent v, CUstream s) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (void)s, *(double *)v = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec, CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent v) { return (void)v, CUDA_SUCCESS; }
CUresult cuEventElapsedTime(float *ms, CUevent a, CUevent b) {
    return *ms = (float)((*(double *)b - *(double *)a) * 1e3), CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *m, const void *image) { return (void)image, *m = malloc(1), CUDA_SUCCESS; }
CUresult cuModuleUnload(CUmodule m) { return free(m), CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
    return (void)m, *f = (CUfunction)name, CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
    (void)f;
    check(a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, "another attribute of a function");
    return v > 227 << 10 ? CUDA_ERROR_INVALID_VALUE : (attribute = v, CUDA_SUCCESS);
}
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream s, void **params, void **extra) {
    (void)f, (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)s;
    check(params && !extra, "not by params");
    return plain++, CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
    (void)f;
    check(params && !extra, "not by params");
    check(c->gridDimX == 1 && c->gridDimY == 2 && c->gridDimZ == 3 && c->blockDimX == 64 && c->blockDimY == 1 &&
              c->blockDimZ == 1,
          "grid or block");
    check(c->sharedMemBytes == 60000 && c->hStream && c->numAttrs == 1,
          "shared memory, stream or number of attributes");
    check(c->attrs[0].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, "the attribute");
    check(c->attrs[0].value.programmaticStreamSerializationAllowed == 1, "the attribute's value");
    return early++, early_in_graph += capturing, CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
    check(mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, "mode of capture");
    return (void)s, capturing = 1, CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph *g) { return (void)s, capturing = 0, *g = malloc(1), CUDA_SUCCESS; }
CUresult cuGraphInstantiateWithFlags(CUgraphExec *x, CUgraph g, unsigned long long flags) {
    return (void)g, (void)flags, *x = malloc(1), CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec x, CUstream s) { return (void)x, (void)s, replays++, CUDA_SUCCESS; }
CUresult cuGraphDestroy(CUgraph g) { return free(g), CUDA_SUCCESS; }
CUresult cuGraphExecDestroy(CUgraphExec x) { return free(x), CUDA_SUCCESS; }
