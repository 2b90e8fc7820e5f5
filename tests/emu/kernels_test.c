/* kernels_test.c - whole HIP kernels, compiled by hipRTC, executed by the emulator, compared with plain C; and kernels with a
 * planted bug, each of which must be reported in the right words.
 * The program is compiled four ways, and run in order and under two seeds. */
#include <math.h>

#include "runtime/emu/emu.h"
#include "rtc.h"

static int failed;
static EmuModule *module;
static EmuMem *mem;
static EmuCounts counts;

static void verdict(const char *name, bool ok, const char *why) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failed++;
    fflush(stdout);
}

#pragma GCC diagnostic ignored "-Woverlength-strings"
static const char source[] =
"typedef float f4 __attribute__((vector_size(16)));\n"
"typedef short s4 __attribute__((vector_size(8)));\n"
"typedef unsigned long long u64;\n"
"#define K extern \"C\" __global__ void\n"
"K gemv(double *y, const double *a, const double *x, int n) {\n"
"    __shared__ double part[4];\n"
"    double s = 0;\n"
"    for (int k = threadIdx.x; k < n; k += 256) s += a[(long)blockIdx.x * n + k] * x[k];\n"
"    for (int m = 32; m; m >>= 1) s += __shfl_xor(s, m);\n"
"    if (threadIdx.x % 64 == 0) part[threadIdx.x / 64] = s;\n"
"    __syncthreads();\n"
"    if (threadIdx.x == 0) y[blockIdx.x] = (part[0] + part[1]) + (part[2] + part[3]);\n"
"}\n"
"K gemm(float *c, const unsigned short *a, const unsigned short *b, int n, int k) {\n" /* c[m][n] = a[m][k] b[n][k]; 32x32 tiles */
"    __shared__ unsigned short ta[32 * 36], tb[32 * 36];\n"
"    int wave = threadIdx.x / 64, lane = threadIdx.x % 64, wm = wave / 2 * 16, wn = wave % 2 * 16;\n"
"    f4 acc = {0, 0, 0, 0};\n"
"    for (int kk = 0; kk < k; kk += 32) {\n"
"        for (int t = threadIdx.x; t < 1024; t += 256) {\n"
"            ta[t / 32 * 36 + t % 32] = a[(blockIdx.y * 32 + t / 32) * k + kk + t % 32];\n"
"            tb[t / 32 * 36 + t % 32] = b[(blockIdx.x * 32 + t / 32) * k + kk + t % 32];\n"
"        }\n"
"        __syncthreads();\n"
"        for (int s = 0; s < 32; s += 16) {\n"
"            s4 x = *(s4 *)&ta[(wm + lane % 16) * 36 + s + lane / 16 * 4], y = *(s4 *)&tb[(wn + lane % 16) * 36 + s + lane / 16 * 4];\n"
"            typedef short v4 __attribute__((ext_vector_type(4))); typedef float w4 __attribute__((ext_vector_type(4)));\n"
"            acc = (f4)__builtin_amdgcn_mfma_f32_16x16x16bf16_1k((v4)x, (v4)y, (w4)acc, 0, 0, 0);\n"
"        }\n"
"        __syncthreads();\n"
"    }\n"
"    for (int r = 0; r < 4; r++) c[(blockIdx.y * 32 + wm + lane / 16 * 4 + r) * n + blockIdx.x * 32 + wn + lane % 16] = acc[r];\n"
"}\n"
"K softmax(float *y, const float *x, int n) {\n"
"    float m = -__builtin_inff(), s = 0;\n"
"    x += (long)blockIdx.x * n; y += (long)blockIdx.x * n;\n"
"    for (int k = threadIdx.x; k < n; k += 64) m = fmaxf(m, x[k]);\n"
"    for (int d = 32; d; d >>= 1) m = fmaxf(m, __shfl_xor(m, d));\n"
"    for (int k = threadIdx.x; k < n; k += 64) s += expf(x[k] - m);\n"
"    for (int d = 32; d; d >>= 1) s += __shfl_xor(s, d);\n"
"    for (int k = threadIdx.x; k < n; k += 64) y[k] = expf(x[k] - m) / s;\n"
"}\n"
"K argmax(u64 *best, const float *x, int n, int *votes) {\n"
"    int i = blockIdx.x * 256 + threadIdx.x;\n"
"    if (i >= n) return;\n"
"    unsigned b = __float_as_uint(x[i]);\n"
"    b = b >> 31 ? ~b : b | 0x80000000u;\n"
"    atomicMax(best, (u64)b << 32 | (unsigned)~i);\n"
"    u64 pos = __ballot(x[i] > 0);\n"
"    if (threadIdx.x % 64 == 0) atomicAdd(votes, __popcll(pos));\n"
"}\n"
"K divide(int *q, unsigned *r, long *lq, u64 *lr, double *f, float *g, const long *a, const long *b) {\n"
"    int i = blockIdx.x * 64 + threadIdx.x;\n"
"    q[i] = (int)a[i] / (int)b[i]; r[i] = (unsigned)a[i] % (unsigned)b[i];\n"
"    lq[i] = a[i] / b[i]; lr[i] = (u64)a[i] % (u64)b[i];\n"
"    f[i] = (double)a[i] / (double)b[i]; g[i] = (float)a[i] / (float)b[i];\n"
"}\n"
"K local(int *out, const int *in, const int *at) {\n"
"    int a[24], i = threadIdx.x;\n"
"    for (int k = 0; k < 24; k++) a[k] = in[k] * (i + 1);\n"
"    for (int k = 0; k < 8; k++) a[at[(i + k) & 63] % 24] += k;\n"
"    int *p = at[i] & 1 ? a + at[i] % 24 : out + 64 + i;\n" /* generic: scratch or global */
"    *p = *p + 1000;\n"
"    out[i] = a[at[i] % 24] + a[(at[i] + 5) % 24];\n"
"}\n"
"__device__ __attribute__((noinline)) float twice(float x, int n) { return n ? twice(x, n - 1) * 2 : x; }\n"
"__constant__ float table[4] = {1, 10, 100, 1000};\n"
"__device__ int counter = 5;\n"
"K calls(float *out, int n) {\n"
"    int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
"    out[i] = twice(table[i & 3], n) + gridDim.x;\n"
"    if (i == 0) out[1] += counter++;\n"
"}\n"
"K math(float *y, const float *x) {\n"
"    int i = blockIdx.x * 64 + threadIdx.x;\n"
"    y[8 * i] = sinf(x[i]); y[8 * i + 1] = cosf(x[i] * 1000); y[8 * i + 2] = logf(fabsf(x[i])); y[8 * i + 3] = powf(fabsf(x[i]), 1.7f);\n"
"    y[8 * i + 4] = sqrtf(fabsf(x[i])); y[8 * i + 5] = tanhf(x[i]); y[8 * i + 6] = rsqrtf(fabsf(x[i])); y[8 * i + 7] = erff(x[i]);\n"
"}\n"
"K dmath(double *y, const double *x) {\n"
"    int i = threadIdx.x;\n"
"    y[4 * i] = sin(x[i] * 1e6); y[4 * i + 1] = exp(x[i]); y[4 * i + 2] = log(fabs(x[i])); y[4 * i + 3] = sqrt(fabs(x[i]));\n"
"}\n"
"K halves(_Float16 *y, const _Float16 *x, signed char *c) {\n"
"    int i = threadIdx.x;\n"
"    y[i] = x[i] * x[i] + x[63 - i]; y[64 + i] = x[i] / x[63 - i]; c[i] = (signed char)(c[i] * 3 + (int)x[i]);\n"
"}\n"
"K oob(int *p, int n) { int i = blockIdx.x * 64 + threadIdx.x; if (i <= n) p[i] = i; }\n"
"K uninit(int *p, const int *q) { p[threadIdx.x] = q[threadIdx.x] + 1; }\n"
"K nobarrier(int *p, int sync) {\n"
"    __shared__ int s[256];\n"
"    s[threadIdx.x] = threadIdx.x; \n"
"    if (sync) __syncthreads();\n"
"    p[threadIdx.x] = s[255 - threadIdx.x];\n"
"}\n"
"K ldsout(int *p, int k) { __shared__ int s[64]; s[(threadIdx.x + k) * 4] = 1; p[threadIdx.x] = s[threadIdx.x]; }\n"
"K hang(volatile int *p) { while (p[0] == 0) {} }\n"
"K ordered(int *p) { __shared__ volatile int turn; if (threadIdx.x == 0) turn = 0; __syncthreads();\n" /* waves wait for each other */
"    int w = 3 - threadIdx.x / 64; while (turn != w) {} if (threadIdx.x % 64 == 0) { p[w] = w * 10; turn = w + 1; } }\n"
"K trap(int *p) { if (p[threadIdx.x] == 3) __builtin_trap(); }\n"
"K lines(int *p) { p[threadIdx.x] = threadIdx.x + 1000 * threadIdx.y + 100000 * blockIdx.y + 1000000 * blockIdx.z; }\n";

