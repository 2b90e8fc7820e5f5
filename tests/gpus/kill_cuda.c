/* kill_cuda.c - a CUDA driver that is the real one but for this: behind replay N of device D (of the process) a kernel that traps is
 * launched in that device's context, which is lost then, as after a fault of a kernel's own.
 *   KILLCUDA=D:N KILLCUDA_LIB=/path/of/the/real/libcuda.so.1 LD_LIBRARY_PATH=out/tests/killcuda:$LD_LIBRARY_PATH gptoss-exec …
 * KILLCUDA_CODE: a file with the kernel's machine code, where the driver cannot compile PTX. What it did is said on stderr.
 * Every entry point of cuda_fns.def is here, for dlsym to find: none has a floating-point or a struct argument, so that twelve words,
 * some of them rubbish, are passed on for whatever it takes. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef long Entry(long, long, long, long, long, long, long, long, long, long, long, long);

enum Name {
#define SHARED(field, symbol)     N_##symbol,
#define OWN(result, symbol, args) N_##symbol,
#include "runtime/device/cuda_fns.def"
#undef SHARED
#undef OWN
    NAMES
};

static Entry *real[NAMES];
static int (*context_device)(int *);
static int kill_device = -1, kill_at;
enum { DEVICES = 64 };
static int replays[DEVICES];

static void *find(void *lib, const char *name) {
    void *p = dlsym(lib, name);
    if (!p) fprintf(stderr, "kill_cuda: no %s in %s\n", name, getenv("KILLCUDA_LIB")), exit(2);
    return p;
}

__attribute__((constructor)) static void open_real(void) {
    const char *path = getenv("KILLCUDA_LIB"), *when = getenv("KILLCUDA");
    void *lib = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!lib) fprintf(stderr, "kill_cuda: KILLCUDA_LIB: %s\n", path ? dlerror() : "not set"), exit(2);
    if (!when || sscanf(when, "%d:%d", &kill_device, &kill_at) != 2) fprintf(stderr, "kill_cuda: KILLCUDA is not DEVICE:N\n"), exit(2);
#define SHARED(field, symbol)     *(void **)&real[N_##symbol] = find(lib, #symbol);
#define OWN(result, symbol, args) *(void **)&real[N_##symbol] = find(lib, #symbol);
#include "runtime/device/cuda_fns.def"
#undef SHARED
#undef OWN
    *(void **)&context_device = find(lib, "cuCtxGetDevice");
}

/* --- the kernel ------------------------------------------------------------------------------------------------------------ */

static const char ptx[] = ".version 7.8\n.target sm_90\n.address_size 64\n.visible .entry gptoss_trap()\n{\n    trap;\n    ret;\n}\n";

static const char *code(void) {
    const char *path = getenv("KILLCUDA_CODE");
    FILE *f = path ? fopen(path, "rb") : NULL;
    enum { MOST = 1 << 20 };
    static char bytes[MOST];
    size_t n = f ? fread(bytes, 1, MOST - 1, f) : 0;
    if (f) fclose(f);
    if (path && !n) fprintf(stderr, "kill_cuda: KILLCUDA_CODE: nothing in %s\n", path), exit(2);
    return n ? bytes : ptx;
}

static void kill_context(int device, long stream) {
    void *module = NULL, *function = NULL;
    static void *none[1];
    long rc = real[N_cuModuleLoadData]((long)&module, (long)code(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) & 0xffffffff;
    if (!rc) rc = real[N_cuModuleGetFunction]((long)&function, (long)module, (long)"gptoss_trap", 0, 0, 0, 0, 0, 0, 0, 0, 0) & 0xffffffff;
    if (!rc) rc = real[N_cuLaunchKernel]((long)function, 1, 1, 1, 1, 1, 1, 0, stream, (long)none, 0, 0) & 0xffffffff;
    fprintf(stderr, "kill_cuda: device %d, behind replay %d: a kernel that traps (%ld)\n", device, kill_at, rc);
    if (rc) exit(2);
}

static long replayed(long rc, long stream) {
    int device = -1;
    if (rc & 0xffffffff || context_device(&device) || device < 0 || device >= DEVICES) return rc;
    if (__atomic_add_fetch(&replays[device], 1, __ATOMIC_RELAXED) == kill_at && device == kill_device) kill_context(device, stream);
    return rc;
}

#define SHARED(field, symbol)                                                                                                         \
    long symbol(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l);                      \
    long symbol(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) {                     \
        long rc = real[N_##symbol](a, b, c, d, e, f, g, h, i, j, k, l);                                                               \
        return N_##symbol == N_cuGraphLaunch ? replayed(rc, b) : rc;                                                                  \
    }
#define OWN(result, symbol, args) SHARED(, symbol)
#include "runtime/device/cuda_fns.def"
