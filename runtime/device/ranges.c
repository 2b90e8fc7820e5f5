/* ranges.c - see ranges.h. Add a profiler: a row. */
#include "ranges.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "ir/base.h"
#include "ir/library.h"

static const struct {
    const char *name, *library, *push, *pop;
} table[] = {
    {"roctx", "libroctx64.so.4", "roctxRangePushA", "roctxRangePop"},
    {"roctx", "librocprofiler-sdk-roctx.so.1", "roctxRangePushA", "roctxRangePop"}, /* ROCm 7 */
    {"nvtx", "libnvToolsExt.so.1", "nvtxRangePushA", "nvtxRangePop"},
};

Ranges ranges_open(void) {
    const char *asked = getenv("GPTOSS_RANGES");
    LibraryFault fault = {""};
    Ranges r = {0};
    if (!asked || !*asked) return r;
    for (size_t i = 0; i < LEN(table) && !r.push; i++) {
        void *lib = strcmp(asked, table[i].name) ? NULL : library_open(table[i].library, RTLD_NOW | RTLD_LOCAL, &fault);
        void *push = lib ? dlsym(lib, table[i].push) : NULL, *pop = lib ? dlsym(lib, table[i].pop) : NULL;
        if (push && pop) memcpy(&r.push, &push, sizeof push), memcpy(&r.pop, &pop, sizeof pop);
    }
    if (!r.push)
        fprintf(stderr, "warning: GPTOSS_RANGES=%s: no such library was found (it is roctx or nvtx)%s%s\n", asked, *fault.why ? ": " : "",
                fault.why);
    return r;
}