static bool launch(const char *kernel, uint32_t grid, uint32_t block, const void *args, size_t size, uint64_t seed, uint32_t threads, Err *e) {
    EmuLaunch l = {.kernel = kernel, .grid = {grid, 1, 1}, .block = {block, 1, 1}, .kernarg = args, .kernarg_size = size,
                   .seed = seed, .threads = threads, .max_instructions = 2000000};
    return emu_launch(module, mem, &l, &counts, e);
}
#define LAUNCH(k, grid, block, ...) launch(k, grid, block, &(__VA_ARGS__), sizeof(__VA_ARGS__), seed, threads, &e)

static void *buffer(size_t size, const char *name, bool initialised) {
    void *p = calloc(1, size);
    Err e;
    if (!p || !emu_mem_add(mem, p, size, name, initialised, &e)) exit(2);
    return p;
}
static void drop(void *p) {
    emu_mem_remove(mem, p);
    free(p);
}
static uint64_t rng = 1;
static double uniform(void) { /* in [-1, 1) */
    rng = rng * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(int64_t)rng / 9223372036854775808.0;
}
static bool close_to(double got, double want, double tol) { return fabs(got - want) <= tol * (1 + fabs(want)) || (got != got && want != want); }

static void test_gemv(uint64_t seed, uint32_t threads) {
    enum { M = 24, N = 1000 };
    double *y = buffer(M * 8, "y", false), *a = buffer(M * N * 8, "a", true), *x = buffer(N * 8, "x", true);
    for (int i = 0; i < M * N; i++) a[i] = uniform();
    for (int i = 0; i < N; i++) x[i] = uniform();
    Err e = {0};
    bool ok = LAUNCH("gemv", M, 256, (struct { double *y, *a, *x; int n; }){y, a, x, N});
    for (int m = 0; ok && m < M; m++) {
        double s = 0;
        for (int k = 0; k < N; k++) s += a[m * N + k] * x[k];
        if (!close_to(y[m], s, 1e-13)) ok = err_set(&e, "row %d is %.17g, expected %.17g", m, y[m], s);
    }
    verdict("gemv_f64", ok, e.msg);
    drop(y), drop(a), drop(x);
}

