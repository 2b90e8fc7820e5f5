/* fuzz_seed.c - writes the code objects that fuzz_code begins with: small kernels that use much of the machine.
 * fuzz_seed PLAN OUT: the plan without its kernels, small and quick, for ref. */
#include "fuzz.h"
#include "plan/plan.h"
#include "rtc/rtc.h"

static const char *const sources[] = {
    "extern \"C\" __global__ void add(float *y, const float *x) { y[threadIdx.x] += x[threadIdx.x]; }\n",
    "extern \"C\" __global__ void reduce(float *y, const float *x) {\n"
    "    __shared__ float s[64];\n"
    "    float v = x[threadIdx.x];\n"
    "    for (int m = 32; m; m >>= 1) v += __shfl_xor(v, m);\n"
    "    s[threadIdx.x ^ 5] = v; __syncthreads();\n"
    "    y[threadIdx.x] = expf(s[threadIdx.x]) / (1.f + s[63 - threadIdx.x]);\n"
    "    atomicAdd((int *)y + 64, 1);\n"
    "}\n"
    "extern \"C\" __global__ void scratch(int *y, const int *x) {\n"
    "    int a[40];\n"
    "    for (int k = 0; k < 40; k++) a[k] = x[k];\n"
    "    for (int k = 0; k < 8; k++) a[(unsigned)x[k + threadIdx.x] % 40] += k;\n"
    "    y[threadIdx.x] = a[(unsigned)x[threadIdx.x] % 40] + gridDim.x + blockDim.x;\n"
    "}\n",
    "typedef float f4 __attribute__((ext_vector_type(4)));\n"
    "typedef short s4 __attribute__((ext_vector_type(4)));\n"
    "extern \"C\" __global__ void mma(f4 *y, const s4 *x, double *d) {\n"
    "    f4 c = y[threadIdx.x & 15];\n"
    "    c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(x[threadIdx.x], x[64], c, 0, 0, 0);\n"
    "    y[threadIdx.x & 15] = c; d[threadIdx.x] = fma(d[threadIdx.x], 1.5, (double)c.x);\n"
    "}\n"
    "__device__ int counter[4] = {1, 2, 3, 4};\n"
    "__device__ __attribute__((noinline)) int deep(int n) { return n ? deep(n - 1) + counter[n & 3] : 1; }\n"
    "extern \"C\" __global__ void calls(int *y, int n) { y[threadIdx.x] = deep(3); counter[1]++; }\n",
};

static bool bare_plan(const char *from, const char *to, Err *e) {
    Plan *p = plan_open(from, e);
    if (!p) return false;
    p->n_modules = p->n_kernels = 0;
    for (int g = 0; g < p->n_graphs; g++) p->graphs[g].n_launches = 0;
    bool ok = plan_write(p, to, e);
    plan_close(p);
    return ok;
}

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {0};
    bool ok = argc == 2;
    if (argc == 3) return bare_plan(argv[1], argv[2], &e) ? 0 : (fprintf(stderr, "%s\n", e.msg), 1);
    RtcJob jobs[LEN(sources)] = {0};
    for (size_t i = 0; i < LEN(sources); i++)
        jobs[i] = (RtcJob){.name = arena_printf(a, "seed%zu.hip", i), .source = sources[i], .arch = "gfx90a"};
    if (!ok) fputs("usage: fuzz_seed FOLDER, or PLAN OUT\n", stderr);
    if (ok && !(ok = rtc_compile(a, RTC_HIP, jobs, LEN(sources), NULL, &e))) fprintf(stderr, "%s\n", e.msg);
    for (size_t i = 0; ok && i < LEN(sources); i++)
        if (!(ok = file_write(arena_printf(a, "%s/%zu.co", argv[1], i), jobs[i].code, jobs[i].code_size, &e)))
            fprintf(stderr, "%s\n", e.msg);
    arena_free(a);
    return !ok;
}
