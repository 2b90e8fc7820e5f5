/* fakehip.c - a HIP runtime for tests: libamdhip64.so.5 with no GPU. Compiled against HIP's own headers, so that its prototypes are
 * the real ones; launches run in runtime/emu. Strict where the real one is lax or undefined:
 *   - nothing runs when it is queued: streams run when they are queried, so a host that reads too early reads nothing;
 *   - every handle, pointer and size is checked; what is freed while a stream still needs it is an error;
 *   - a stream, its events, modules and memory belong to one device, which must be the calling thread's;
 *   - what was not allowed is printed ("fakehip: WRONG: …") and, like what is left at exit, makes the exit status 99.
 * Environment: FAKEHIP_DEVICES (1), of which ROCR_VISIBLE_DEVICES and then HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES, choose;
 * FAKEHIP_ARCH, FAKEHIP_MEMORY (bytes): of each device, the last in the list of all that follow; FAKEHIP_NO_PEER=I-K,… or all (I cannot
 * read K's memory); FAKEHIP_FAIL=CALL:N:ERROR,… (call N of CALL returns ERROR), FAKEHIP_FAULT=N, FAKEHIP_HANG=N (launch N faults; never
 * ends), each with :DEVICE behind it: of this device's calls; FAKEHIP_LOG=FILE (counts of calls at exit, with several devices also
 * those of each, CALL@DEVICE, and "cpu@DEVICE N"; "cpus N": how many the thread could use, the first of them N, that last asked for
 * pinned memory); FAKEHIP_LAX=1: what was not allowed is only printed (a program that ends for want of memory leaves everything). */
#define __HIP_PLATFORM_AMD__ 1
#include <hip/hip_runtime_api.h>

#include "runtime/emu/comgr.h"

#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef enum Kind { DEVICE_MEMORY, HOST_MEMORY, STREAM, EVENT, MODULE, FUNCTION, GRAPH, EXEC, KINDS } Kind;
static const char *const kind_names[KINDS] = {"device memory", "host memory", "stream", "event",
                                              "module",        "function",    "graph",  "graph exec"};

typedef struct Op Op; /* what a stream will do */
struct Op {
    enum { UPLOAD, DOWNLOAD, PEER, FILL, LAUNCH, RECORD, WAIT } kind;
    void *dst, *event;
    long record; /* of the event: this one, or the one that is waited for */
    const void *src;
    size_t n;
    int byte;
    struct Object *function;
    uint32_t grid[3], block[3], lds;
    uint64_t args[64];
    size_t args_size;
};

typedef struct Ops Ops;
struct Ops {
    Op *at;
    size_t n, cap;
};

typedef struct Object Object; /* whatever has a handle */
struct Object {
    Kind kind;
    void *p; /* memory; of a module what it was loaded from */
    size_t size;
    int device;
    Ops ops, captured; /* of a stream or a graph */
    bool capturing, recorded, done;
    bool waiting; /* a stream, for another that came() moves on */
    long asked, came;   /* records of an event: queued, done */
    bool fine, mapped;  /* memory: fine-grained; of the host, that kernels reach */
    hipError_t error;
    double time; /* of an event */
    EmuModule *code;
    Object *module; /* of a function */
    const EmuKernel *kernel;
    Object *next;
};

enum { DEVICES = 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Object *objects;
static EmuMem *memory;
static int wrong, launches, pinned_cpus; /* pinned_cpus: CPUs of the thread that last asked for pinned memory */
static int launches_of[DEVICES], pinned_first[DEVICES]; /* pinned_first: the first of those CPUs */
static bool hung[DEVICES], reaches[DEVICES][DEVICES]; /* reaches: peer access was enabled */
static size_t in_use[DEVICES];
static bool initialised;
static __attribute__((tls_model("initial-exec"))) _Thread_local int current; /* else glibc allocates it at first use, and ends the process without memory */

/* What this library itself holds is not what tests/faults lets fail. */
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *); /* a sanitizer's free knows nothing of them */

static struct Count {
    const char *call;
    int n, of[DEVICES];
} counts[64];

static long env(const char *name, long otherwise) { return getenv(name) ? atol(getenv(name)) : otherwise; }

/* Entry `device` of a list "a,b,…", or its last. */
static void env_of(const char *name, int device, const char *otherwise, char *to, size_t n) {
    const char *s = getenv(name) ? getenv(name) : otherwise;
    for (const char *comma; device-- && (comma = strchr(s, ','));) s = comma + 1;
    snprintf(to, n, "%.*s", (int)strcspn(s, ","), s);
}

