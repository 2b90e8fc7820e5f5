/* dev_hip.c - AMD GPUs: the HIP runtime of ROCm 5.2 to 7, through dlopen. All that is not HIP's own is in dev_gpu.c.
 * HIP has no launch that overlaps the one before it in a captured graph (hipExtAnyOrderLaunch drops the order altogether, and
 * is not captured), so launch_overlapping is left out and a plan's `overlaps` means nothing here; nor need dynamic LDS be
 * announced: all 64 KB may be asked for at a launch.
 * ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES are the runtime's and choose what is counted here; a GCD is a device. */
#include "dev_gpu.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>

extern const DeviceOps dev_hip; /* the table, at the end */

static GpuFns fns;
static struct {
#define SHARED(field, symbol)
#define OWN(result, symbol, args)      result(*symbol) args;
#define OPTIONAL(result, symbol, args) result(*symbol) args;
#include "hip_fns.def"
#undef SHARED
#undef OWN
#undef OPTIONAL
} hip;

static const GpuSymbol symbols[] = {
#define SHARED(field, symbol)          {#symbol, (void **)&fns.field, false},
#define OWN(result, symbol, args)      {#symbol, (void **)&hip.symbol, false},
#define OPTIONAL(result, symbol, args) {#symbol, (void **)&hip.symbol, true},
#include "hip_fns.def"
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static Err load_error;

static void load_once(void) {
    static const char *const names[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"};
    char own[4096] = "";
    const char *rocm = getenv("ROCM_PATH");
    if (rocm && *rocm) snprintf(own, sizeof own, "%s/lib/", rocm);
    const char *const dirs[] = {*own ? own : NULL, "", "/opt/rocm/lib/"}; /* what was named first */
    gpu_load(names, LEN(names), dirs, LEN(dirs), symbols, LEN(symbols), &load_error);
}

static bool load(Err *e) {
    pthread_once(&once, load_once);
    if (*load_error.msg) *e = load_error;
    return !*load_error.msg;
}

static int use(int device, void **context) {
    (void)context;
    return hip.hipSetDevice(device);
}

static void release(int device, void *context) { (void)device, (void)context; }

/* The layout of hipDeviceProp_t differs between versions; the arch is the only text in it that looks like one, behind the
 * name, so it is looked for instead: the last "gfx…" up to its zero. */
static bool arch_of(int device, char *arch, size_t n) {
    enum { ROOM = 16384 }; /* no version's struct is larger than 2 KiB */
    char *p = calloc(1, ROOM);
    int (*get)(void *, int) =
        hip.hipGetDevicePropertiesR0600 ? hip.hipGetDevicePropertiesR0600 : hip.hipGetDeviceProperties;
    *arch = 0;
    if (p && get && !get(p, device))
        for (size_t i = 0; i + 8 < ROOM; i++)
            if (!memcmp(p + i, "gfx", 3) && isxdigit((unsigned char)p[i + 3]))
                snprintf(arch, n, "%.60s", p + i), i += strlen(p + i);
    free(p);
    return *arch != 0;
}

/* "gfx90a" runs on any gfx90a; a feature that the plan's arch names (":xnack-") must be as the device's. */
static bool runs(const char *device, const char *plan) {
    size_t n = strcspn(plan, ":");
    if (strncmp(device, plan, n) || (device[n] && device[n] != ':')) return false;
    for (const char *p = plan + n; *p;) {
        size_t m = 1 + strcspn(p + 1, ":");
        const char *at = device;
        while ((at = strchr(at, ':')) && (strncmp(at, p, m) || (at[m] && at[m] != ':'))) at++;
        if (!at) return false;
        p += m;
    }
    return true;
}

static int instantiate(void **exec, void *graph) { return hip.hipGraphInstantiate(exec, graph, NULL, NULL, 0); }

static int reach(int device, int peer, void *peer_context) {
    int can = 0, rc = hip.hipDeviceCanAccessPeer(&can, device, peer);
    (void)peer_context;
    if (!rc) rc = can ? hip.hipDeviceEnablePeerAccess(peer, 0) : GPU_NO_PEER;
    return rc == GPU_PEER_ALREADY ? GPU_OK : rc;
}

static int copy_peer(void *dst, int device, void *context, const void *src, int peer, void *peer_context, size_t n,
                     void *stream) {
    (void)context, (void)peer_context;
    return hip.hipMemcpyPeerAsync(dst, device, src, peer, n, stream);
}

/* Fine-grained: what another GPU writes into memory of this one, this one's caches must not hide. */
static int alloc_common(void **p, size_t n) {
    enum { FINE_GRAINED = 1 };
    return hip.hipExtMallocWithFlags(p, n, FINE_GRAINED);
}

static const char *error_name(int error) { return hip.hipGetErrorName(error); }

static const GpuApi api = {
    .ops = &dev_hip,
    .f = &fns,
    .load = load,
    .use = use,
    .release = release,
    .arch = arch_of,
    .runs = runs,
    .instantiate = instantiate,
    .reach = reach,
    .copy_peer = copy_peer,
    .alloc_common = alloc_common,
    .error_name = error_name,
    .none = "is the amdgpu driver loaded, may this user open /dev/kfd and /dev/dri (group render), do "
            "ROCR_VISIBLE_DEVICES and "
            "HIP_VISIBLE_DEVICES hide it?",
};

static int count(void) { return gpu_count(&api); }
static Device *open_device(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    return gpu_open(&api, index, p, o, e);
}
static void list(Text *t) { gpu_list(&api, t); }
static bool runs_plan(int index, const Plan *p) { return gpu_runs(&api, index, p); }

const DeviceOps dev_hip = GPU_OPS("hip", count, open_device, list, runs_plan);
