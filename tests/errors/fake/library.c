/* library.c - a library that stands before a real one and fails where it is told to. Each function of FUNCTIONS, which is X(name) for all
 * that the real one exports, calls the real one's (REAL is its path; without REAL it is an NVRTC FAKE_VERSION, 13.0, that makes nothing, its
 * log FAKE_LOG; from 12.9 on there is none of what comes from its own cache, which --no-cache turns off), but
 *   FAKE_FAILS=name   that function returns 1 (of comgr, hipRTC and NVRTC: an error)
 *   FAKE_ENDS=name    that function ends the process with status 3; FAKE_AFTER=n: after n calls of it
 * All arguments are integers and pointers, at most eight. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef long Function(long, long, long, long, long, long, long, long);

static int is(const char *what, const char *name) {
    const char *told = getenv(what);
    return told && !strcmp(told, name);
}

static int after;
__attribute__((constructor)) static void begin(void) { after = getenv("FAKE_AFTER") ? atoi(getenv("FAKE_AFTER")) : 0; }

#ifdef REAL
static Function *real(const char *name) {
    void *lib = dlopen(REAL, RTLD_NOW | RTLD_LOCAL), *f = lib ? dlsym(lib, name) : NULL;
    if (!f) _exit(4);
    return (Function *)f;
}
#else
static int cached;
static const char *made_log(void) { return getenv("FAKE_LOG") && !cached ? getenv("FAKE_LOG") : ""; }
static long version(int *major, int *minor) { return sscanf(getenv("FAKE_VERSION") ? getenv("FAKE_VERSION") : "13.0", "%d.%d", major, minor) != 2; }
static long compile(void *program, long n, const char **options) {
    int major, minor, off = 0;
    for (long i = 0; i < n; i++) off += !strcmp(options[i], "--no-cache");
    int caches = !version(&major, &minor) && major * 100 + minor >= 1209;
    cached = caches && !off;
    return (void)program, off && !caches; /* an option that it does not know */
}
static long none(long *a, void *b) { return (void)a, (void)b, 0; }
static long text(long *a, void *b) { return (void)a, (void)b, (long)"the fake one's error"; }
static long one(int *a, void *b) { return (void)b, *a = 1, 0; }
static long sm_90(int *a, void *b) { return (void)b, *a = 90, 0; }
static long log_size(void *a, size_t *n) { return (void)a, *n = strlen(made_log()) + 1, 0; }
static long log_text(void *a, char *to) { return (void)a, strcpy(to, made_log()), 0; }
static Function *real(const char *name) { /* of NVRTC */
    static const struct {
        const char *name;
        void *f;
    } known[] = {{"nvrtcGetErrorString", text}, {"nvrtcGetNumSupportedArchs", one}, {"nvrtcGetSupportedArchs", sm_90},
                 {"nvrtcGetProgramLogSize", log_size}, {"nvrtcGetProgramLog", log_text}, {"nvrtcCreateProgram", one},
                 {"nvrtcCompileProgram", compile},      {"nvrtcVersion", version}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) return (Function *)known[i].f;
    return (Function *)none;
}
#endif

#define X(name)                                                                                                        \
    long name(long a, long b, long c, long d, long e, long f, long g, long h) {                                        \
        if (is("FAKE_ENDS", #name) && !after--) _exit(3);                                                              \
        return is("FAKE_FAILS", #name) ? 1 : real(#name)(a, b, c, d, e, f, g, h);                                      \
    }
FUNCTIONS