/* Keeps of n devices those that the variable lists, up to the first number that is none of them. */
static int visible(const char *variable, int *devices, int n) {
    const char *s = getenv(variable);
    int old[DEVICES], kept = 0;
    if (!s) return n;
    memcpy(old, devices, sizeof old);
    for (char *end; kept < DEVICES; s = end + 1) {
        long i = strtol(s, &end, 10);
        if (end == s || i < 0 || i >= n) break;
        devices[kept++] = old[i];
        if (*end != ',') break;
    }
    return kept;
}

/* The devices that the program sees, as numbers of those there are. */
static int seen(int devices[DEVICES]) {
    int n = (int)env("FAKEHIP_DEVICES", 1);
    for (int i = 0; i < DEVICES; i++) devices[i] = i;
    n = visible("ROCR_VISIBLE_DEVICES", devices, n < DEVICES ? n : DEVICES);
    return visible(getenv("HIP_VISIBLE_DEVICES") ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES", devices, n);
}

static int devices(void) {
    int numbers[DEVICES];
    return seen(numbers);
}

static int number(int device) {
    int numbers[DEVICES];
    seen(numbers);
    return numbers[device];
}

static void complain(const char *call, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "fakehip: WRONG: %s: ", call);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    wrong++;
}

/* Does a stream of the device wait for what never comes? Then nothing of it can be freed. */
static bool stuck(int device) {
    for (Object *s = objects; s; s = s->next)
        if (s->kind == STREAM && s->device == device && s->ops.n && s->ops.at[0].kind == WAIT) return true;
    return false;
}

__attribute__((destructor)) static void at_exit(void) {
    int left[KINDS] = {0};
    const char *hang = getenv("FAKEHIP_HANG");
    bool any = hang && !strchr(hang, ':'); /* a slow machine may find another launch hung first */
    bool waits = false;
    for (int d = 0; d < DEVICES; d++) waits |= hung[d] || stuck(d);
    for (Object *o = objects; o; o = o->next) /* what others may still write to cannot be freed either */
        left[o->kind] += !any && !hung[o->device] && !stuck(o->device) && !(waits && (o->fine || o->mapped));
    left[FUNCTION] = 0; /* goes with its module */
    for (int k = 0; k < KINDS; k++)
        if (left[k]) complain("exit", "%d of %s not freed", left[k], kind_names[k]);
    FILE *f = getenv("FAKEHIP_LOG") ? fopen(getenv("FAKEHIP_LOG"), "w") : NULL;
    for (size_t i = 0; f && i < LEN(counts) && counts[i].call; i++) {
        fprintf(f, "%s %d\n", counts[i].call, counts[i].n);
        for (int d = 0; d < devices() && devices() > 1; d++) fprintf(f, "%s@%d %d\n", counts[i].call, d, counts[i].of[d]);
    }
    for (int d = 0; f && d < devices() && devices() > 1; d++) fprintf(f, "cpu@%d %d\n", d, pinned_first[d]);
    if (f) fprintf(f, "cpus %d\n", pinned_cpus), fclose(f);
    if (!objects) emu_mem_free(memory); /* its threads have nothing to do */
    if (wrong && !getenv("FAKEHIP_LAX")) fflush(stdout), _exit(99);
}

/* --- calls ---------------------------------------------------------------------------------------------------------------------- */

/* Counts the call; the error that FAKEHIP_FAIL wants of it. */
static hipError_t enter(const char *call) {
    size_t i = 0;
    char name[64];
    int at, error, device;
    while (i < LEN(counts) - 1 && counts[i].call && strcmp(counts[i].call, call)) i++;
    counts[i].call = call;
    counts[i].n++;
    counts[i].of[current]++;
    if (!initialised && strcmp(call, "hipInit")) complain(call, "before hipInit");
    for (const char *fail = getenv("FAKEHIP_FAIL"); fail; fail = strchr(fail, ',') ? strchr(fail, ',') + 1 : NULL) {
        int n = sscanf(fail, "%63[^:]:%d:%d:%d", name, &at, &error, &device);
        if (n < 3 || strcmp(name, call) || (n == 4 && device != current)) continue;
        if (at != (n == 4 ? counts[i].of[current] : counts[i].n)) continue;
        for (Object *o = objects; o && !strcmp(call, "hipStreamEndCapture"); o = o->next)
            if (o->device == current) o->capturing = false; /* it ends all the same */
        return (hipError_t)error;
    }
    return hipSuccess;
}

