/* rtc_cache.c - compiled code on disk, by content. An entry is its key, then the job's results as rtc_blob.c writes them.
 *
 * The key covers the source, but for what its first comments say, name, arch, options and the compiler's identity; so an entry is never
 * stale, only unused.
 * Entries are written beside and renamed; a damaged one reads as absent and is replaced. Nothing is ever evicted: the
 * directory may be deleted at any time.
 *
 * Beside an entry lies a record that finds it by what came of it: HASH.made, HASH of the source and its code, holds the entry's key.
 * By it rtc_made_here tells whether a plan's code is what this user's compiler made of the plan's source. The hash only finds; the
 * bytes are compared. */
#include "rtc_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static void put(XXH3_state_t *h, const void *bytes, size_t n) {
    uint64_t size = n; /* lengths first, so that two lists of parts never look alike */
    XXH3_128bits_update(h, &size, sizeof size);
    XXH3_128bits_update(h, bytes, n);
}

/* What follows the lines at a source's beginning that are comments, in the place of which the same number of others makes the same code.
 * (A comment that goes on in the next line takes that line's code with it.) */
static const char *behind_comments(const char *source, uint32_t *lines) {
    *lines = 0;
    while (!strncmp(source, "//", 2)) {
        const char *end = strchr(source, '\n');
        size_t n = end ? (size_t)(end - source) : 0;
        if (!end || memchr(source, '\\', n) || memmem(source, n, "?\?/", 3)) break;
        source = end + 1, ++*lines;
    }
    return source;
}

RtcKey rtc_key(RtcKind kind, const RtcTool *tool, const RtcJob *job) {
    XXH3_state_t *h = XXH3_createState();
    if (!h) out_of_memory(1 << 10, "a cache key");
    uint32_t head[2] = {RTC_FORMAT, (uint32_t)kind};
    XXH3_128bits_reset(h);
    put(h, head, sizeof head);
    put(h, &tool->identity, sizeof tool->identity);
    put(h, tool->version, strlen(tool->version));
    put(h, job->name, strlen(job->name));
    put(h, job->arch, strlen(job->arch));
    for (int i = 0; i < job->n_options; i++) put(h, job->options[i], strlen(job->options[i]));
    uint32_t comments;
    const char *source = behind_comments(job->source, &comments);
    put(h, &comments, sizeof comments);
    put(h, source, strlen(source));
    XXH128_hash_t d = XXH3_128bits_digest(h);
    XXH3_freeState(h);
    return (RtcKey){d.high64, d.low64};
}

static bool make_dirs(char *path) {
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        bool ok = mkdir(path, 0777) == 0 || errno == EEXIST;
        *p = c;
        if (!ok) return false;
        if (!c) return true;
    }
}

static const char *dir_of(Arena *a) {
    const char *own = getenv("GPTOSS_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own) return own;
    if (xdg && *xdg == '/') return arena_printf(a, "%s/gptoss", xdg);
    if (home && *home) return arena_printf(a, "%s/.cache/gptoss", home);
    return NULL;
}

static bool warn(const char *dir, const char *why) {
    fprintf(stderr, "gptoss: warning: cannot use the cache %s: %s; compiling without it (GPTOSS_CACHE names another)\n",
            dir, why);
    return false;
}

const char *rtc_cache_open(Arena *a) {
    const char *found = dir_of(a);
    if (!found) return warn("directory", "none of GPTOSS_CACHE, XDG_CACHE_HOME and HOME is set"), NULL;
    char *dir = arena_strdup(a, found);
    if (!make_dirs(dir)) return warn(dir, strerror(errno)), NULL;
    return dir;
}

static const char *path_of(Arena *a, const char *dir, RtcKey k) {
    return arena_printf(a, "%s/%016llx%016llx.rtc", dir, (unsigned long long)k.hi, (unsigned long long)k.lo);
}

/* --- what was made here ------------------------------------------------------------------------------------------------------ */

static const char *record_of(Arena *a, const char *dir, const char *source, const void *code, size_t n) {
    XXH3_state_t *h = XXH3_createState();
    if (!h) out_of_memory(1 << 10, "a hash");
    XXH3_128bits_reset(h);
    put(h, source, strlen(source));
    put(h, code, n);
    XXH128_hash_t d = XXH3_128bits_digest(h);
    XXH3_freeState(h);
    return arena_printf(a, "%s/%016llx%016llx.made", dir, (unsigned long long)d.high64, (unsigned long long)d.low64);
}

/* Without it the code is compiled again one day: no error. */
static void record(Arena *a, const char *dir, RtcKey key, const RtcJob *job) {
    const char *path = record_of(a, dir, job->known_as ? job->known_as : job->source, job->code, job->code_size);
    Err ignored;
    if (access(path, F_OK)) file_write(path, &key, sizeof key, &ignored);
}

const char *rtc_cache_ours(Arena *a) {
    const char *dir = dir_of(a);
    struct stat st;
    return dir && !stat(dir, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & S_IWOTH) ? dir : NULL;
}

bool rtc_made_here(const char *source, const void *code, size_t n) {
    Arena *a = arena_new();
    const char *dir = rtc_cache_ours(a), *err;
    size_t size = 0;
    RtcKey key;
    RtcJob job = {0};
    Err ignored;
    const char *at = dir ? file_read(a, record_of(a, dir, source, code, n), &size, &ignored) : NULL;
    if (at && size == sizeof key) memcpy(&key, at, sizeof key);
    const char *entry = at && size == sizeof key ? file_read(a, path_of(a, dir, key), &size, &ignored) : NULL;
    bool ok = entry && size >= sizeof key && rtc_decode(a, entry + sizeof key, size - sizeof key, &job, &err) && !*err &&
              job.code_size == n && n && !memcmp(job.code, code, n);
    arena_free(a);
    return ok;
}

/* --- entries ------------------------------------------------------------------------------------------------------------------- */

bool rtc_cache_get(Arena *a, const char *dir, RtcKey key, RtcJob *job) {
    const char *path = path_of(a, dir, key), *err;
    if (access(path, R_OK)) return false;
    Err ignored = {0};
    size_t n;
    const char *bytes = file_read(a, path, &n, &ignored);
    if (!bytes || n < sizeof key || memcmp(bytes, &key, sizeof key)) return false;
    if (!rtc_decode(a, bytes + sizeof key, n - sizeof key, job, &err) || *err) return false;
    record(a, dir, key, job);
    return true;
}

bool rtc_cache_put(Arena *a, const char *dir, RtcKey key, const RtcJob *job) {
    Text t = {0};
    Err e = {0};
    text_put(&t, &key, sizeof key);
    rtc_encode(&t, job, "");
    bool ok = file_write(path_of(a, dir, key), t.at, t.n, &e);
    text_free(&t);
    if (ok) record(a, dir, key, job);
    return ok || warn(dir, e.msg);
}