static void test_gemm(uint64_t seed, uint32_t threads) {
    enum { M = 64, N = 96, K = 160 };
    float *c = buffer(M * N * 4, "c", false);
    uint16_t *a = buffer(M * K * 2, "a", true), *b = buffer(N * K * 2, "b", true);
    for (int i = 0; i < M * K; i++) a[i] = bf16_of_f32((float)uniform());
    for (int i = 0; i < N * K; i++) b[i] = bf16_of_f32((float)uniform());
    Err e = {0};
    EmuLaunch l = {.kernel = "gemm", .grid = {N / 32, M / 32, 1}, .block = {256, 1, 1}, .seed = seed, .threads = threads};
    struct { float *c; uint16_t *a, *b; int n, k; } args = {c, a, b, N, K};
    l.kernarg = &args, l.kernarg_size = sizeof args;
    bool ok = emu_launch(module, mem, &l, &counts, &e);
    for (int m = 0; ok && m < M; m++)
        for (int n = 0; ok && n < N; n++) {
            double s = 0;
            for (int k = 0; k < K; k++) s += (double)f32_of_bf16(a[m * K + k]) * f32_of_bf16(b[n * K + k]);
            if (!close_to(c[m * N + n], s, 1e-5)) ok = err_set(&e, "[%d][%d] is %g, expected %g", m, n, c[m * N + n], s);
        }
    verdict("gemm_bf16_mfma", ok, e.msg);
    drop(c), drop(a), drop(b);
}