#define CALL(...)                                                                                                      \
    {                                                                                                                  \
        pthread_mutex_lock(&lock);                                                                                     \
        hipError_t result = enter(__func__);                                                                           \
        if (!result) do                                                                                                \
                __VA_ARGS__ while (0);                                                                                 \
        pthread_mutex_unlock(&lock);                                                                                   \
        return result;                                                                                                 \
    }
#define REFUSE(error, ...)                                                                                             \
    {                                                                                                                  \
        complain(__func__, __VA_ARGS__);                                                                               \
        result = error;                                                                                                \
        break;                                                                                                         \
    }

static Object *make(Kind kind) {
    Object *o = __libc_calloc(1, sizeof *o);
    *o = (Object){.kind = kind, .device = current, .next = objects};
    return objects = o;
}

static Object *find(Kind kind, const void *handle) {
    for (Object *o = objects; o; o = o->next)
        if (o == handle && o->kind == kind) return o;
    return NULL;
}

static void drop(Object *gone) {
    for (Object **at = &objects; *at; at = &(*at)->next)
        if (*at == gone) {
            *at = gone->next;
            __libc_free(gone->ops.at);
            __libc_free(gone);
            return;
        }
}

/* The memory that [p, p+n) lies in. */
static Object *region(Kind kind, const void *p, size_t n) {
    for (Object *o = objects; o; o = o->next)
        if (o->kind == kind && (const char *)p >= (char *)o->p && (const char *)p + n <= (char *)o->p + o->size)
            return o;
    return NULL;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- running what is queued --------------------------------------------------------------------------------------------------------- */

static void push(Ops *q, const Op *op) {
    if (q->n == q->cap) q->at = __libc_realloc(q->at, (q->cap = q->cap ? 2 * q->cap : 64) * sizeof *q->at);
    q->at[q->n++] = *op;
}

static bool overlaps(const void *p, size_t n, const Object *o) {
    return p && (const char *)p < (char *)o->p + o->size && (const char *)o->p < (const char *)p + n;
}

static bool needed(const Object *o) {
    for (const Object *s = objects; s; s = s->next)
        for (size_t i = 0; s->kind == STREAM && i < s->ops.n; i++) {
            const Op *op = &s->ops.at[i];
            if ((op->event == o && op->kind == RECORD) || (op->function && op->function->module == o)) return true;
            if (o->kind != MODULE && o->p && op->kind != LAUNCH && (overlaps(op->dst, op->n, o) || overlaps(op->src, op->n, o))) return true;
        }
    return false;
}

/* Is the launch that begins now on the device the one that the variable, "N" or "N:DEVICE", names? */
static bool meant(const char *variable, int device, int before) {
    int n, of;
    const char *s = getenv(variable);
    int fields = s ? sscanf(s, "%d:%d", &n, &of) : 0;
    if (fields == 2) return of == device && launches_of[device] + 1 - before == n;
    return fields == 1 && launches + 1 - before == n;
}

static hipError_t run_launch(const Op *op, int device) {
    Err e = {""};
    EmuLaunch l = {.kernel = op->function->kernel->name,
                   .dynamic_lds = op->lds,
                   .kernarg = op->args,
                   .kernarg_size = op->args_size};
    memcpy(l.grid, op->grid, sizeof l.grid);
    memcpy(l.block, op->block, sizeof l.block);
    launches++, launches_of[device]++;
    if (meant("FAKEHIP_FAULT", device, 1)) return hipErrorIllegalAddress;
    if (emu_launch(op->function->code, memory, &l, NULL, &e)) return hipSuccess;
    complain("launch", "%s", e.msg);
    return hipErrorLaunchFailure;
}

static hipError_t advance(Object *s);

/* Is the record done that stream `own` waits for? The other streams of that device go on by themselves. */
static bool came(Object *own, const Op *op) {
    const Object *v = find(EVENT, op->event);
    own->waiting = true;
    for (Object *s = objects; v && v->came < op->record && s; s = s->next)
        if (s->kind == STREAM && s->device == v->device && !s->waiting) advance(s);
    own->waiting = false;
    return !v || v->came >= op->record;
}

/* A fault ends all streams of its device: nothing of a broken context runs any more. */
static void fault(int device, hipError_t error) {
    for (Object *s = objects; s; s = s->next)
        if (s->kind == STREAM && s->device == device) s->error = error, s->ops.n = 0;
}

/* The next op of the stream; hipErrorNotReady while there are more. */
static hipError_t advance(Object *s) {
    if (s->error) return s->error;
    if (!s->ops.n) return hipSuccess;
    Op op = s->ops.at[0];
    Err e = {""};
    hipError_t launched;
    if (hung[s->device]) return hipErrorNotReady;
    if (op.kind == WAIT && !came(s, &op)) return hipErrorNotReady;
    if (op.kind == LAUNCH && meant("FAKEHIP_HANG", s->device, 0)) return hung[s->device] = true, hipErrorNotReady;
    memmove(s->ops.at, s->ops.at + 1, --s->ops.n * sizeof op);
    switch (op.kind) {
    case UPLOAD:
        memcpy(op.dst, op.src, op.n);
        emu_mem_mark(memory, op.dst, op.n, true);
        break;
    case PEER:
        if (!emu_mem_check(memory, op.src, op.n, &e)) complain("peer copy", "%s", e.msg);
        memcpy(op.dst, op.src, op.n);
        emu_mem_mark(memory, op.dst, op.n, true);
        break;
    case DOWNLOAD:
        if (!emu_mem_check(memory, op.src, op.n, &e)) complain("download", "%s", e.msg);
        memcpy(op.dst, op.src, op.n);
        break;
    case FILL:
        memset(op.dst, op.byte, op.n);
        emu_mem_mark(memory, op.dst, op.n, true);
        break;
    case LAUNCH:
        if ((launched = run_launch(&op, s->device))) fault(s->device, launched);
        break;
    case RECORD: {
        Object *v = op.event;
        v->came = op.record, v->done = v->came == v->asked, v->time = seconds();
        break;
    }
    case WAIT: break;
    }
    return s->error ? s->error : s->ops.n ? hipErrorNotReady : hipSuccess;
}

static void finish_all(int device) {
    for (Object *s = objects; s; s = s->next)
        while (s->kind == STREAM && s->device == device && advance(s) == hipErrorNotReady) {}
}

/* --- devices ---------------------------------------------------------------------------------------------------------------------- */

static size_t capacity(int device) {
    char bytes[64];
    env_of("FAKEHIP_MEMORY", number(device), "1073741824", bytes, sizeof bytes);
    return strtoull(bytes, NULL, 10);
}

static void arch_of(int device, char *to, size_t n) {
    env_of("FAKEHIP_ARCH", number(device), "gfx90a:sramecc+:xnack-", to, n);
}

hipError_t hipInit(unsigned int flags) CALL({
    if (flags) REFUSE(hipErrorInvalidValue, "flags %u", flags);
    if (!devices()) {
        result = hipErrorInvalidDevice; /* as HIP 5.2 */
        initialised = true;
        break;
    }
    comgr_keep(getenv("GPTOSS_CACHE"));
    comgr_start(&(Err){""}); /* before there are threads; emu_load says what hinders it */
    if (!memory && !(memory = emu_mem_new())) {
        result = hipErrorOutOfMemory;
        break;
    }
    initialised = true;
})

hipError_t hipGetDeviceCount(int *count) CALL({
    *count = devices();
    if (!*count) result = hipErrorNoDevice;
})

hipError_t hipRuntimeGetVersion(int *version) CALL({ *version = 50221153; })

hipError_t hipDeviceGetName(char *name, int len, hipDevice_t device) CALL({
    if (device < 0 || device >= devices()) REFUSE(hipErrorInvalidDevice, "device %d", device);
    snprintf(name, (size_t)len, "Fake MI250 %d", number(device));
})

hipError_t hipDeviceGetPCIBusId(char *id, int len, int device) CALL({
    if (device < 0 || device >= devices()) REFUSE(hipErrorInvalidDevice, "device %d", device);
    snprintf(id, (size_t)len, "0000:C%d:00.0", number(device));
})

hipError_t hipGetDeviceProperties(hipDeviceProp_t *p, int device) CALL({
    if (device < 0 || device >= devices()) REFUSE(hipErrorInvalidDevice, "device %d", device);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Fake MI250 gfx90a");
    arch_of(device, p->gcnArchName, sizeof p->gcnArchName);
})

#ifdef ROCM_6
/* As ROCm 6 and 7 have it: another layout, the arch at byte 1160; the old entry point must not be called then. */
hipError_t hipGetDevicePropertiesR0600(void *p, int device) CALL({
    if (device < 0 || device >= devices()) REFUSE(hipErrorInvalidDevice, "device %d", device);
    memset(p, 0, 1472);
    snprintf(p, 256, "AMD Instinct gfx90a");
    arch_of(device, (char *)p + 1160, 256);
})
#endif

hipError_t hipSetDevice(int device) CALL({
    if (device < 0 || device >= devices()) REFUSE(hipErrorInvalidDevice, "device %d", device);
    current = device;
})

const char *hipGetErrorName(hipError_t e) {
    switch ((int)e) {
    case hipErrorInvalidValue: return "hipErrorInvalidValue";
    case hipErrorOutOfMemory: return "hipErrorOutOfMemory";
    case hipErrorNoDevice: return "hipErrorNoDevice";
    case hipErrorInvalidDevice: return "hipErrorInvalidDevice";
    case hipErrorPeerAccessUnsupported: return "hipErrorPeerAccessUnsupported";
    case hipErrorNoBinaryForGpu: return "hipErrorNoBinaryForGpu";
    case hipErrorNotFound: return "hipErrorNotFound";
    case hipErrorNotReady: return "hipErrorNotReady";
    case hipErrorIllegalAddress: return "hipErrorIllegalAddress";
    case hipErrorLaunchFailure: return "hipErrorLaunchFailure";
    }
    return "hipErrorUnknown";
}

static bool no_peer(int device, int peer) {
    const char *s = getenv("FAKEHIP_NO_PEER");
    int i, k;
    if (s && !strcmp(s, "all")) return true;
    for (; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (sscanf(s, "%d-%d", &i, &k) == 2 && i == device && k == peer) return true;
    return false;
}

hipError_t hipDeviceCanAccessPeer(int *can, int device, int peer) CALL({
    if (device < 0 || device >= devices() || peer < 0 || peer >= devices() || device == peer)
        REFUSE(hipErrorInvalidDevice, "devices %d and %d", device, peer);
    *can = !no_peer(device, peer);
})

hipError_t hipDeviceEnablePeerAccess(int peer, unsigned int flags) CALL({
    if (peer < 0 || peer >= devices() || flags) REFUSE(hipErrorInvalidDevice, "device %d, flags %u", peer, flags);
    if (no_peer(current, peer)) REFUSE(hipErrorPeerAccessUnsupported, "device %d cannot reach %d", current, peer);
    if (reaches[current][peer]) result = hipErrorPeerAccessAlreadyEnabled;
    reaches[current][peer] = true;
})

/* --- memory ------------------------------------------------------------------------------------------------------------------------- */

static bool any_capture(void) {
    for (Object *o = objects; o; o = o->next)
        if (o->kind == STREAM && o->device == current && o->capturing) return true;
    return false;
}

/* Does what a call uses belong to the calling thread's device? */
static bool own(const char *call, const Object *o) {
    if (o->device == current) return true;
    complain(call, "a %s of device %d, the thread's is %d", kind_names[o->kind], o->device, current);
    return false;
}

hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total) CALL({
    *total = capacity(current);
    *free_bytes = in_use[current] < *total ? *total - in_use[current] : 0;
})

static hipError_t allocate(const char *call, void **p, size_t n, bool fine) {
    Err e = {""};
    if (!n) return complain(call, "0 bytes"), hipErrorInvalidValue;
    if (any_capture()) return complain(call, "while capturing"), hipErrorStreamCaptureUnsupported;
    if (in_use[current] + n > capacity(current)) return hipErrorOutOfMemory;
    Object *o = make(DEVICE_MEMORY);
    if (posix_memalign(&o->p, 256, n) || !emu_mem_add(memory, o->p, n, call, false, &e)) return complain(call, "%s", e.msg), hipErrorUnknown;
    memset(o->p, 0xA5, n);
    o->size = n, o->fine = fine;
    in_use[current] += n;
    *p = o->p;
    return hipSuccess;
}

hipError_t hipMalloc(void **p, size_t n) CALL({ result = allocate(__func__, p, n, false); })

hipError_t hipExtMallocWithFlags(void **p, size_t n, unsigned int flags) CALL({
    if (flags != hipDeviceMallocFinegrained) REFUSE(hipErrorInvalidValue, "flags %u", flags);
    result = allocate(__func__, p, n, true);
})

hipError_t hipFree(void *p) CALL({
    Object *o = region(DEVICE_MEMORY, p, 1);
    if (!o || o->p != p) REFUSE(hipErrorInvalidValue, "%p is no allocation", p);
    finish_all(o->device);
    if (needed(o)) REFUSE(hipErrorInvalidValue, "another device still copies from it");
    emu_mem_remove(memory, p);
    in_use[o->device] -= o->size;
    free(p);
    drop(o);
})

hipError_t hipHostMalloc(void **p, size_t n, unsigned int flags) CALL({
    Err e = {""};
    bool mapped = flags == (hipHostMallocPortable | hipHostMallocMapped);
    if (!n || (flags && !mapped)) REFUSE(hipErrorInvalidValue, "%zu bytes, flags %u", n, flags);
    Object *o = make(HOST_MEMORY);
    if (posix_memalign(&o->p, 4096, n)) REFUSE(hipErrorOutOfMemory, "%zu bytes", n);
    if (mapped && !emu_mem_add(memory, o->p, n, "hipHostMalloc", false, &e)) REFUSE(hipErrorUnknown, "%s", e.msg);
    o->size = n;
    o->mapped = mapped;
    *p = o->p;
    cpu_set_t set;
    pinned_cpus = sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
    for (pinned_first[current] = 0; pinned_cpus && !CPU_ISSET(pinned_first[current], &set);) pinned_first[current]++;
})

hipError_t hipHostFree(void *p) CALL({
    Object *o = region(HOST_MEMORY, p, 1);
    if (!o || o->p != p) REFUSE(hipErrorInvalidValue, "%p is no allocation", p);
    if (needed(o)) REFUSE(hipErrorInvalidValue, "a stream still copies from or to it");
    if (o->mapped) finish_all(o->device);
    if (o->mapped) emu_mem_remove(memory, p);
    free(p);
    drop(o);
})

/* --- streams and events ----------------------------------------------------------------------------------------------------------------- */

hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned int flags) CALL({
    if (flags & ~(unsigned)hipStreamNonBlocking) REFUSE(hipErrorInvalidValue, "flags %u", flags);
    *stream = (hipStream_t)make(STREAM);
})

