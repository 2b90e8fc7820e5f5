/* rtc_known.c - the compiler that answered last time, remembered: when all that is asked of it is in the cache it need not be loaded, which
 * takes LLVM 0.15 s of CPU, to hear what it is.
 *
 * DIR/KIND.tool: a stamp of all that decides which compiler is found, the compiler as it described itself, a stamp of its files. It holds
 * while both stamps are what they were. What decides: this program, the variables below, and the folders and the index that libraries are
 * searched in, whose times change with what is in them. */
#include "rtc_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

static const char *const variables[] = {"ROCM_PATH", "CUDA_HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "CC", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH",
                                        "HIPRTC_COMPILE_OPTIONS_APPEND", "HIPRTC_LINK_OPTIONS_APPEND", "HIP_CLANG_PATH", "HIP_DEVICE_LIB_PATH", "CCC_OVERRIDE_OPTIONS"};
static const char *const searched[] = {"/proc/self/exe", "/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib",
                                       "/opt/rocm/lib", "/usr/local/cuda/lib64"};

static void stamp(Text *t, const char *path) {
    struct stat st = {0};
    int missing = stat(path, &st);
    text_add(t, "%s %d %llu %lld %lld.%ld\n", path, missing, (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* Of each path of a list; `then` goes behind each. */
static void stamp_each(Arena *a, Text *t, const char *list, const char *separator, const char *then) {
    while (list && *list) {
        size_t n = strcspn(list, separator);
        stamp(t, arena_printf(a, "%.*s%s", (int)n, list, then));
        list += n + (list[n] != 0);
    }
}

static uint64_t hash_of(Text *t) {
    uint64_t h = hash64(t->at, t->n);
    text_free(t);
    return h;
}

static uint64_t what_decides(Arena *a) {
    Text t = {0};
    for (size_t i = 0; i < LEN(variables); i++) text_add(&t, "%s=%s\n", variables[i], getenv(variables[i]) ? getenv(variables[i]) : "");
    for (size_t i = 0; i < LEN(searched); i++) stamp(&t, searched[i]);
    stamp_each(a, &t, getenv("LD_LIBRARY_PATH"), ":;", "");
    stamp_each(a, &t, getenv("PATH"), ":", "");
    stamp_each(a, &t, getenv("ROCM_PATH"), "", "/lib");
    stamp_each(a, &t, getenv("CUDA_HOME"), "", "/lib64");
    return hash_of(&t);
}

static uint64_t files_of(Arena *a, const RtcTool *tool) {
    Text t = {0};
    stamp_each(a, &t, tool->files, "\n", "");
    return hash_of(&t);
}

typedef struct Known Known; /* the file */
struct Known {
    uint64_t format, decides, files;
    RtcTool tool;
    uint64_t sum; /* of all before */
};

static const char *path_of(Arena *a, const char *dir, RtcKind kind) { return arena_printf(a, "%s/%d.tool", dir, (int)kind); }

const RtcTool *rtc_known_get(Arena *a, const char *dir, RtcKind kind) {
    Err none;
    size_t n;
    Known *k = (void *)file_read(a, path_of(a, dir, kind), &n, &none);
    if (!k || n != sizeof *k || k->format != RTC_FORMAT || k->sum != hash64(k, offsetof(Known, sum))) return NULL;
    if (k->tool.n_archs > LEN(k->tool.archs) || k->decides != what_decides(a)) return NULL;
    return k->files == files_of(a, &k->tool) ? &k->tool : NULL;
}

void rtc_known_put(Arena *a, const char *dir, RtcKind kind, const RtcTool *tool) {
    Err none;
    if (!*tool->files) return;
    Known *k = arena_alloc(a, sizeof *k);
    *k = (Known){.format = RTC_FORMAT, .decides = what_decides(a), .files = files_of(a, tool)};
    k->tool = *tool;
    k->sum = hash64(k, offsetof(Known, sum));
    file_write(path_of(a, dir, kind), k, sizeof *k, &none);
}
