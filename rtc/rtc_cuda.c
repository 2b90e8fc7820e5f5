/* rtc_cuda.c - the same source to a cubin for NVIDIA GPUs through NVRTC: rtc.c's compiler for RTC_CUDA.
 *
 * Declared here by hand, from nvrtc.h (unchanged from CUDA 11.1 to 13), so that building needs no CUDA.
 * Runs in forked processes only. Kernel statistics are what ptxas prints (-v), taken out of the log.
 * Add an option for every kernel to `base`. */
#include "rtc_internal.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>

typedef struct Program *Program; /* nvrtcProgram */

/* clang-format off */
#define NVRTC_FUNCTIONS(X)                                                                             \
    X(CreateProgram,     (Program *, const char *source, const char *name, int n, const char **headers, const char **names)) \
    X(CompileProgram,    (Program, int n, const char **options))                                       \
    X(GetProgramLogSize, (Program, size_t *))                                                          \
    X(GetProgramLog,     (Program, char *))                                                            \
    X(GetCUBINSize,      (Program, size_t *))                                                          \
    X(GetCUBIN,          (Program, char *))                                                            \
    X(GetNumSupportedArchs, (int *))                                                                   \
    X(GetSupportedArchs, (int *))                                                                      \
    X(Version,           (int *major, int *minor))
/* clang-format on */

typedef struct Nvrtc Nvrtc;
struct Nvrtc {
#define X(name, args) int(*name) args;
    NVRTC_FUNCTIONS(X)
#undef X
    const char *(*GetErrorString)(int);
    bool caches; /* on its own, from 12.9 on */
};

static const char *const base[] = {
    "--std=c++17",
    "--fmad=false", /* what is not written as fma is not fused, as with -ffp-contract=off */
    "--ptxas-options=-v",
};