hipError_t hipStreamDestroy(hipStream_t stream) CALL({
    Object *s = find(STREAM, stream);
    if (!s) REFUSE(hipErrorInvalidHandle, "no stream");
    if (s->capturing) REFUSE(hipErrorInvalidHandle, "the stream is capturing");
    while (advance(s) == hipErrorNotReady) {}
    drop(s);
})

hipError_t hipStreamQuery(hipStream_t stream) CALL({
    Object *s = find(STREAM, stream);
    if (!s) REFUSE(hipErrorInvalidHandle, "no stream");
    if (s->capturing) REFUSE(hipErrorStreamCaptureUnsupported, "the stream is capturing");
    result = advance(s);
})

hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) CALL({
    if (flags & ~(unsigned)hipEventDisableTiming) REFUSE(hipErrorInvalidValue, "flags %u", flags);
    Object *o = make(EVENT);
    o->size = flags; /* 2: no times */
    o->done = true;
    *event = (hipEvent_t)o;
})

hipError_t hipEventDestroy(hipEvent_t event) CALL({
    Object *o = find(EVENT, event);
    if (!o) REFUSE(hipErrorInvalidHandle, "no event");
    if (needed(o)) REFUSE(hipErrorInvalidHandle, "a stream will still record it");
    drop(o);
})

