/* limits.c - see limits.h. Add a target: its source here. */
#include "limits.h"

#include "rtc/rtc.h"
#include "stamp.h"

enum { READ_BYTES = 1 << 30, LINK_BYTES = 1 << 27, READ_BLOCKS = 2048, THREADS = 512, HOST_BLOCK = 1 << 20, REPEATS = 7, HANDOVERS = 64 };

/* Sixteen bytes a load, eight loads of a thread under way, every block busy to the end. The sum is never that number. */
static const char read_source[] =
    "struct alignas(16) Quad { unsigned v[4]; };\n"
    "template <long N> static __device__ void read_all(const Quad *data, unsigned *out) {\n"
    "    const long step = (long)BLOCKS * THREADS, n = N / 16;\n"
    "    unsigned sum = 0;\n"
    "    for (long i = (long)blockIdx.x * THREADS + threadIdx.x; i + 7 * step < n; i += 8 * step) {\n"
    "        Quad q[8];\n"
    "#pragma unroll\n"
    "        for (int k = 0; k < 8; k++) q[k] = data[i + k * step];\n"
    "#pragma unroll\n"
    "        for (int k = 0; k < 8; k++) sum += q[k].v[0] ^ q[k].v[1] ^ q[k].v[2] ^ q[k].v[3];\n"
    "    }\n"
    "    if (sum == 0x9e3779b9u) out[blockIdx.x] = sum;\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(THREADS) limit_read(const Quad *data, unsigned *out) { read_all<BYTES>(data, out); }\n"
    "extern \"C\" __global__ void __launch_bounds__(THREADS) link_read(const Quad *data, unsigned *out) { read_all<LINK>(data, out); }\n"
    "extern \"C\" __global__ void __launch_bounds__(THREADS) link_write(Quad *data, unsigned *) {\n"
    "    const Quad q = {{1, 2, 3, 4}};\n"
    "    for (long i = (long)blockIdx.x * THREADS + threadIdx.x; i < LINK / 16; i += (long)BLOCKS * THREADS) data[i] = q;\n"
    "}\n";

static const char host_source[] =
    "typedef unsigned long Line __attribute__((vector_size(64)));\n"
    "__attribute__((visibility(\"default\"))) void limit_read(void *const *args, const int *at, void *room) {\n"
    "    const Line *p = (const Line *)((const char *)args[0] + (long)at[0] * BLOCK);\n"
    "    Line a = {0}, b = a, c = a, d = a;\n"
    "    (void)room;\n"
    "    for (long i = 0; i < BLOCK / 64; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];\n"
    "    a ^= b, c ^= d, a ^= c;\n"
    "    if ((a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7]) == 0x9e3779b97f4a7c15) *(unsigned long *)args[1] "
    "= a[0];\n"
    "}\n";

/* Eight independent tiles a wave. */
static const char mfma_source[] =
    "typedef float f32x4 __attribute__((vector_size(16)));\n"
    "typedef short s16x4 __attribute__((vector_size(8)));\n"
    "extern \"C\" __global__ void __launch_bounds__(256) limit_matrix(const s16x4 *data, float *out) {\n"
    "    const s16x4 a = data[threadIdx.x], b = data[256 + threadIdx.x];\n"
    "    f32x4 c[8] = {};\n"
    "    for (int i = 0; i < LOOPS; i++)\n"
    "#pragma unroll\n"
    "        for (int k = 0; k < 8; k++) c[k] = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c[k], 0, 0, 0);\n"
    "    float sum = 0;\n"
    "    for (int k = 0; k < 8; k++) sum += c[k][0] + c[k][1] + c[k][2] + c[k][3];\n"
    "    if (sum == 12345.678f) out[blockIdx.x] = sum;\n"
    "}\n";

