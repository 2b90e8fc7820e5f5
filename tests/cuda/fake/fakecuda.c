/* fakecuda.c - a CUDA driver for tests: libcuda.so.1 with no GPU. Compiled against cuda.h, so that prototypes and the structs that
 * dev_cuda.c declares itself are held against the real ones. Copies happen at once; kernels do nothing: what is tested is how they
 * are launched, and on which device. A thread's context must be that of what it uses. At exit FAKECUDA_LOG gets a line per kind of
 * launch and its count, then those of each device, and what is left. FAKECUDA_VERSION: the driver's (13000). FAKECUDA_DEVICES (1), of
 * which CUDA_VISIBLE_DEVICES chooses; FAKECUDA_NO_PEER=1: none reaches another; FAKECUDA_FAIL=DEVICE:N: replay N of this device
 * fails, FAKECUDA_FAIL_PEER=DEVICE:N: this copy from another, FAKECUDA_HANG=DEVICE:N: that replay never ends. The kernel
 * gptoss_trap (tests/gpus/kill_cuda.c) does end all contexts of the process, as it did on two H200; with FAKECUDA_APART=1 its own only:
 * whatever is asked of them from then on fails. */
#include <cuda.h>

#include <pthread.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Names that a newer cuda.h maps to newer ones. */
#undef cuEventElapsedTime
#undef cuStreamEndCapture
#undef cuEventRecord

enum { DEVICES = 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int plain, early, early_in_graph, replays, attribute, wrong; /* of several devices' threads */
static struct CUctx_st { /* a device's primary context; handles of what belongs to it begin with a pointer to it */
    int retained, replays, peers, memory, things, hung;
    _Atomic int lost; /* by another device's thread */
    int reaches[DEVICES];
} contexts[DEVICES];
static _Thread_local CUcontext current;
static _Thread_local int capturing;

typedef struct Block Block; /* of device memory */
struct Block {
    char *p;
    size_t n;
    CUcontext of;
    Block *next;
};
static Block *blocks;

static void check(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "fakecuda: WRONG: %s\n", what);
    wrong = 1;
}

static int device(CUcontext c) { return c ? (int)(c - contexts) : -1; }

/* Is it time for what the variable, "DEVICE:N", names? n: the call's number on the thread's device. */
static int meant(const char *variable, int n) {
    int d, at;
    const char *s = getenv(variable);
    return s && sscanf(s, "%d:%d", &d, &at) == 2 && d == device(current) && at == n;
}

/* Something of the thread's device: a handle, to be given to drop. */
static void *make(size_t n) {
    CUcontext *h = calloc(1, sizeof *h + n);
    pthread_mutex_lock(&lock);
    check(current != NULL, "a thread without a context");
    if (current) current->things++;
    pthread_mutex_unlock(&lock);
    return *h = current, h;
}

static void own(const void *handle) { check(*(CUcontext const *)handle == current, "a handle of another device"); }

static CUresult drop(void *handle) {
    pthread_mutex_lock(&lock);
    (*(CUcontext *)handle)->things--;
    pthread_mutex_unlock(&lock);
    return free(handle), CUDA_SUCCESS;
}

/* The device that has [p, p+n); NULL: none. */
static CUcontext at(const void *p, size_t n) {
    pthread_mutex_lock(&lock);
    const Block *b = blocks;
    while (b && !((const char *)p >= b->p && (const char *)p + n <= b->p + b->n)) b = b->next;
    pthread_mutex_unlock(&lock);
    return b ? b->of : NULL;
}

__attribute__((destructor)) static void at_exit(void) {
    FILE *f = getenv("FAKECUDA_LOG") ? fopen(getenv("FAKECUDA_LOG"), "w") : NULL;
    if (!f) return;
    fprintf(f, "plain %d\nearly %d\nearly_in_graph %d\nreplays %d\nshared %d\nwrong %d\n", plain, early, early_in_graph,
            replays, attribute, wrong);
    for (int d = 0; d < DEVICES; d++) {
        const struct CUctx_st *c = &contexts[d];
        if (c->replays || c->peers) fprintf(f, "device %d replays %d peers %d\n", d, c->replays, c->peers);
        if (!c->hung && !c->lost && (c->retained || c->memory || c->things)) fprintf(f, "left %d: retained %d memory %d things %d\n", d, c->retained, c->memory, c->things);
    }
    fclose(f);
}

CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
/* The devices that the program sees, as numbers of those there are. */
static int seen(int numbers[DEVICES]) {
    const char *s = getenv("CUDA_VISIBLE_DEVICES");
    int there = getenv("FAKECUDA_DEVICES") ? atoi(getenv("FAKECUDA_DEVICES")) : 1, n = 0;
    for (int i = 0; !s && i < there; i++) numbers[n++] = i;
    for (char *end; s && n < DEVICES; s = *end == ',' ? end + 1 : NULL) {
        long i = strtol(s, &end, 10);
        if (end == s || i < 0 || i >= there) break;
        numbers[n++] = (int)i;
    }
    return n;
}
CUresult cuDeviceGetCount(int *n) {
    int numbers[DEVICES];
    return *n = seen(numbers), CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *v) {
    return *v = getenv("FAKECUDA_VERSION") ? atoi(getenv("FAKECUDA_VERSION")) : 13000, CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int n, CUdevice d) {
    int numbers[DEVICES];
    seen(numbers);
    return snprintf(name, (size_t)n, "Fake H100 %d", numbers[d]), CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *id, int n, CUdevice d) {
    return snprintf(id, (size_t)n, "0000:D%d:00.0", d), CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) {
    (void)d;
    return *v = a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : 0, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) {
    return *c = &contexts[d], contexts[d].retained++, CUDA_SUCCESS; /* by one thread each */
}
CUresult cuDevicePrimaryCtxRelease(CUdevice d) { return contexts[d].retained--, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext c) {
    check(!c || c->retained > 0, "a context that was released");
    return current = c, CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *d) { return *d = device(current), current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
CUresult cuDeviceCanAccessPeer(int *can, CUdevice d, CUdevice peer) {
    check(d != peer, "a device as its own peer");
    return *can = !getenv("FAKECUDA_NO_PEER"), CUDA_SUCCESS;
}
CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
    check(!flags && current && peer != current && peer->retained && !getenv("FAKECUDA_NO_PEER"), "peer access");
    if (current->reaches[device(peer)]) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    return current->reaches[device(peer)] = 1, CUDA_SUCCESS;
}
static void lose(CUcontext c) {
    for (int d = 0; d < DEVICES; d++)
        if (!getenv("FAKECUDA_APART") || c == &contexts[d]) contexts[d].lost = 1;
}
CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t n, CUstream s) {
    own(s);
    check(to == current && at((void *)dst, n) == to && at((void *)src, n) == from && from != to, "whose memory a peer copy is of");
    check(to->reaches[device(from)], "a peer copy without peer access");
    if (meant("FAKECUDA_FAIL_PEER", ++to->peers)) return CUDA_ERROR_UNKNOWN;
    return memcpy((void *)dst, (void *)src, n), CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult e, const char **name) { return (void)e, *name = "CUDA_ERROR_FAKE", CUDA_SUCCESS; }

CUresult cuMemGetInfo(size_t *free, size_t *total) { return *free = *total = (size_t)1 << 30, CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr *p, size_t n) {
    Block *b = malloc(sizeof *b);
    if (!current) return check(0, "memory without a context"), CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    *b = (Block){calloc(n, 1), n, current, blocks};
    blocks = b;
    current->memory++;
    pthread_mutex_unlock(&lock);
    return *p = (CUdeviceptr)b->p, CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr p) {
    pthread_mutex_lock(&lock);
    Block **b = &blocks, *gone;
    while (*b && (*b)->p != (char *)p) b = &(*b)->next;
    gone = *b;
    if (gone) gone->of->memory--, *b = gone->next;
    pthread_mutex_unlock(&lock);
    check(gone != NULL, "memory that is none is freed");
    if (gone) free(gone->p), free(gone);
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **p, size_t n, unsigned flags) { return (void)flags, *p = malloc(n), CUDA_SUCCESS; }
CUresult cuMemFreeHost(void *p) { return free(p), CUDA_SUCCESS; }
CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream s) {
    own(s), check(at((void *)dst, n) == current, "a copy to another device's memory");
    return memcpy((void *)dst, src, n), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream s) {
    own(s), check(at((void *)src, n) == current, "a copy from another device's memory");
    return memcpy(dst, (void *)src, n), CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char byte, size_t n, CUstream s) {
    own(s), check(at((void *)p, n) == current, "another device's memory is filled");
    return memset((void *)p, byte, n), CUDA_SUCCESS;
}

