/* rtc_hip.c - HIP source to an AMDGPU code object through hipRTC: rtc.c's compiler for RTC_HIP.
 *
 * Declared here by hand, from hiprtc.h (unchanged from HIP 4.2 to ROCm 7), so that building needs no ROCm.
 * Runs in forked processes only, which end without cleaning up: HIP 5.2 frees twice after some errors.
 * Add an option for every kernel to `base`, a keyword to `header`. */
#include "rtc_internal.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>

typedef struct Program *Program; /* hiprtcProgram */

/* clang-format off */
#define HIPRTC_FUNCTIONS(X)                                                                            \
    X(CreateProgram,     (Program *, const char *source, const char *name, int n, const char **headers, const char **names)) \
    X(CompileProgram,    (Program, int n, const char **options))                                       \
    X(GetProgramLogSize, (Program, size_t *))                                                          \
    X(GetProgramLog,     (Program, char *))                                                            \
    X(GetCodeSize,       (Program, size_t *))                                                          \
    X(GetCode,           (Program, char *))                                                            \
    X(Version,           (int *major, int *minor))
/* clang-format on */

typedef struct Hip Hip;
struct Hip {
#define X(name, args) int(*name) args;
    HIPRTC_FUNCTIONS(X)
#undef X
    const char *(*GetErrorString)(int);
    Comgr *comgr;
};

static const char *const base[] = {
    "-O3", "-std=c++17",
    "-ffp-contract=off", /* what is not written as __builtin_fma is not fused: strict kernels need it, others may undo it */
    "-gline-tables-only", /* rtc_lines.c keeps of it what the emulator's messages need */
};

/* hipRTC puts a header of 2,800 declarations before every program: 0.2 of the 0.4 CPU seconds that a small one takes (2026-11, 2 cores).
 * A header that we pass under the same name replaces it. This one has what kernels use of HIP, defined as HIP defines it, over the same
 * device libraries; a program that does not compile with it is tried again with HIP's own, whose code is another. So it is tried with ours
 * twice: what fails for want of memory, say, gives the same code as ever when it is tried again. */
static const char header[] = "#line 1 \"hip\"\n" /* not the folder that hipRTC puts it in, whose name is another each time */
                             "#define __host__ __attribute__((host))\n"
                             "#define __device__ __attribute__((device))\n"
                             "#define __global__ __attribute__((global))\n"
                             "#define __shared__ __attribute__((shared))\n"
                             "#define __constant__ __attribute__((constant))\n"
                             "#define __noinline__ __attribute__((noinline))\n"
                             "#define __forceinline__ inline __attribute__((always_inline))\n"
                             "#define launch_bounds_impl0(n) __attribute__((amdgpu_flat_work_group_size(1, n)))\n"
                             "#define launch_bounds_impl1(n, w) __attribute__((amdgpu_flat_work_group_size(1, n), "
                             "amdgpu_waves_per_eu(w)))\n"
                             "#define select_impl_(a, b, impl, ...) impl\n"
                             "#define __launch_bounds__(...) select_impl_(__VA_ARGS__, launch_bounds_impl1, "
                             "launch_bounds_impl0, )(__VA_ARGS__)\n"
                             "#define inline_ static __device__ __forceinline__\n"
                             "#define library_ extern \"C\" __device__ __attribute__((const))\n"
                             "#define coordinates_(name, of) library_ unsigned long of(unsigned); struct name##_ {"
                             "    __declspec(property(get = get_x)) unsigned x; inline_ unsigned get_x() { return of(0); }"
                             "    __declspec(property(get = get_y)) unsigned y; inline_ unsigned get_y() { return of(1); }"
                             "    __declspec(property(get = get_z)) unsigned z; inline_ unsigned get_z() { return of(2); }"
                             "}; extern const __device__ __attribute__((weak)) name##_ name;\n"
                             "coordinates_(threadIdx, __ockl_get_local_id) coordinates_(blockDim, __ockl_get_local_size)\n"
                             "coordinates_(blockIdx, __ockl_get_group_id) coordinates_(gridDim, __ockl_get_num_groups)\n"
                             "inline_ void __syncthreads() {"
                             "    __builtin_amdgcn_fence(__ATOMIC_RELEASE, \"workgroup\"), __builtin_amdgcn_s_barrier(), "
                             "    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, \"workgroup\"); }\n"
                             "#define typed_(type, bits, of, name, params, args) inline_ type name params { return __ocml_##of##_##bits args; }\n"
                             "#define function_(of, types32, types64, params32, params64, args)"
                             "    library_ float __ocml_##of##_f32 types32; library_ double __ocml_##of##_f64 types64;"
                             "    typed_(float, f32, of, of##f, params32, args) typed_(float, f32, of, of, params32, args) typed_(double, f64, of, of, params64, args)\n"
                             "#define of_one_(of) function_(of, (float), (double), (float x), (double x), (x))\n"
                             "#define of_two_(of) function_(of, (float, float), (double, double), (float x, float y), (double x, double y), (x, y))\n"
                             "of_one_(exp) of_one_(exp2) of_one_(log) of_one_(log2) of_one_(sqrt) of_one_(fabs) of_one_(floor) of_one_(ceil)\n"
                             "of_one_(tanh) of_one_(erf) of_one_(sin) of_one_(cos) of_two_(fmax) of_two_(fmin) of_two_(pow)\n"
                             "function_(fma, (float, float, float), (double, double, double), (float x, float y, float z), (double x, double y, double z), (x, y, z))\n";

