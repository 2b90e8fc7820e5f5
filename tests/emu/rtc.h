/* rtc.h - for tests: HIP source to a gfx90a code object by hipRTC, and assembly by comgr; both dlopen'ed. */
#ifndef GPTOSS_TEST_RTC_H
#define GPTOSS_TEST_RTC_H

#include <dlfcn.h>
#include <stdlib.h>

#include "ir/base.h"

/* NULL and a reason in e when there is no hipRTC, or the source does not compile. The result is malloc'ed. */
static inline void *rtc_compile(const char *source, const char *option, size_t *size, Err *e) {
    typedef void *Prog;
    void *lib = dlopen("libhiprtc.so", RTLD_NOW);
    if (!lib || !dlsym(lib, "hiprtcCreateProgram")) lib = dlopen("libamdhip64.so.5", RTLD_NOW);
    if (!lib) lib = dlopen("libamdhip64.so", RTLD_NOW);
    if (!lib) return err_set(e, "no hipRTC: %s", dlerror()), NULL;
    int (*create)(Prog *, const char *, const char *, int, const char **, const char **);
    int (*compile)(Prog, int, const char **);
    int (*destroy)(Prog *), (*log_size)(Prog, size_t *), (*get_log)(Prog, char *), (*code_size)(Prog, size_t *), (*get_code)(Prog, char *);
    *(void **)&create = dlsym(lib, "hiprtcCreateProgram");
    *(void **)&compile = dlsym(lib, "hiprtcCompileProgram");
    *(void **)&log_size = dlsym(lib, "hiprtcGetProgramLogSize");
    *(void **)&get_log = dlsym(lib, "hiprtcGetProgramLog");
    *(void **)&code_size = dlsym(lib, "hiprtcGetCodeSize");
    *(void **)&get_code = dlsym(lib, "hiprtcGetCode");
    *(void **)&destroy = dlsym(lib, "hiprtcDestroyProgram");
    if (!destroy || !create || !compile || !log_size || !get_log || !code_size || !get_code) return err_set(e, "hipRTC without its functions"), NULL;
    Prog p;
    const char *options[] = {"--offload-arch=gfx90a", option ? option : "-O3"};
    if (create(&p, source, "test.hip", 0, NULL, NULL)) return err_set(e, "hiprtcCreateProgram"), NULL;
    if (compile(p, 2, options)) {
        char log[1024] = "";
        size_t n = 0;
        if (!log_size(p, &n) && n && n < sizeof log) get_log(p, log);
        return err_set(e, "does not compile: %s", log), NULL;
    }
    if (code_size(p, size)) return err_set(e, "hiprtcGetCodeSize"), NULL;
    void *code = malloc(*size);
    if (!code || get_code(p, code)) return err_set(e, "hiprtcGetCode"), NULL;
    destroy(&p);
    return code;
}

#endif