/* wgmma m64n256k16, two warpgroups a block, both operands from shared memory: 8x16-byte cores one behind the other. */
static void wgmma_source(Text *t) {
    text_add(t, "typedef unsigned long long u64;\n"
                "static __device__ u64 descriptor(const void *p) {\n"
                "    u64 at;\n"
                "    asm(\"{ .reg .u64 t; cvta.to.shared.u64 t, %%1; mov.u64 %%0, t; }\" : \"=l\"(at) : \"l\"(p));\n"
                "    return (at & 0x3ffff) >> 4 | (u64)(128 >> 4) << 16 | (u64)(256 >> 4) << 32;\n"
                "}\n"
                "static __device__ __forceinline__ void mma(float (&c)[128], u64 a, u64 b) {\n"
                "    asm volatile(\"wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {");
    for (int i = 0; i < 128; i++) text_add(t, "%s%%%d", i ? "," : "", i);
    text_add(t, "}, %%128, %%129, 1, 1, 1, 0, 0;\" : ");
    for (int i = 0; i < 128; i++) text_add(t, "%s\"+f\"(c[%d])", i ? ", " : "", i);
    text_add(t,
             " : \"l\"(a), \"l\"(b));\n"
             "}\n"
             "extern \"C\" __global__ void __launch_bounds__(256, 1) limit_matrix(const unsigned *data, float *out) {\n"
             "    __shared__ __align__(1024) unsigned w[2][64 * 16 / 2], x[256 * 16 / 2];\n"
             "    const int i = threadIdx.x, group = i / 128;\n"
             "    for (int k = i; k < 1024; k += 256) w[k / 512][k %% 512] = ((data[k] ^ k * 2654435761u) & "
             "0x807f807fu) | 0x3f003f00u;\n"
             "    for (int k = i; k < 2048; k += 256) x[k] = ((data[1024 + k] ^ k * 2654435761u) & 0x807f807fu) | "
             "0x3f003f00u;\n"
             "    __syncthreads();\n"
             "    asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\");\n"
             "    const u64 a = descriptor(w[group]), b = descriptor(x);\n"
             "    float c[128];\n"
             "#pragma unroll\n"
             "    for (int k = 0; k < 128; k++) c[k] = 0;\n"
             "    for (int k = 0; k < LOOPS; k++) {\n"
             "        asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
             "#pragma unroll\n"
             "        for (int j = 0; j < 8; j++) mma(c, a, b);\n"
             "        asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");\n"
             "        asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
             "    }\n"
             "    float sum = 0;\n"
             "#pragma unroll\n"
             "    for (int k = 0; k < 128; k++) sum += c[k];\n"
             "    if (sum == 12345.678f) out[blockIdx.x] = sum;\n"
             "}\n");
}

static void gpu_source(Limits *l, const char *arch, Text *t) {
    enum { WGMMA_LOOPS = 64, WGMMA_BLOCKS = 132 * 64, MFMA_LOOPS = 1024, MFMA_BLOCKS = 104 * 16 };
    text_add(t, "#define BYTES %dl\n#define LINK %dl\n#define BLOCKS %d\n#define THREADS %d\n%s", READ_BYTES, LINK_BYTES, READ_BLOCKS,
             THREADS, read_source);
    l->read_grid = READ_BLOCKS;
    if (!strcmp(arch, "sm_90")) {
        text_add(t, "#define LOOPS %d\n", WGMMA_LOOPS);
        wgmma_source(t);
        l->matrix_grid = WGMMA_BLOCKS;
        l->matrix_flops = (uint64_t)WGMMA_BLOCKS * 2 * WGMMA_LOOPS * 8 * (2 * 64 * 256 * 16);
    } else if (!strncmp(arch, "gfx90a", 6)) {
        text_add(t, "#define LOOPS %d\n%s", MFMA_LOOPS, mfma_source);
        l->matrix_grid = MFMA_BLOCKS;
        l->matrix_flops = (uint64_t)MFMA_BLOCKS * 4 * MFMA_LOOPS * 8 * (2 * 16 * 16 * 16);
    }
}

static RtcKind kind_of(const char *arch) {
    return !strncmp(arch, "host", 4) ? RTC_HOST : !strncmp(arch, "sm_", 3) ? RTC_CUDA : RTC_HIP;
}