static hipError_t queue(const char *call, hipStream_t stream, const Op *op) {
    Object *s = find(STREAM, stream);
    if (!s) return complain(call, "no stream (the null stream waits for all others: make one)"), hipErrorInvalidHandle;
    if (!own(call, s)) return hipErrorInvalidHandle;
    if (s->capturing && op->kind != LAUNCH)
        return complain(call, "into a capturing stream"), hipErrorStreamCaptureUnsupported;
    push(s->capturing ? &s->captured : &s->ops, op);
    return hipSuccess;
}

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) CALL({
    Object *o = find(EVENT, event);
    Op op = {.kind = RECORD, .event = o};
    if (!o || !own(__func__, o)) REFUSE(hipErrorInvalidHandle, "no event");
    op.record = ++o->asked;
    result = queue(__func__, stream, &op);
    o->recorded = true;
    o->done = false;
})

/* For what was recorded last; of any device. */
hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned int flags) CALL({
    Object *o = find(EVENT, event);
    Op op = {.kind = WAIT, .event = o};
    if (!o || flags) REFUSE(hipErrorInvalidHandle, "no event, or flags %u", flags);
    if (!o->recorded) REFUSE(hipErrorInvalidHandle, "the event was never recorded: nothing would be waited for");
    op.record = o->asked;
    result = queue(__func__, stream, &op);
})

