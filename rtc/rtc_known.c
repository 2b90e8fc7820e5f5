/* rtc_known.c - the compiler that answered last time, remembered: when all that is asked of it is in the cache it need not be loaded, which
 * takes LLVM 0.15 s of CPU, to hear what it is.
 *
 * DIR/WHAT.tool: a stamp of all that decides which compiler is found, the compiler as it described itself, a stamp of its files. It holds
 * while both stamps are what they were. What decides: this program, variables, and the folders and the index that libraries are
 * searched in, whose times change with what is in them. */
#include "rtc_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

static const char *const variables[] = {"ROCM_PATH", "CUDA_HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "CC", NULL};
static const char *const searched[] = {"/proc/self/exe", "/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib",
                                       "/opt/rocm/lib", "/usr/local/cuda/lib64"};

static void stamp(Text *t, const char *path) {
    struct stat st = {0};
    int missing = stat(path, &st);
    text_add(t, "%s %d %llu %lld %lld.%ld\n", path, missing, (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

void rtc_stamp_each(Arena *a, Text *t, const char *list, const char *separator, const char *then) {
    while (list && *list) {
        size_t n = strcspn(list, separator);
        stamp(t, arena_printf(a, "%.*s%s", (int)n, list, then));
        list += n + (list[n] != 0);
    }
}

void rtc_variables(Text *t, const char *const *names) {
    for (; *names; names++) text_add(t, "%s=%s\n", *names, getenv(*names) ? getenv(*names) : "");
}

static uint64_t hash_of(Text *t) {
    uint64_t h = hash64(t->at, t->n);
    text_free(t);
    return h;
}

static uint64_t what_decides(Arena *a, const RtcBackend *b) {
    Text t = {0};
    rtc_variables(&t, variables), rtc_variables(&t, b->variables);
    for (size_t i = 0; i < LEN(searched); i++) stamp(&t, searched[i]);
    rtc_stamp_each(a, &t, getenv("LD_LIBRARY_PATH"), ":;", "");
    rtc_stamp_each(a, &t, getenv("PATH"), ":", "");
    rtc_stamp_each(a, &t, getenv("ROCM_PATH"), "", "/lib");
    rtc_stamp_each(a, &t, getenv("CUDA_HOME"), "", "/lib64");
    return hash_of(&t);
}

static uint64_t files_of(Arena *a, const RtcTool *tool) {
    Text t = {0};
    rtc_stamp_each(a, &t, tool->files, "\n", "");
    return hash_of(&t);
}

typedef struct Known Known; /* the file */
struct Known {
    uint64_t format, decides, files;
    RtcTool tool;
    uint64_t sum; /* of all before */
};

static const char *path_of(Arena *a, const char *dir, const RtcBackend *b) { return arena_printf(a, "%s/%s.tool", dir, b->what); }

const RtcTool *rtc_known_get(Arena *a, const char *dir, const RtcBackend *b) {
    Err none;
    size_t n;
    Known *k = (void *)file_read(a, path_of(a, dir, b), &n, &none);
    if (!k || n != sizeof *k || k->format != RTC_FORMAT || k->sum != hash64(k, offsetof(Known, sum))) return NULL;
    if (k->tool.n_archs > LEN(k->tool.archs) || k->decides != what_decides(a, b)) return NULL;
    return k->files == files_of(a, &k->tool) ? &k->tool : NULL;
}

void rtc_known_put(Arena *a, const char *dir, const RtcBackend *b, const RtcTool *tool) {
    Err none;
    if (!*tool->files) return;
    Known *k = arena_alloc(a, sizeof *k);
    *k = (Known){.format = RTC_FORMAT, .decides = what_decides(a, b), .files = files_of(a, tool)};
    k->tool = *tool;
    k->sum = hash64(k, offsetof(Known, sum));
    file_write(path_of(a, dir, b), k, sizeof *k, &none);
}