/* --- loading ----------------------------------------------------------------------------------------------------- */

static bool resolve(void *to, void *lib) {
    Hip *h = to;
#define X(name, args)                                                                                                  \
    if (!(*(void **)&h->name = dlsym(lib, "hiprtc" #name))) return false;
    HIPRTC_FUNCTIONS(X)
    X(GetErrorString, )
#undef X
    return true;
}

/* The first library that holds hipRTC; *name is what it was asked by. */
static bool load(Arena *a, Hip *h, const char **name, RtcTool *tool) {
    static const char *const names[] = {"libhiprtc.so.7",   "libhiprtc.so.6", "libhiprtc.so.5", "libamdhip64.so.5",
                                        "libamdhip64.so.6", "libhiprtc.so",   "libamdhip64.so"};
    const char *rocm = getenv("ROCM_PATH");
    const char *dirs[] = {rocm && *rocm ? arena_printf(a, "%s/lib/", rocm) : NULL, "", "/opt/rocm/lib/"}; /* what was named first */
    LibraryFault fault = {""};
    if (rtc_load(a, dirs, LEN(dirs), names, LEN(names), resolve, h, name, &fault)) return true;
    if (*fault.why) return err_set(&tool->err, "hipRTC is there but does not load: %s", fault.why);
    tool->absent = true;
    return err_set(
        &tool->err,
        "no hipRTC found: looked for libhiprtc.so (ROCm 6, 7) and libamdhip64.so.5 in $ROCM_PATH/lib, the library "
        "search path and /opt/rocm/lib; install libamdhip64-5 (Debian 12) or hip-runtime-amd (ROCm)");
}

/* hiprtcVersion answers 9.0 in HIP 5.2; the file's own name is right: libamdhip64.so.5.2.21153. */
static void version_of(const Hip *h, int *major, int *minor, char *real) {
    Dl_info info;
    real[0] = 0;
    if (dladdr(*(void *const *)&h->CreateProgram, &info) && realpath(info.dli_fname, real)) {
        const char *so = strstr(real, ".so.");
        if (so && sscanf(so, ".so.%d.%d", major, minor) == 2) return;
    }
    h->Version(major, minor);
}

/* --- identity ---------------------------------------------------------------------------------------------------- */

static const char *const variables[] = {"HIPRTC_COMPILE_OPTIONS_APPEND",
                                        "HIPRTC_LINK_OPTIONS_APPEND",
                                        "HIP_CLANG_PATH",
                                        "HIP_DEVICE_LIB_PATH",
                                        "CPATH",
                                        "CPLUS_INCLUDE_PATH",
                                        "CCC_OVERRIDE_OPTIONS",
                                        NULL};

static int add_library(struct dl_phdr_info *info, size_t size, void *ctx) {
    static const char *const parts[] = {"hiprtc", "amdhip", "comgr", "LLVM", "clang", "liblld"};
    (void)size;
    const char *name = strrchr(info->dlpi_name, '/');
    for (size_t i = 0; name && i < LEN(parts); i++)
        if (strstr(name, parts[i])) return text_add(ctx, "%s\n", info->dlpi_name), 0;
    return 0;
}

/* Every library that makes code (comgr's LLVM may be a separate one), what we add, and what HIP takes from outside. */
static void identify(Arena *a, RtcTool *tool) {
    Text t = {0}, libraries = {0};
    dl_iterate_phdr(add_library, &libraries);
    rtc_stamp_each(a, &t, libraries.at, "\n", "");
    rtc_variables(&t, variables);
    for (size_t i = 0; i < LEN(base); i++) text_add(&t, "%s\n", base[i]);
    text_add(&t, "%s", header);
    tool->identity = hash64(t.at, t.n);
    if (libraries.n < sizeof tool->files) memcpy(tool->files, libraries.at, libraries.n);
    text_free(&t), text_free(&libraries);
}

static void *hip_open(Arena *a, RtcTool *tool) {
    Hip *h = arena_alloc(a, sizeof *h);
    const char *name = "";
    int major = 0, minor = 0;
    char *real = arena_alloc(a, PATH_MAX + 1);
    if (!load(a, h, &name, tool)) return NULL;
    version_of(h, &major, &minor, real);
    snprintf(tool->name, sizeof tool->name, "hipRTC %d.%d", major, minor);
    snprintf(tool->version, sizeof tool->version, "%s (%s)", tool->name, name);
    char *slash = strrchr(real, '/');
    if (slash) *slash = 0;
    h->comgr = comgr_open(a, real, major >= 7, tool);
    if (!h->comgr) return NULL;
    comgr_archs(h->comgr, tool);
    identify(a, tool);
    return h;
}

/* --- compiling --------------------------------------------------------------------------------------------------- */

/* hipRTC calls every file CompileSource; the job's name comes from a #line. */
static const char *named_source(Arena *a, const RtcJob *job) {
    Text t = {0};
    text_add(&t, "#line 1 \"");
    for (const char *p = job->name; *p; p++) text_add(&t, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    text_add(&t, "\"\n");
    text_put(&t, job->source, strlen(job->source));
    const char *s = arena_strndup(a, t.at, t.n);
    text_free(&t);
    return s;
}

static int attempt(const Hip *h, Arena *a, RtcJob *job, bool own_header, const char **options, int n, Program *p) {
    const char *text = header, *name = "hiprtc_runtime.h";
    int rc = h->CreateProgram(p, named_source(a, job), job->name, own_header, own_header ? &text : NULL,
                              own_header ? &name : NULL);
    if (rc) return rc;
    rc = h->CompileProgram(*p, n, options);
    size_t size = 0;
    job->log = "";
    if (!h->GetProgramLogSize(*p, &size) && size) {
        job->log = arena_alloc(a, size + 1); /* zeroed: HIP 5.2 may write nothing */
        h->GetProgramLog(*p, job->log);
    }
    return rc;
}

static bool hip_compile(void *self, Arena *a, RtcJob *job, Err *e) {
    const Hip *h = self;
    int n = 0;
    Program p = NULL;
    const char **options = arena_array(a, LEN(base) + 1 + (size_t)job->n_options, sizeof *options);
    options[n++] = arena_printf(a, "--offload-arch=%s", job->arch);
    for (size_t i = 0; i < LEN(base); i++) options[n++] = base[i];
    for (int i = 0; i < job->n_options; i++) options[n++] = job->options[i];
    int rc = rtc_test_fails(job->name) ? 1 : attempt(h, a, job, true, options, n, &p);
    if (rc) rc = attempt(h, a, job, true, options, n, &p);
    if (rc) rc = attempt(h, a, job, false, options, n, &p);
    if (rc) return err_set(e, "does not compile (%s)", h->GetErrorString(rc));
    if ((rc = h->GetCodeSize(p, &job->code_size))) return err_set(e, "no code (%s)", h->GetErrorString(rc));
    job->code = arena_alloc(a, job->code_size);
    if ((rc = h->GetCode(p, job->code))) return err_set(e, "no code (%s)", h->GetErrorString(rc));
    rtc_lines(a, job);
    return comgr_kernels(h->comgr, a, job, e);
}

static const char *hip_needs(const char *arch) {
    static const struct {
        const char *prefix, *version;
    } first[] = {{"gfx950", "ROCm 7.0"}, {"gfx94", "ROCm 6.0"}, {"gfx115", "ROCm 6.4"}, {"gfx11", "ROCm 5.5"}, {"gfx12", "ROCm 6.4"}};
    for (size_t i = 0; i < LEN(first); i++)
        if (!strncmp(arch, first[i].prefix, strlen(first[i].prefix))) return first[i].version;
    return "";
}

const RtcBackend rtc_hip = {"hip", variables, hip_open, hip_compile, hip_needs};
