/* dev_cuda.c - NVIDIA GPUs: the CUDA driver, through dlopen. All that is not CUDA's own is in dev_gpu.c.
 * CUDA_VISIBLE_DEVICES is the driver's and chooses what is counted here. */
#include "dev_gpu.h"

#include <pthread.h>

extern const DeviceOps dev_cuda; /* the table, at the end */

/* As cuda.h has had them since CUDA 11.8 (tests/cuda compares, where it is installed). */
typedef struct LaunchAttribute LaunchAttribute; /* CUlaunchAttribute */
struct LaunchAttribute {
    int id;
    char pad[4];
    union {
        char room[64];
        int allowed;
    } value;
};
typedef struct LaunchConfig LaunchConfig; /* CUlaunchConfig */
struct LaunchConfig {
    unsigned grid[3], block[3], shared;
    void *stream;
    LaunchAttribute *attributes;
    unsigned n_attributes;
};

static GpuFns fns;
static struct {
#define SHARED(field, symbol)
#define OWN(result, symbol, args) result(*symbol) args;
#include "cuda_fns.def"
#undef SHARED
#undef OWN
} cuda;

static const GpuSymbol symbols[] = {
#define SHARED(field, symbol)     {#symbol, (void **)&fns.field, false},
#define OWN(result, symbol, args) {#symbol, (void **)&cuda.symbol, false},
#include "cuda_fns.def"
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static Err load_error;

static void load_once(void) {
    static const char *const names[] = {"libcuda.so.1"}, *const dirs[] = {"", "/usr/local/cuda/compat/"};
    gpu_load(names, LEN(names), dirs, LEN(dirs), symbols, LEN(symbols), &load_error);
}

static bool load(Err *e) {
    pthread_once(&once, load_once);
    if (*load_error.msg) *e = load_error;
    return !*load_error.msg;
}

static int use(int device, void **context) {
    int rc = *context ? GPU_OK : cuda.cuDevicePrimaryCtxRetain(context, device);
    return rc ? rc : cuda.cuCtxSetCurrent(*context);
}

static void release(int device, void *context) {
    cuda.cuCtxSetCurrent(NULL);
    if (context) cuda.cuDevicePrimaryCtxRelease_v2(device);
}

static bool arch_of(int device, char *arch, size_t n) {
    enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };
    int major = 0, minor = 0;
    *arch = 0;
    if (cuda.cuDeviceGetAttribute(&major, COMPUTE_CAPABILITY_MAJOR, device) ||
        cuda.cuDeviceGetAttribute(&minor, COMPUTE_CAPABILITY_MINOR, device))
        return false;
    return snprintf(arch, n, "sm_%d%d", major, minor) > 0;
}

/* sm_90 is compiled as sm_90a, which runs on compute capability 9.0 only. */
static bool runs(const char *device, const char *plan) { return !strcmp(device, plan); }

static int instantiate(void **exec, void *graph) { return cuda.cuGraphInstantiateWithFlags(exec, graph, 0); }

static int dynamic_lds(void *function, uint32_t bytes) {
    enum { MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };
    return cuda.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                   (int)bytes); /* beyond 48 KB it must be asked for */
}

/* Programmatic dependent launch: the kernel itself waits (griddepcontrol.wait) before it touches what others wrote. */
static int launch_overlapping(void *function, const uint32_t grid[3], uint32_t block, uint32_t lds, void *stream,
                              void **params) {
    enum { PROGRAMMATIC_STREAM_SERIALIZATION = 6 };
    LaunchAttribute a = {.id = PROGRAMMATIC_STREAM_SERIALIZATION, .value.allowed = 1};
    const LaunchConfig c = {{grid[0], grid[1], grid[2]}, {block, 1, 1}, lds, stream, &a, 1};
    return cuda.cuLaunchKernelEx(&c, function, params, NULL);
}

/* Before CUDA 12.3 a captured graph has full edges only, or the capture fails. */
static bool overlaps(void) {
    int version = 0;
    return !fns.version(&version) && version >= 12030;
}

static int reach(int device, int peer, void *peer_context) {
    int can = 0, rc = cuda.cuDeviceCanAccessPeer(&can, device, peer);
    if (!rc) rc = can ? cuda.cuCtxEnablePeerAccess(peer_context, 0) : GPU_NO_PEER;
    return rc == GPU_PEER_ALREADY ? GPU_OK : rc;
}

static int copy_peer(void *dst, int device, void *context, const void *src, int peer, void *peer_context, size_t n,
                     void *stream) {
    (void)device, (void)peer;
    return cuda.cuMemcpyPeerAsync(dst, context, src, peer_context, n, stream);
}

static const char *error_name(int error) {
    const char *name = NULL;
    return cuda.cuGetErrorName(error, &name) || !name ? "unknown error" : name;
}

static const GpuApi api = {
    .ops = &dev_cuda,
    .f = &fns,
    .load = load,
    .use = use,
    .release = release,
    .arch = arch_of,
    .runs = runs,
    .instantiate = instantiate,
    .dynamic_lds = dynamic_lds,
    .launch_overlapping = launch_overlapping,
    .overlaps = overlaps,
    .reach = reach,
    .copy_peer = copy_peer,
    .error_name = error_name,
    .none = "does nvidia-smi list it, does CUDA_VISIBLE_DEVICES hide it?",
};

static int count(void) { return gpu_count(&api); }
static Device *open_device(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    return gpu_open(&api, index, p, o, e);
}
static void list(Text *t) { gpu_list(&api, t); }
static bool runs_plan(int index, const Plan *p) { return gpu_runs(&api, index, p); }

const DeviceOps dev_cuda = GPU_OPS("cuda", count, open_device, list, runs_plan);
