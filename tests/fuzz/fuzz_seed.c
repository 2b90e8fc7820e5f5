/* fuzz_seed.c - writes the code objects that fuzz_code begins with: small kernels that use much of the machine, an object each.
 * fuzz_seed PLAN OUT: the plan, nothing of it compressed; fuzz_seed -b PLAN OUT: without its kernels, small and quick, for ref;
 * fuzz_seed -s PLAN OUT: of its sources, which nothing reads that opens it, the beginning. */
#include <elf.h>

#include "fuzz.h"
#include "plan_parts.h"
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
    "}\n",
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
    "}\n",
    "__device__ int counter[4] = {1, 2, 3, 4};\n"
    "__device__ __attribute__((noinline)) int deep(int n) { return n ? deep(n - 1) + counter[n & 3] : 1; }\n"
    "extern \"C\" __global__ void calls(int *y, int n) { y[threadIdx.x] = deep(3); counter[1]++; }\n",
    "extern \"C\" __global__ void one(int *y) { *y = 1; }\n"
    "extern \"C\" __global__ void nothing() {}\n",
    "typedef int i4 __attribute__((ext_vector_type(4)));\n"
    "extern \"C\" __global__ void bits(i4 *y, const unsigned char *b, const short *h, long long *l) {\n"
    "    __shared__ i4 s[64];\n"
    "    int t = threadIdx.x, v = b[t] * h[t] + (b[t + 1] << 16 | b[t + 2]);\n"
    "    s[63 - t] = y[t & 15] ^ v; __syncthreads();\n"
    "    v += __builtin_amdgcn_update_dpp(0, v, 0x111, 15, 15, true) + __builtin_amdgcn_ds_bpermute(4 * (t ^ 9), v);\n"
    "    l[t] = l[t] * v + __popcll(__ballot(v > 5)) + __builtin_amdgcn_readfirstlane(v) + (l[t + 1] >> (v & 31));\n"
    "    y[t & 15] = s[t] + (i4){__clz(v), (int)__ffs(v), (int)__builtin_amdgcn_perm(v, t, 0x05010400), (int)__builtin_amdgcn_ubfe(v, 3, 9)};\n"
    "}\n",
    "typedef _Float16 h2 __attribute__((ext_vector_type(2)));\n"
    "typedef float f2 __attribute__((ext_vector_type(2)));\n"
    "extern \"C\" __global__ void reals(f2 *y, const h2 *x, double *d, float *f) {\n"
    "    int t = threadIdx.x;\n"
    "    h2 a = x[t] * x[t + 1] + x[t + 2];\n"
    "    y[t] = y[t] * (f2){(float)a.x, (float)a.y} + y[t + 1];\n"
    "    d[t] = sqrt(d[t]) / (1 + d[t + 1]) + (int)f[t] + fmin(d[t], (double)f[t + 1]);\n"
    "    f[t] = ldexpf(rsqrtf(f[t]), t & 7) + __sinf(f[t + 1]) + (f[t] != f[t] ? 1.f : exp2f(f[t]));\n"
    "    atomicAdd(&f[64], 1.f); atomicMax((unsigned *)f + 65, (unsigned)t); atomicCAS((int *)f + 66, 0, t);\n"
    "}\n",
};

/* The compiler fills its code up with hundreds of words s_code_end, which nothing runs: the section ends before them. */
static void trim_code(uint8_t *object) {
    Elf64_Ehdr h;
    Elf64_Shdr s;
    const uint32_t code_end = 0xbf9f0000;
    memcpy(&h, object, sizeof h);
    for (int i = 0; i < h.e_shnum; i++) {
        uint8_t *at = object + h.e_shoff + (size_t)i * sizeof s;
        memcpy(&s, at, sizeof s);
        if (!(s.sh_flags & SHF_EXECINSTR)) continue;
        while (s.sh_size >= 8 && !memcmp(object + s.sh_offset + s.sh_size - 8, &code_end, 4)) s.sh_size -= 4; /* one stays */
        memcpy(at, &s, sizeof s);
    }
}

static bool flat_plan(const char *from, const char *to, size_t longest, Err *e) {
    size_t n;
    Apart a;
    Arena *arena = arena_new();
    const char *bytes = file_read(arena, from, &n, e);
    bool ok = bytes && (take_apart((const uint8_t *)bytes, n, &a) || err_set(e, "%s: no plan", from));
    for (size_t i = 0; ok && i < a.n; i++) {
        Text *t = blob_text(&a.blob[i]);
        if (i && a.blob[i].packed && t->n > longest) t->n = longest; /* the first is the program */
    }
    if (ok) {
        Text file = put_together(&a, false);
        seal(&file);
        ok = file_write(to, file.at, file.n, e);
        text_free(&file), drop(&a);
    }
    arena_free(arena);
    return ok;
}

static bool bare_plan(const char *from, const char *to, Err *e) {
    Plan *p = plan_open(from, e);
    if (!p) return false;
    p->n_modules = p->n_kernels = 0;
    for (int g = 0; g < p->n_graphs; g++) p->graphs[g].n_launches = 0;
    bool ok = plan_write(p, to, e);
    plan_close(p);
    return ok && flat_plan(to, to, SIZE_MAX, e);
}

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {0};
    bool ok = argc == 2;
    if (argc == 3 || argc == 4) {
        const char *from = argv[argc - 2], *to = argv[argc - 1];
        bool made = argc == 4 && !strcmp(argv[1], "-b") ? bare_plan(from, to, &e) : flat_plan(from, to, argc == 4 ? 200 : SIZE_MAX, &e);
        return made ? 0 : (fprintf(stderr, "%s\n", e.msg), 1);
    }
    RtcJob jobs[LEN(sources)] = {0};
    for (size_t i = 0; i < LEN(sources); i++)
        jobs[i] = (RtcJob){.name = arena_printf(a, "seed%zu.hip", i), .source = sources[i], .arch = "gfx90a"};
    if (!ok) fputs("usage: fuzz_seed FOLDER, or [-b|-s] PLAN OUT\n", stderr);
    if (ok && !(ok = rtc_compile(a, RTC_HIP, jobs, LEN(sources), NULL, &e))) fprintf(stderr, "%s\n", e.msg);
    for (size_t i = 0; ok && i < LEN(sources); i++) {
        uint8_t *code = memcpy(arena_alloc(a, jobs[i].code_size), jobs[i].code, jobs[i].code_size);
        trim_code(code);
        if (!(ok = file_write(arena_printf(a, "%s/%zu.co", argv[1], i), code, jobs[i].code_size, &e)))
            fprintf(stderr, "%s\n", e.msg);
    }
    arena_free(a);
    return !ok;
}
