/* nvtx.c - see nvtx.h. Numbers and structures are those of NVTX 3's header of types, which is public and does not change: a
 * profiler asks for the export table CALLBACKS, with its function for the table of each module, and writes its functions where the
 * entries of these point. What it leaves alone stays NULL and is not called. */
#include "nvtx.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "ir/library.h"

enum { CALLBACKS = 1, VERSION_INFO = 3, NVTX_VERSION = 3 };             /* export tables */
enum { CORE = 1, CUDA, OPENCL, CUDART, CORE2, SYNC, MODULES, MOST = 15 }; /* modules; MOST: functions of one */
enum { RANGE_PUSH_A = 9, RANGE_POP = 11 };                              /* functions of CORE; there is none of number 0 */
static const unsigned functions[MODULES] = {[CORE] = 15, [CUDA] = 8, [OPENCL] = 14, [CUDART] = 6, [CORE2] = 15, [SYNC] = 6};

typedef void Function(void);
static Function *filled[MODULES][MOST + 1];
static Function **table[MODULES][MOST + 2]; /* entry i points at filled[i]; NULL at both ends */

static int module_table(int module, Function ****to, unsigned *size) {
    if (module < CORE || module >= MODULES) return 0;
    if (size) *size = functions[module] + 1;
    if (to) *to = table[module];
    return 1;
}

static void note_version(uint32_t version) { (void)version; }

static const struct {
    size_t size;
    int (*module_table)(int module, Function ****to, unsigned *size);
} callbacks = {sizeof callbacks, module_table};
static const struct {
    size_t size;
    uint32_t version, reserved;
    void (*note_version)(uint32_t version);
} version_info = {sizeof version_info, NVTX_VERSION, 0, note_version};

static const void *export_table(uint32_t id) { return id == CALLBACKS ? (const void *)&callbacks : id == VERSION_INFO ? &version_info : NULL; }

static Err failed; /* msg "": it did not */

static void attach(void) {
    const char *path = getenv("NVTX_INJECTION64_PATH");
    LibraryFault fault = {""};
    int (*begin)(const void *(*)(uint32_t)) = NULL;
    if (!path || !*path) return;
    for (int m = CORE; m < MODULES; m++)
        for (unsigned i = 1; i <= functions[m]; i++) table[m][i] = &filled[m][i];
    void *lib = library_open(path, RTLD_LAZY | RTLD_LOCAL, &fault), *at = lib ? dlsym(lib, "InitializeInjectionNvtx2") : NULL;
    if (at) memcpy(&begin, &at, sizeof at);
    if (!lib) err_set(&failed, "NVTX_INJECTION64_PATH=%s: %s", path, *fault.why ? fault.why : "no such library");
    else if (!begin) err_set(&failed, "NVTX_INJECTION64_PATH=%s: it has no InitializeInjectionNvtx2", path);
    else if (!begin(export_table)) err_set(&failed, "NVTX_INJECTION64_PATH=%s: it did not begin", path);
    else if (!filled[CORE][RANGE_PUSH_A] || !filled[CORE][RANGE_POP]) err_set(&failed, "NVTX_INJECTION64_PATH=%s: it takes no ranges", path);
}

bool nvtx_open(NvtxPush **push, NvtxPop **pop, Err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, attach);
    *push = NULL, *pop = NULL;
    if (*failed.msg) return err_set(e, "%s", failed.msg);
    memcpy(push, &filled[CORE][RANGE_PUSH_A], sizeof *push);
    memcpy(pop, &filled[CORE][RANGE_POP], sizeof *pop);
    return true;
}
