/* rtc_internal.h - what rtc.c, its compilers (rtc_hip.c, rtc_cuda.c) and its cache (rtc_cache.c) share. Not for others.
 *
 * A compiler is a row of `backends` in rtc.c: open() and compile() run only in forked processes, never in the caller's. */
#ifndef GPTOSS_RTC_INTERNAL_H
#define GPTOSS_RTC_INTERNAL_H

#include "ir/library.h"
#include "rtc.h"

#include <sys/types.h>

enum {
    RTC_FORMAT = 3
}; /* of a cache entry and of a worker's result: raise it when either, or what is counted or refused, changes */

/* What a loaded compiler says of itself; it crosses a socket, so no pointers. */
typedef struct RtcTool RtcTool;
struct RtcTool {
    Err err;           /* msg "" when it loaded */
    bool absent;       /* it did not, for it is not installed */
    char version[128]; /* "hipRTC 5.2 (libamdhip64.so.5)" */
    char name[32];     /* "hipRTC 5.2" */
    uint64_t
        identity; /* changes when anything does that could change the code: the libraries, the environment, our options */
    char files[4096]; /* that it was loaded from, a line each; "": too many to be remembered */
    uint32_t n_archs;
    char archs[128][24];
};

typedef struct RtcBackend RtcBackend;
struct RtcBackend {
    const char *what;
    const char *const *variables; /* of the environment, that its code depends on; NULL ends them */
    /* Loads the compiler. NULL and tool->err on failure. */
    void *(*open)(Arena *a, RtcTool *tool);
    /* Fills code, log and kernels. On false e says what failed; the log is kept. May crash. */
    bool (*compile)(void *self, Arena *a, RtcJob *job, Err *e);
    const char *(*needs)(const char *arch); /* the first version that knows arch: "ROCm 6.0"; "" when not known */
};
extern const RtcBackend rtc_hip, rtc_cuda, rtc_host;

/* rtc.c: seconds within which a process must answer that has next to nothing to do. */
double rtc_patience(void);
/* A hook of tests/rtc: this job's first attempt fails. */
bool rtc_test_fails(const char *name);
/* Waits for a child's end. False, with errno: it cannot; with ETIMEDOUT: it took longer, and was killed, with its group if it leads one. */
bool rtc_wait(pid_t child, double seconds, int *status);

/* rtc_blob.c: a job's results as checksummed bytes. err is "" for success. Decode: false when damaged; all in the arena. */
void rtc_encode(Text *t, const RtcJob *job, const char *err);
bool rtc_decode(Arena *a, const char *bytes, size_t n, RtcJob *job, const char **err);

/* rtc_cache.c */
typedef struct RtcKey RtcKey;
struct RtcKey {
    uint64_t hi, lo;
};
RtcKey rtc_key(RtcKind kind, const RtcTool *tool, const RtcJob *job);
const char *rtc_cache_open(Arena *a);                                   /* its directory, made; NULL after a warning */
bool rtc_cache_get(Arena *a, const char *dir, RtcKey key, RtcJob *job); /* false: not there, or damaged */
bool rtc_cache_put(Arena *a, const char *dir, RtcKey key, const RtcJob *job); /* false after a warning */

/* rtc_known.c: the compiler as it last was, NULL when it may be another by now; and what to remember. */
const RtcTool *rtc_known_get(Arena *a, const char *dir, const RtcBackend *b);
void rtc_known_put(Arena *a, const char *dir, const RtcBackend *b, const RtcTool *tool);
/* Lines of an identity: of each file of a list, another when the file is (`then` goes behind each name); of each variable, its value. */
void rtc_stamp_each(Arena *a, Text *t, const char *list, const char *separator, const char *then);
void rtc_variables(Text *t, const char *const *names);

/* rtc_load.c: loads the first library, of dirs (each ends in / or is "", the search path; NULL: none) x names, in which
 * resolve(to, lib) finds what it wants. *name: what it was asked by. On false *fault says why one that is there does not load. */
bool rtc_load(Arena *a, const char *const *dirs, size_t n_dirs, const char *const *names, size_t n_names,
              bool (*resolve)(void *to, void *lib), void *to, const char **name, LibraryFault *fault);

/* rtc_comgr.c: AMD's code object manager, through dlopen. */
typedef struct Comgr Comgr;
Comgr *comgr_open(Arena *a, const char *beside, bool newest, RtcTool *tool); /* beside: the directory to try first */
void comgr_archs(Comgr *c, RtcTool *tool);
bool comgr_kernels(Comgr *c, Arena *a, RtcJob *job, Err *e); /* job->code -> job->kernels, n_kernels */

/* rtc_lines.c: what job->code's debug sections say of lines -> job->lines (NULL: nothing that can be read); job->code without them. */
void rtc_lines(Arena *a, RtcJob *job);

#endif