static void test_softmax(uint64_t seed, uint32_t threads) {
    enum { R = 7, N = 333 };
    float *y = buffer(R * N * 4, "y", false), *x = buffer(R * N * 4, "x", true);
    for (int i = 0; i < R * N; i++) x[i] = (float)(uniform() * 20);
    Err e = {0};
    bool ok = LAUNCH("softmax", R, 64, (struct { float *y, *x; int n; }){y, x, N});
    for (int r = 0; ok && r < R; r++) {
        double m = -INFINITY, s = 0;
        for (int k = 0; k < N; k++) m = fmax(m, x[r * N + k]);
        for (int k = 0; k < N; k++) s += exp((double)(x[r * N + k] - (float)m)); /* the kernel's own difference, in f32 */
        for (int k = 0; ok && k < N; k++) {
            double want = exp((double)(x[r * N + k] - (float)m)) / s;
            if (fabs(y[r * N + k] - want) > 1e-6 * want + 1e-30) ok = err_set(&e, "[%d][%d] is %g, expected %g", r, k, y[r * N + k], want);
        }
    }
    verdict("softmax_expf", ok, e.msg);
    drop(y), drop(x);
}

static void test_argmax(uint64_t seed, uint32_t threads) {
    enum { N = 2000 };
    uint64_t *best = buffer(8, "best", true);
    int *votes = buffer(4, "votes", true), positive = 0, at = 0;
    float *x = buffer(N * 4, "x", true);
    for (int i = 0; i < N; i++) x[i] = (float)uniform(), positive += x[i] > 0, at = x[i] > x[at] ? i : at;
    Err e = {0};
    bool ok = LAUNCH("argmax", 8, 256, (struct { uint64_t *b; float *x; int n; int *v; }){best, x, N, votes});
    if (ok && ~(uint32_t)*best != (uint32_t)at) ok = err_set(&e, "argmax is %u, expected %d", ~(uint32_t)*best, at);
    if (ok && *votes != positive) ok = err_set(&e, "%d positive, expected %d", *votes, positive);
    verdict("argmax_atomics_ballot", ok, e.msg);
    drop(best), drop(votes), drop(x);
}

static void test_divide(uint64_t seed, uint32_t threads) {
    enum { N = 512 };
    int64_t *a = buffer(N * 8, "a", true), *b = buffer(N * 8, "b", true), *lq = buffer(N * 8, "lq", false);
    uint64_t *lr = buffer(N * 8, "lr", false);
    int *q = buffer(N * 4, "q", false);
    unsigned *r = buffer(N * 4, "r", false);
    double *f = buffer(N * 8, "f", false);
    float *g = buffer(N * 4, "g", false);
    for (int i = 0; i < N; i++) {
        a[i] = (int64_t)(uniform() * 9e18) >> (i % 60), b[i] = (int64_t)(uniform() * 9e18) >> (i * 7 % 59);
        if (!(int32_t)b[i]) b[i] |= 3;
    }
    Err e = {0};
    bool ok = LAUNCH("divide", N / 64, 64, (struct { void *q, *r, *lq, *lr, *f, *g, *a, *b; }){q, r, lq, lr, f, g, a, b});
    for (int i = 0; ok && i < N; i++) {
        bool trap = (int32_t)a[i] == INT32_MIN && (int32_t)b[i] == -1;
        if (!trap && q[i] != (int32_t)a[i] / (int32_t)b[i]) ok = err_set(&e, "%d: i32 quotient", i);
        else if (r[i] != (uint32_t)a[i] % (uint32_t)b[i]) ok = err_set(&e, "%d: u32 remainder", i);
        else if (lq[i] != a[i] / b[i]) ok = err_set(&e, "%d: i64 quotient", i);
        else if (lr[i] != (uint64_t)a[i] % (uint64_t)b[i]) ok = err_set(&e, "%d: u64 remainder", i);
        else if (f[i] != (double)a[i] / (double)b[i]) ok = err_set(&e, "%d: f64 quotient %.17g, expected %.17g", i, f[i], (double)a[i] / (double)b[i]);
        else if (g[i] != (float)a[i] / (float)b[i]) ok = err_set(&e, "%d: f32 quotient %.9g, expected %.9g", i, g[i], (float)a[i] / (float)b[i]);
    }
    verdict("divide", ok, e.msg);
    drop(a), drop(b), drop(lq), drop(lr), drop(q), drop(r), drop(f), drop(g);
}