static void why(Limits *l, const char *fmt, const char *what) {
    size_t n = strlen(l->why);
    snprintf(l->why + n, sizeof l->why - n, "%s", n ? "; " : "");
    n = strlen(l->why);
    snprintf(l->why + n, sizeof l->why - n, fmt, what);
}

void limits_compile(Limits *l, Arena *a, const char *device, const Plan *p) {
    RtcKind kind = kind_of(p->arch);
    Err e;
    const char *arch = kind == RTC_HOST ? rtc_host_target(a, &e) : p->arch;
    Text source = {0};
    *l = (Limits){.block = THREADS};
    if (!strcmp(device, "emu") || !strcmp(device, "ref")) {
        why(l, "device %s has no limits of its own", device);
        return;
    }
    if (kind == RTC_HOST) {
        text_add(&source, "#define BLOCK %dl\n%s", HOST_BLOCK, host_source);
        l->read_grid = READ_BYTES / HOST_BLOCK;
    } else gpu_source(l, p->arch, &source);
    static const char *const options[] = {"-O3"}; /* the GPUs' compilers need no telling */
    RtcJob job = {.name = "limits", .source = arena_strdup(a, source.at), .arch = arch, .options = options};
    job.n_options = kind == RTC_HOST;
    text_free(&source);
    if (!arch || !rtc_compile(a, kind, &job, 1, &(RtcOptions){.workers = 1}, &e)) {
        why(l, "not measured: %.300s", e.msg);
        return;
    }
    l->code = (PlanModule){.name = "limits", .source = job.source, .code = job.code, .code_size = job.code_size};
    if (!l->matrix_flops) why(l, "no matrix peak: there is no kernel for it on %s", p->arch);
}

/* The best of some runs. */
static bool best(Device *d, DeviceModule *m, const char *symbol, uint32_t grid, uint32_t block, void *const *args,
                 double *seconds, Err *e) {
    const PlanKernel k = {.symbol = symbol, .block = block};
    DeviceKernel *kernel = d->ops->kernel(d, m, &k, e);
    Stamp from = {0}, to = {0};
    bool ok = kernel != NULL;
    double one;
    for (int i = 0; ok && i < REPEATS; i++) {
        ok = stamp(&from, d, e) && d->ops->launch(d, 0, kernel, (uint32_t[]){grid, 1, 1}, block, 0, args, 2, e) &&
             stamp(&to, d, e) && stamp_between(&from, &to, d, &one, e);
        if (ok && (!i || one < *seconds)) *seconds = one;
    }
    stamp_free(&from, d), stamp_free(&to, d);
    return ok;
}

bool limits_measure(Limits *l, Device *d, Err *e) {
    void *args[2] = {0};
    double seconds = 0;
    Err none;
    if (!l->code.code) return true;
    if (!(args[0] = d->ops->alloc(d, READ_BYTES, "the memory that is read to measure", &none))) {
        why(l, "not measured: %.300s", none.msg);
        return true;
    }
    DeviceModule *m = NULL;
    bool ok = (args[1] = d->ops->alloc(d, (size_t)1 << 20, "limits", e)) &&
              d->ops->fill(d, 0, args[0], 0x5b, READ_BYTES, e) && (m = d->ops->module_load(d, &l->code, e)) &&
              best(d, m, "limit_read", l->read_grid, l->block, args, &seconds, e);
    if (ok) l->read = (double)READ_BYTES / seconds;
    if (ok && l->matrix_flops && (ok = best(d, m, "limit_matrix", l->matrix_grid, 256, args, &seconds, e)))
        l->matrix = (double)l->matrix_flops / seconds;
    if (ok) ok = d->ops->sync(d, 0, e);
    if (m) d->ops->module_unload(d, m);
    for (int i = 0; i < 2; i++)
        if (args[i]) d->ops->free(d, args[i]);
    return ok;
}

/* --- between two devices -------------------------------------------------------------------------------------------------- */