hipError_t hipEventQuery(hipEvent_t event) CALL({
    Object *o = find(EVENT, event);
    if (!o) REFUSE(hipErrorInvalidHandle, "no event");
    for (Object *s = objects; s && !o->done; s = s->next)
        if (s->kind == STREAM && s->device == o->device && advance(s) != hipSuccess) result = s->error;
    if (!o->done && !result) result = hipErrorNotReady;
})

hipError_t hipEventElapsedTime(float *ms, hipEvent_t start, hipEvent_t stop) CALL({
    Object *a = find(EVENT, start);
    Object *b = find(EVENT, stop);
    if (!a || !b || a->size || b->size || !a->recorded || !b->recorded)
        REFUSE(hipErrorInvalidHandle, "no events, or without times");
    if (!a->done || !b->done) {
        result = hipErrorNotReady;
        break;
    }
    *ms = (float)((b->time - a->time) * 1e3);
})

hipError_t hipMemcpyHtoDAsync(hipDeviceptr_t dst, void *src, size_t n, hipStream_t stream) CALL({
    Op op = {.kind = UPLOAD, .dst = dst, .src = src, .n = n};
    Object *to = region(DEVICE_MEMORY, dst, n);
    if (!n || !to || !own(__func__, to))
        REFUSE(hipErrorInvalidValue, "%zu bytes to %p, which are no device memory", n, (void *)dst);
    if (!region(HOST_MEMORY, src, n))
        REFUSE(hipErrorInvalidValue, "from pageable memory: not asynchronous");
    result = queue(__func__, stream, &op);
})