static void test_local(uint64_t seed, uint32_t threads) {
    int *out = buffer(128 * 4, "out", true), *in = buffer(24 * 4, "in", true), *at = buffer(64 * 4, "at", true);
    for (int i = 0; i < 24; i++) in[i] = i * 7 + 1;
    for (int i = 0; i < 64; i++) at[i] = (i * 37 + 11) % 97;
    Err e = {0};
    bool ok = LAUNCH("local", 1, 64, (struct { int *o, *i, *a; }){out, in, at});
    for (int i = 0; ok && i < 64; i++) {
        int a[24], far = 0;
        for (int k = 0; k < 24; k++) a[k] = in[k] * (i + 1);
        for (int k = 0; k < 8; k++) a[at[(i + k) & 63] % 24] += k;
        *(at[i] & 1 ? a + at[i] % 24 : &far) += 1000;
        int want = a[at[i] % 24] + a[(at[i] + 5) % 24];
        if (out[i] != want || out[64 + i] != far) ok = err_set(&e, "%d is %d and %d, expected %d and %d", i, out[i], out[64 + i], want, far);
    }
    verdict("scratch_and_flat", ok, e.msg);
    drop(out), drop(in), drop(at);
}

static void test_calls(uint64_t seed, uint32_t threads) {
    float *out = buffer(256 * 4, "out", false);
    Err e = {0};
    (void)threads;
    bool ok = true;
    for (int pass = 0; pass < 2 && ok; pass++) { /* the __device__ counter lives in the module */
        emu_mem_mark(mem, out, 256 * 4, false);
        threads = 1;
        ok = LAUNCH("calls", 2, 128, (struct { float *o; int n; }){out, 3});
        for (int i = 0; ok && i < 256; i++) {
            static const float table[4] = {1, 10, 100, 1000};
            float want = table[i & 3] * 8 + 2;
            if (i != 1 && out[i] != want) ok = err_set(&e, "%d is %g, expected %g", i, out[i], want);
        }
    }
    verdict("calls_constants_globals", ok, e.msg);
    drop(out);
}

static void test_math(uint64_t seed, uint32_t threads) {
    enum { N = 256 };
    float *y = buffer(N * 32, "y", false), *x = buffer(N * 4, "x", true);
    for (int i = 0; i < N; i++) x[i] = (float)(uniform() * 10);
    Err e = {0};
    bool ok = LAUNCH("math", N / 64, 64, (struct { float *y, *x; }){y, x});
    for (int i = 0; ok && i < N; i++) {
        double v = x[i], av = fabs(v), want[8] = {sin(v), cos((double)(x[i] * 1000)), log(av), pow(av, (double)1.7f), sqrt(av), tanh(v), 1 / sqrt(av), erf(v)};
        for (int k = 0; ok && k < 8; k++)
            if (!close_to(y[8 * i + k], want[k], 1e-6)) ok = err_set(&e, "function %d of %g is %g, expected %g", k, v, y[8 * i + k], want[k]);
    }
    verdict("math_f32", ok, e.msg);
    drop(y), drop(x);
    double *dy = buffer(64 * 32, "y", false), *dx = buffer(64 * 8, "x", true);
    for (int i = 0; i < 64; i++) dx[i] = uniform() * 10;
    ok = LAUNCH("dmath", 1, 64, (struct { double *y, *x; }){dy, dx});
    for (int i = 0; ok && i < 64; i++) {
        double v = dx[i], want[4] = {sin(v * 1e6), exp(v), log(fabs(v)), sqrt(fabs(v))};
        for (int k = 0; ok && k < 4; k++)
            if (!close_to(dy[4 * i + k], want[k], 1e-13)) ok = err_set(&e, "function %d of %g is %.17g, expected %.17g", k, v, dy[4 * i + k], want[k]);
    }
    verdict("math_f64", ok, e.msg);
    drop(dy), drop(dx);
}

