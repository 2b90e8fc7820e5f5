/* ranges.c - see ranges.h. Add a profiler: a row. */
#include "ranges.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "ir/base.h"
#include "ir/library.h"
#include "nvtx.h"

static const struct {
    const char *name, *library, *push, *pop;
} table[] = {
    {"roctx", "libroctx64.so.4", "roctxRangePushA", "roctxRangePop"},
    {"roctx", "librocprofiler-sdk-roctx.so.1", "roctxRangePushA", "roctxRangePop"}, /* ROCm 7 */
    {"nvtx", "libnvToolsExt.so.1", "nvtxRangePushA", "nvtxRangePop"}, /* up to CUDA 12, of other profilers; nvtx.c is asked first */
};

static void from_library(const char *asked, Ranges *r, LibraryFault *fault) {
    for (size_t i = 0; i < LEN(table) && !r->push; i++) {
        void *lib = strcmp(asked, table[i].name) ? NULL : library_open(table[i].library, RTLD_NOW | RTLD_LOCAL, fault);
        void *push = lib ? dlsym(lib, table[i].push) : NULL, *pop = lib ? dlsym(lib, table[i].pop) : NULL;
        if (push && pop) memcpy(&r->push, &push, sizeof push), memcpy(&r->pop, &pop, sizeof pop);
    }
}

Ranges ranges_open(void) {
    const char *asked = getenv("GPTOSS_RANGES");
    LibraryFault fault = {""};
    Ranges r = {0};
    Err e = {""};
    if (!asked || !*asked) return r;
    bool nvtx = !strcmp(asked, "nvtx"), begun = !nvtx || nvtx_open(&r.push, &r.pop, &e);
    if (begun && !r.push) from_library(asked, &r, &fault);
    if (r.push) return r;
    if (!begun) fprintf(stderr, "warning: GPTOSS_RANGES=nvtx: %s\n", e.msg);
    else if (nvtx)
        fprintf(stderr, "warning: GPTOSS_RANGES=nvtx: no profiler listens: NVTX_INJECTION64_PATH, which nsys and ncu set, is not set%s%s\n",
                *fault.why ? ", and " : "", fault.why);
    else
        fprintf(stderr, "warning: GPTOSS_RANGES=%s: no such library was found (it is roctx or nvtx)%s%s\n", asked, *fault.why ? ": " : "",
                fault.why);
    return r;
}