hipError_t hipMemcpyDtoHAsync(void *dst, hipDeviceptr_t src, size_t n, hipStream_t stream) CALL({
    Op op = {.kind = DOWNLOAD, .dst = dst, .src = src, .n = n};
    Object *from = region(DEVICE_MEMORY, src, n);
    if (!n || !from || !own(__func__, from))
        REFUSE(hipErrorInvalidValue, "%zu bytes from %p, which are no device memory", n, (void *)src);
    if (!region(HOST_MEMORY, dst, n))
        REFUSE(hipErrorInvalidValue, "to pageable memory: not asynchronous");
    result = queue(__func__, stream, &op);
})

hipError_t hipMemsetD8Async(hipDeviceptr_t dst, unsigned char byte, size_t n, hipStream_t stream) CALL({
    Op op = {.kind = FILL, .dst = dst, .n = n, .byte = byte};
    Object *to = region(DEVICE_MEMORY, dst, n);
    if (!n || !to || !own(__func__, to))
        REFUSE(hipErrorInvalidValue, "%zu bytes at %p, which are no device memory", n, (void *)dst);
    result = queue(__func__, stream, &op);
})

hipError_t hipMemcpyPeerAsync(void *dst, int device, const void *src, int peer, size_t n, hipStream_t stream) CALL({
    Op op = {.kind = PEER, .dst = dst, .src = src, .n = n};
    Object *to = region(DEVICE_MEMORY, dst, n);
    Object *from = region(DEVICE_MEMORY, src, n);
    if (!n || !to || !from || to->device != device || from->device != peer || !own(__func__, to))
        REFUSE(hipErrorInvalidValue, "%zu bytes from %p of device %d to %p of %d: not there", n, src, peer, dst, device);
    if (device == peer || !reaches[device][peer])
        REFUSE(hipErrorInvalidValue, "no peer access from %d to %d: through host memory, slowly", device, peer);
    result = queue(__func__, stream, &op);
})

/* Its own memory; the host's, if it was asked for so; fine-grained memory of a device that it reaches. */
static bool reachable(const void *p) {
    const Object *host = region(HOST_MEMORY, p, 1), *at = region(DEVICE_MEMORY, p, 1);
    if (host) return host->mapped;
    return at && (at->device == current || (at->fine && reaches[current][at->device]));
}

/* --- modules and launches --------------------------------------------------------------------------------------------------------------- */

static size_t elf_size(const void *image) {
    Elf64_Ehdr h;
    memcpy(&h, image, sizeof h);
    return memcmp(h.e_ident, ELFMAG, SELFMAG) ? 0 : h.e_shoff + (size_t)h.e_shnum * h.e_shentsize;
}

/* Decoded already, for another device. */
static EmuModule *decoded(const void *image) {
    for (Object *o = objects; o; o = o->next)
        if (o->kind == MODULE && o->p == image) return o->code;
    return NULL;
}

hipError_t hipModuleLoadData(hipModule_t *module, const void *image) CALL({
    Err e = {""};
    size_t size = elf_size(image);
    EmuModule *code = decoded(image);
    if (!code && size) code = emu_load(image, size, &e);
    if (!code && size) fprintf(stderr, "fakehip: %s\n", e.msg);
    if (!code) {
        result = hipErrorNoBinaryForGpu;
        break;
    }
    Object *o = make(MODULE);
    o->code = code;
    o->p = (void *)(uintptr_t)image;
    *module = (hipModule_t)o;
})