typedef struct Event Event;
struct Event {
    CUcontext of;
    double time;
};
static CUresult query(const void *handle) {
    CUcontext c = *(CUcontext const *)handle;
    return c->lost ? CUDA_ERROR_LAUNCH_FAILED : c->hung ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *s, unsigned flags) { return (void)flags, *s = make(0), CUDA_SUCCESS; }
CUresult cuStreamDestroy(CUstream s) { return drop(s); }
CUresult cuStreamQuery(CUstream s) { return query(s); }
CUresult cuEventCreate(CUevent *v, unsigned flags) { return (void)flags, *v = make(sizeof(double)), CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent v) { return drop(v); }
CUresult cuEventRecord(CUevent v, CUstream s) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    own(s), own(v);
    return ((Event *)v)->time = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec, CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream s, CUevent v, unsigned flags) { /* of any device */
    own(s), check(!flags && ((Event *)v)->time > 0, "what is waited for was never recorded");
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent v) { return query(v); }
CUresult cuEventElapsedTime(float *ms, CUevent a, CUevent b) {
    return *ms = (float)((((Event *)b)->time - ((Event *)a)->time) * 1e3), CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *m, const void *image) { return (void)image, *m = make(1), CUDA_SUCCESS; }
CUresult cuModuleUnload(CUmodule m) { return drop(m); }
CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
    own(m), *f = (CUfunction)m;
    return *((char *)m + sizeof(CUcontext)) = !strcmp(name, "gptoss_trap"), CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
    (void)f;
    check(a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, "another attribute of a function");
    if (v > 227 << 10) return CUDA_ERROR_INVALID_VALUE;
    attribute = v;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream s, void **params, void **extra) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared;
    own(f), own(s);
    check(params && !extra, "not by params");
    if (*((char *)f + sizeof(CUcontext))) lose(current);
    plain++;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
    own(f), own(c->hStream);
    check(params && !extra, "not by params");
    check(c->gridDimX == 1 && c->gridDimY == 2 && c->gridDimZ == 3 && c->blockDimX == 64 && c->blockDimY == 1 &&
              c->blockDimZ == 1,
          "grid or block");
    check(c->sharedMemBytes == 60000 && c->hStream && c->numAttrs == 1,
          "shared memory, stream or number of attributes");
    check(c->attrs[0].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, "the attribute");
    check(c->attrs[0].value.programmaticStreamSerializationAllowed == 1, "the attribute's value");
    early++;
    early_in_graph += capturing;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
    check(mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, "mode of capture");
    return own(s), capturing = 1, CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph *g) { return own(s), capturing = 0, *g = make(0), CUDA_SUCCESS; }
CUresult cuGraphInstantiateWithFlags(CUgraphExec *x, CUgraph g, unsigned long long flags) {
    return own(g), (void)flags, *x = make(0), CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec x, CUstream s) {
    own(x), own(s);
    const struct timespec work = {0, 1000000}; /* or one device would have done all before another has begun */
    if (getenv("FAKECUDA_DEVICES")) nanosleep(&work, NULL);
    pthread_mutex_lock(&lock);
    replays++;
    current->replays++;
    pthread_mutex_unlock(&lock);
    if (meant("FAKECUDA_HANG", current->replays)) current->hung = 1;
    if (current->lost) return CUDA_ERROR_LAUNCH_FAILED;
    return meant("FAKECUDA_FAIL", current->replays) ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph g) { return drop(g); }
CUresult cuGraphExecDestroy(CUgraphExec x) { return drop(x); }