static double half_value(uint16_t h) {
    int ex = h >> 10 & 31, m = h & 1023;
    double v = ex ? ldexp(1024 + m, ex - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

static void test_half(uint64_t seed, uint32_t threads) {
    uint16_t *y = buffer(256, "y", false), *x = buffer(128, "x", true);
    signed char *c = buffer(64, "c", true), was[64];
    for (int i = 0; i < 64; i++) x[i] = (uint16_t)(0x3800 + i * 97), c[i] = was[i] = (signed char)(i * 5);
    Err e = {0};
    bool ok = LAUNCH("halves", 1, 64, (struct { void *y, *x, *c; }){y, x, c});
    for (int i = 0; ok && i < 64; i++) {
        double a = half_value(x[i]), b = half_value(x[63 - i]), fma_ = a * a + b;
        if (fabs(half_value(y[i]) - fma_) > fma_ * 0x1p-10) ok = err_set(&e, "fma %d is %g, expected %g", i, half_value(y[i]), fma_);
        if (fabs(half_value(y[64 + i]) - a / b) > a / b * 0x1p-10) ok = err_set(&e, "quotient %d is %g, expected %g", i, half_value(y[64 + i]), a / b);
        if (c[i] != (signed char)(was[i] * 3 + (int)a)) ok = err_set(&e, "byte %d", i);
    }
    verdict("half_and_bytes", ok, e.msg);
    drop(y), drop(x), drop(c);
}

/* --- planted bugs -------------------------------------------------------------------------------------------------- */

static void expect(const char *name, bool ran, const Err *e, const char *const *words) {
    Err why = {0};
    bool ok = !ran || err_set(&why, "was not noticed");
    for (; ok && *words; words++)
        if (!strstr(e->msg, *words)) ok = err_set(&why, "'%s' is not in: %s", *words, e->msg);
    verdict(name, ok, why.msg);
}
#define WORDS(...) (const char *const[]){__VA_ARGS__, NULL}

static void test_bugs(void) {
    uint64_t seed = 0;
    uint32_t threads = 0;
    Err e = {0};
    int *p = buffer(128 * 4, "p", false), *q = buffer(128 * 4, "q", true);
    bool ran = LAUNCH("oob", 3, 64, (struct { int *p; int n; }){p, 128});
    expect("bug_out_of_bounds_store", ran, &e, WORDS("kernel oob", "workgroup (2,0,0)", "wave 0", "lane 0", "global_store_dword", "writes 4 bytes", "past the end of 'p'"));
    emu_mem_mark(mem, q, 512, true);
    emu_mem_mark(mem, q + 5, 4, false);
    ran = LAUNCH("uninit", 1, 64, (struct { int *p, *q; }){p, q});
    expect("bug_uninitialised_read", ran, &e, WORDS("kernel uninit", "lane 5", "global_load_dword", "byte 20 of 'q' was never written"));
    emu_mem_mark(mem, q, 512, true);
    verdict("uninitialised_read_mended", LAUNCH("uninit", 1, 64, (struct { int *p, *q; }){p, q}), e.msg);
    int *big = buffer(256 * 4, "big", false), seen = 0;
    for (seed = 0; seed < 20; seed++) {
        seen += !LAUNCH("nobarrier", 1, 256, (struct { int *p, s; }){big, 0});
        if (!LAUNCH("nobarrier", 1, 256, (struct { int *p, s; }){big, 1})) verdict("barrier_kept", false, e.msg);
    }
    seed = 0;
    verdict("bug_removed_barrier", seen >= 10, "fewer than 10 of 20 seeds show it");
    ran = LAUNCH("nobarrier", 1, 256, (struct { int *p, s; }){big, 0});
    expect("bug_uninitialised_lds", ran, &e, WORDS("kernel nobarrier", "ds_read", "LDS offset 10", "was never written"));
    ran = LAUNCH("ldsout", 1, 64, (struct { int *p, k; }){p, 10});
    expect("bug_lds_out_of_bounds", ran, &e, WORDS("kernel ldsout", "lane 6", "ds_write", "LDS offset 256", "outside its 256 bytes"));
    ran = LAUNCH("hang", 1, 64, (struct { int *p; }){q});
    expect("bug_infinite_loop", ran, &e, WORDS("kernel hang", "hung", "2000000 instructions"));
    for (int i = 0; i < 64; i++) q[i] = i / 32 * 3;
    ran = LAUNCH("trap", 1, 64, (struct { int *p; }){q});
    expect("bug_trap", ran, &e, WORDS("kernel trap", "s_trap"));
    ran = LAUNCH("nosuch", 1, 64, (struct { int *p; }){q});
    expect("bug_no_such_kernel", ran, &e, WORDS("no kernel named nosuch"));
    ran = launch("oob", 1, 64, &p, 8, 0, 0, &e);
    expect("bug_too_few_arguments", ran, &e, WORDS("8 bytes of arguments", "takes 12"));
    verdict("check_unwritten", !emu_mem_check(mem, big + 300, 4, &e), "bytes outside a region pass");
    verdict("waves_wait_for_each_other", (seed = 0, LAUNCH("ordered", 1, 256, (struct { int *p; }){big})) && big[3] == 30, e.msg);
    drop(p), drop(q), drop(big);
}

/* Results do not depend on the thread count, nor on the seed; only: and block shapes. */
static void test_schedule(void) {
    Err e = {0};
    int *p = buffer(4096, "p", false);
    struct { int *p; } args = {p};
    uint32_t only[] = {5};
    EmuLaunch l = {.kernel = "lines", .grid = {1, 2, 3}, .block = {8, 4, 2}, .kernarg = &args, .kernarg_size = 8, .only = only, .n_only = 1};
    EmuCounts c = {0};
    bool ok = emu_launch(module, mem, &l, &c, &e);
    if (ok && (p[3] % 1000 != 3 || p[3] / 100000 != 21)) ok = err_set(&e, "workgroup 5 of (1,2,3) wrote %d", p[3]);
    if (ok && (c.waves != 1 || c.launches != 1)) ok = err_set(&e, "%llu waves", (unsigned long long)c.waves);
    verdict("only_one_workgroup", ok, e.msg);
    drop(p);
    int *q = buffer(256 * 4, "q", false);
    char first[sizeof e.msg] = "";
    ok = true;
    for (uint32_t t = 1; ok && t <= 8; t++) { /* of several faults the first workgroup's is told */
        ok = !launch("oob", 64, 64, &(struct { int *p; int n; }){q, 4000}, 16, 0, t, &e);
        if (t == 1) snprintf(first, sizeof first, "%s", e.msg);
        else if (strcmp(first, e.msg)) ok = false;
    }
    verdict("same_fault_on_any_threads", ok && strstr(first, "workgroup (4,0,0)"), e.msg);
    drop(q);
}

int main(void) {
    Err e = {0};
    size_t size;
    static const char *const options[] = {"-O3", "-O1", "-O0", "-fgpu-flush-denormals-to-zero"};
    for (size_t o = 0; o < LEN(options); o++) {
        void *code = rtc_compile(source, options[o], &size, &e);
        if (!code && !strncmp(e.msg, "no hipRTC", 9)) return printf("skip kernels: %s\n", e.msg), 0;
        if (!code) return printf("FAIL compile %s: %s\n", options[o], e.msg), 1;
        module = emu_load(code, size, &e);
        if (!module) return printf("FAIL load %s: %s\n", options[o], e.msg), 1;
        mem = emu_mem_new();
        for (uint64_t seed = 0; seed < 3; seed++) {
            printf("# %s, seed %llu\n", options[o], (unsigned long long)seed);
            test_gemv(seed, 0), test_gemm(seed, 1), test_softmax(seed, 3), test_argmax(seed, 0), test_divide(seed, 0);
            test_local(seed, 0), test_calls(seed, 0), test_math(seed, 0), test_half(seed, 0);
        }
        if (o == 0) test_bugs(), test_schedule();
        emu_mem_free(mem);
        emu_unload(module);
        free(code);
    }
    return failed != 0;
}