hipError_t hipModuleUnload(hipModule_t module) CALL({
    Object *o = find(MODULE, module);
    if (!o) REFUSE(hipErrorInvalidHandle, "no module");
    if (needed(o)) REFUSE(hipErrorInvalidHandle, "a launch of it is queued");
    for (Object *f = objects, *next; f; f = next) {
        next = f->next;
        if (f->kind == FUNCTION && f->module == o) drop(f);
    }
    EmuModule *code = o->code;
    const void *image = o->p;
    drop(o);
    if (!decoded(image)) emu_unload(code);
})

hipError_t hipModuleGetFunction(hipFunction_t *function, hipModule_t module, const char *name) CALL({
    Object *m = find(MODULE, module);
    if (!m) REFUSE(hipErrorInvalidHandle, "no module");
    const EmuKernel *k = emu_kernel_find(m->code, name);
    if (!k) {
        result = hipErrorNotFound;
        break;
    }
    Object *o = make(FUNCTION);
    o->module = m;
    o->code = m->code;
    o->kernel = k;
    *function = (hipFunction_t)o;
})

hipError_t hipModuleLaunchKernel(hipFunction_t f, unsigned int gx, unsigned int gy, unsigned int gz,
                                 unsigned int bx, unsigned int by, unsigned int bz, unsigned int lds,
                                 hipStream_t stream, void **params, void **extra) CALL({
    Object *o = find(FUNCTION, f);
    Op op = {.kind = LAUNCH, .function = o, .grid = {gx, gy, gz}, .block = {bx, by, bz}, .lds = lds};
    if (!o || !own(__func__, o->module)) REFUSE(hipErrorInvalidHandle, "no function");
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024)
        REFUSE(hipErrorInvalidValue, "grid %u %u %u of %u %u %u", gx, gy, gz, bx, by, bz);
    if (!params || extra) REFUSE(hipErrorInvalidValue, "not by params");
    op.args_size = o->kernel->explicit_bytes; /* gptoss passes pointers only */
    for (size_t i = 0; i < op.args_size / 8; i++) {
        memcpy(&op.args[i], params[i], 8);
        if (op.args[i] && !reachable((void *)op.args[i]))
            REFUSE(hipErrorInvalidValue, "argument %zu is no memory that the device reaches", i);
    }
    result = result ? result : queue(__func__, stream, &op);
})

/* --- graphs --------------------------------------------------------------------------------------------------------------------------- */

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) CALL({
    Object *s = find(STREAM, stream);
    if (!s || s->capturing) REFUSE(hipErrorInvalidHandle, "no stream, or it is capturing");
    if (mode != hipStreamCaptureModeThreadLocal)
        REFUSE(hipErrorInvalidValue, "mode %d: other threads' calls would fail", (int)mode);
    s->capturing = true;
})

hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t *graph) CALL({
    Object *s = find(STREAM, stream);
    if (!s || !s->capturing) REFUSE(hipErrorInvalidHandle, "no stream, or it is not capturing");
    Object *g = make(GRAPH);
    g->ops = s->captured;
    s->captured = (Ops){0};
    s->capturing = false;
    *graph = (hipGraph_t)g;
})

hipError_t hipGraphInstantiate(hipGraphExec_t *exec, hipGraph_t graph, hipGraphNode_t *node, char *log, size_t size) CALL({
    Object *g = find(GRAPH, graph);
    (void)node, (void)log, (void)size;
    if (!g) REFUSE(hipErrorInvalidHandle, "no graph");
    Object *x = make(EXEC);
    for (size_t i = 0; i < g->ops.n; i++) push(&x->ops, &g->ops.at[i]);
    *exec = (hipGraphExec_t)x;
})

hipError_t hipGraphDestroy(hipGraph_t graph) CALL({
    Object *g = find(GRAPH, graph);
    if (!g) REFUSE(hipErrorInvalidHandle, "no graph");
    drop(g);
})

hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) CALL({
    Object *x = find(EXEC, exec);
    if (!x || !own(__func__, x)) REFUSE(hipErrorInvalidHandle, "no graph exec");
    for (size_t i = 0; i < x->ops.n && !result; i++) {
        if (!find(FUNCTION, x->ops.at[i].function))
            REFUSE(hipErrorInvalidHandle, "a kernel of it has been unloaded");
        result = queue(__func__, stream, &x->ops.at[i]);
    }
})

hipError_t hipGraphExecDestroy(hipGraphExec_t exec) CALL({
    Object *x = find(EXEC, exec);
    if (!x) REFUSE(hipErrorInvalidHandle, "no graph exec");
    drop(x);
})