static bool best_copy(Device *to, void *dst, Device *from, const void *src, double *rate, Err *e) {
    Stamp begin = {0}, end = {0};
    bool ok = true;
    double one, least = 0;
    for (int i = 0; ok && i < REPEATS; i++) {
        ok = stamp(&begin, to, e) && to->ops->copy_from(to, 0, dst, from, src, LINK_BYTES, e) && stamp(&end, to, e) &&
             stamp_between(&begin, &end, to, &one, e);
        if (ok && (!i || one < least)) least = one;
    }
    stamp_free(&begin, to), stamp_free(&end, to);
    if (ok) *rate = (double)LINK_BYTES / least;
    return ok;
}

/* As exec.c hands over from one device to the other and back. */
static bool hand_over(Device *first, Device *other, double *seconds, Err *e) {
    const DeviceOps *ops = first->ops;
    DeviceEvent *there = ops->event(first, e), *back = there ? ops->event(other, e) : NULL;
    Stamp begin = {0}, end = {0};
    bool ok = back && stamp(&begin, first, e);
    for (int i = 0; ok && i < HANDOVERS; i++)
        ok = ops->record(first, 0, there, e) && ops->await(other, 0, there, e) && ops->record(other, 0, back, e) && ops->await(first, 0, back, e);
    ok = ok && stamp(&end, first, e) && stamp_between(&begin, &end, first, seconds, e);
    *seconds /= HANDOVERS;
    stamp_free(&begin, first), stamp_free(&end, first);
    if (there) ops->event_free(first, there);
    if (back) ops->event_free(other, back);
    return ok;
}

/* at: memory of the first, of the other, and a place for a sum there. */
static bool measure_link(Limits *l, Device *first, Device *other, void *const at[3], Err *e) {
    double seconds;
    void *const args[2] = {at[0], at[2]};
    DeviceModule *m = NULL;
    Err why;
    bool ok = first->ops->fill(first, 0, at[0], 0x5b, LINK_BYTES, e) && first->ops->sync(first, 0, e) && other->ops->fill(other, 0, at[1], 0x5b, LINK_BYTES, e) &&
              (m = other->ops->module_load(other, &l->code, e)) &&
              best(other, m, "link_read", l->read_grid, l->block, args, &seconds, e);
    if (ok) l->link_read = (double)LINK_BYTES / seconds;
    if (ok && (ok = best(other, m, "link_write", l->read_grid, l->block, args, &seconds, e))) l->link_write = (double)LINK_BYTES / seconds;
    (void)first->ops->reach(first, other, &why); /* if not, the copy goes through the host */
    ok = ok && other->ops->sync(other, 0, e) && best_copy(first, at[0], other, at[1], &l->link_from, e) && first->ops->sync(first, 0, e) &&
         best_copy(other, at[1], first, at[0], &l->link_to, e) && other->ops->sync(other, 0, e);
    if (m) other->ops->module_unload(other, m);
    return ok;
}

bool limits_measure_link(Limits *l, Device *first, Device *other, const char *reason, Err *e) {
    void *at[3] = {0};
    Err none = {""};
    if (!first->ops->await) return why(l, "%s", "no link: the devices are in one memory"), true;
    if (!hand_over(first, other, &l->handover, e)) return false;
    if (*reason) return why(l, "no link: %.300s", reason), true;
    if (!l->code.code) return true; /* why not is known */
    Err unreached = {""};
    bool room = (at[0] = first->ops->alloc_common(first, &other, 1, LINK_BYTES, "what another device reads", &unreached, &none)) &&
                (at[1] = other->ops->alloc(other, LINK_BYTES, "what comes from another device", &none)) &&
                (at[2] = other->ops->alloc(other, (size_t)1 << 20, "limits", &none));
    if (!room) why(l, "link not measured: %.300s", none.msg);
    bool ok = !room || measure_link(l, first, other, at, e);
    if (at[0]) first->ops->free_common(first, &other, 1, at[0]);
    for (int i = 1; i < 3; i++)
        if (at[i]) other->ops->free(other, at[i]);
    return ok;
}