static bool resolve(void *to, void *lib) {
    Nvrtc *h = to;
#define X(name, args)                                                                                                  \
    if (!(*(void **)&h->name = dlsym(lib, "nvrtc" #name))) return false;
    NVRTC_FUNCTIONS(X)
    X(GetErrorString, )
#undef X
    return true;
}

/* The first library that holds NVRTC; *name is what it was asked by. */
static bool load(Arena *a, Nvrtc *h, const char **name, RtcTool *tool) {
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    const char *home = getenv("CUDA_HOME");
    const char *dirs[] = {home && *home ? arena_printf(a, "%s/lib64/", home) : NULL, "", "/usr/local/cuda/lib64/"}; /* what was named first */
    LibraryFault fault = {""};
    if (rtc_load(a, dirs, LEN(dirs), names, LEN(names), resolve, h, name, &fault)) return true;
    if (*fault.why) return err_set(&tool->err, "NVRTC is there but does not load: %s", fault.why);
    tool->absent = true;
    return err_set(
        &tool->err,
        "no NVRTC found: looked for libnvrtc.so.13 and .12 in $CUDA_HOME/lib64, the library search path and "
        "/usr/local/cuda/lib64; install the CUDA toolkit's NVRTC (cuda-nvrtc-13-0)");
}

/* The library as a file, and what we add. */
static void identify(Arena *a, const Nvrtc *h, RtcTool *tool) {
    Dl_info info;
    Text t = {0};
    const char *file = dladdr(*(void *const *)&h->CreateProgram, &info) ? info.dli_fname : "";
    rtc_stamp_each(a, &t, file, "\n", "");
    if (strlen(file) < sizeof tool->files) snprintf(tool->files, sizeof tool->files, "%s", file);
    for (size_t i = 0; i < LEN(base); i++) text_add(&t, "%s\n", base[i]);
    tool->identity = hash64(t.at, t.n);
    text_free(&t);
}

static void *cuda_open(Arena *a, RtcTool *tool) {
    Nvrtc *h = arena_alloc(a, sizeof *h);
    const char *name = "";
    int major = 0, minor = 0, n = 0, archs[LEN(tool->archs)];
    if (!load(a, h, &name, tool)) return NULL;
    h->Version(&major, &minor);
    h->caches = major > 12 || (major == 12 && minor >= 9);
    snprintf(tool->name, sizeof tool->name, "NVRTC %d.%d", major, minor);
    snprintf(tool->version, sizeof tool->version, "%s (%s)", tool->name, name);
    if (h->GetNumSupportedArchs(&n) || n > (int)LEN(archs) || h->GetSupportedArchs(archs)) n = 0;
    for (int i = 0; i < n; i++) snprintf(tool->archs[i], sizeof tool->archs[i], "sm_%d", archs[i]);
    tool->n_archs = (uint32_t)n;
    identify(a, h, tool);
    return h;
}

/* --- what ptxas says ---------------------------------------------------------------------------------------------- */

/* The number before `unit` in the line: "Used 40 registers, 8448 bytes smem". 0 when it is not there. */
static uint32_t before(const char *line, const char *unit) {
    const char *at = strstr(line, unit);
    while (at && at > line && at[-1] == ' ') at--;
    while (at && at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return at ? (uint32_t)strtoul(at, NULL, 10) : 0;
}

static void describe(RtcKernel *k, const char *line) {
    if (strstr(line, "bytes stack frame")) {
        k->scratch = before(line, "bytes stack frame");
        k->vgpr_spills = before(line, "bytes spill stores") / 4;
    }
    if (!strstr(line, "Used ")) return;
    k->vgprs = before(line, "registers");
    k->lds = before(line, "bytes smem");
}

/* Moves ptxas's report from the log into job->kernels. */
static void take_statistics(Arena *a, RtcJob *job) {
    static const char entry[] = "Compiling entry function '";
    size_t n = 0;
    for (const char *p = job->log; (p = strstr(p, entry)); p++) n++;
    job->kernels = arena_array(a, n + 1, sizeof *job->kernels);
    RtcKernel *k = NULL;
    char *rest = arena_strdup(a, ""), *next;
    for (char *line = job->log; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        const char *name = strstr(line, entry);
        bool ptxas = !strncmp(line, "ptxas info", 10) || !strncmp(line, "ptxas  ", 7);
        if (name) {
            name += strlen(entry);
            k = &job->kernels[job->n_kernels++];
            snprintf(k->symbol, sizeof k->symbol, "%.*s", (int)strcspn(name, "'"), name);
        }
        if (ptxas && k) describe(k, line);
        if (!ptxas && *line) rest = arena_printf(a, "%s%s\n", rest, line);
    }
    job->log = rest;
}

/* The first line that says that ptxas makes wgmma instructions wait for each other, C7510 to C7518: NULL without. Such code is right, and
 * several times slower than what its author meant, so it is an error. */
static const char *serialised(Arena *a, const char *log) {
    static const char code[] = "(C751";
    for (const char *p = log; (p = strstr(p, code)); p++)
        if (p[sizeof code - 1] >= '0' && p[sizeof code - 1] <= '8') return arena_strndup(a, p, strcspn(p, "\n"));
    return NULL;
}

/* --- compiling ---------------------------------------------------------------------------------------------------- */

static bool cuda_compile(void *self, Arena *a, RtcJob *job, Err *e) {
    const Nvrtc *h = self;
    int n = 0;
    Program p = NULL;
    size_t size = 0;
    const char **options = arena_array(a, LEN(base) + 2 + (size_t)job->n_options, sizeof *options);
    options[n++] = arena_printf(a, "--gpu-architecture=%s%s", job->arch, strcmp(job->arch, "sm_90") ? "" : "a");
    for (size_t i = 0; i < LEN(base); i++) options[n++] = base[i];
    if (h->caches) options[n++] = "--no-cache"; /* ptxas says nothing of code that comes from there; we have a cache */
    for (int i = 0; i < job->n_options; i++) options[n++] = job->options[i];
    int rc = h->CreateProgram(&p, job->source, job->name, 0, NULL, NULL);
    if (!rc) rc = h->CompileProgram(p, n, options);
    job->log = arena_strdup(a, "");
    if (p && !h->GetProgramLogSize(p, &size) && size) {
        job->log = arena_alloc(a, size + 1);
        h->GetProgramLog(p, job->log);
    }
    if (rc) return err_set(e, "does not compile (%s)", h->GetErrorString(rc));
    const char *waits = serialised(a, job->log);
    if (waits) return job->log = "", err_set(e, "ptxas serialises wgmma: %s", waits);
    take_statistics(a, job);
    if ((rc = h->GetCUBINSize(p, &job->code_size))) return err_set(e, "no code (%s)", h->GetErrorString(rc));
    job->code = arena_alloc(a, job->code_size);
    if ((rc = h->GetCUBIN(p, job->code))) return err_set(e, "no code (%s)", h->GetErrorString(rc));
    return true;
}

static const char *cuda_needs(const char *arch) { return strcmp(arch, "sm_90") ? "" : "CUDA 11.8"; }

const RtcBackend rtc_cuda = {"cuda", (const char *const[]){NULL}, cuda_open, cuda_compile, cuda_needs};
