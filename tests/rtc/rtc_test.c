/* rtc_test.c - rtc.h's promises, against the hipRTC that is installed. One line a test: ok, FAIL or skip.
 * Build rtc/ with -DRTC_TEST: a worker then crashes, hangs or exits when an environment variable names its job. */
#include "rtc/rtc.h"

#include <elf.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failed, scripts;
static char tmp[] = "/tmp/rtc-test-XXXXXX"; /* holds the cache and the workers' temporary files */

#define CHECK(cond, ...)                                                                                               \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            printf("FAIL %s: line %d: %s: ", __func__ + 5, __LINE__, #cond), printf(__VA_ARGS__), puts("");            \
            failed++;                                                                                                  \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)
#define BEGIN                                                                                                          \
    Arena *a = arena_new();                                                                                            \
    Err e = {0};
#define END                                                                                                            \
    printf("ok %s\n", __func__ + 5);                                                                                   \
    done:                                                                                                              \
    arena_free(a)

static const char add[] = "extern \"C\" __global__ void add(float *x) {\n"
                          "    x[__builtin_amdgcn_workitem_id_x()] += 1.0f;\n}\n";
static const char mul[] = "extern \"C\" __global__ void mul(float *x, float y) {\n"
                          "    x[__builtin_amdgcn_workitem_id_x()] *= y;\n}\n";
static const char two[] = "extern \"C\" __global__ void p(int *x) { x[0] = 1; }\n"
                          "extern \"C\" __global__ __launch_bounds__(256) void q(float *x) {\n"
                          "    __shared__ float s[64];\n"
                          "    int t = __builtin_amdgcn_workitem_id_x();\n"
                          "    s[t] = x[t]; __builtin_amdgcn_s_barrier(); x[t] = s[63 - t];\n}\n";
static const char mfma[] =
    "typedef float f4 __attribute__((vector_size(16)));\n"
    "typedef short s4 __attribute__((vector_size(8)));\n"
    "typedef int i4 __attribute__((vector_size(16)));\n"
    "extern \"C\" __global__ void plain(float *x) { x[0] = 1; }\n"
    "extern \"C\" __global__ __launch_bounds__(64, 2) void gemm(const i4 *x, const i4 *w, f4 *y) {\n"
    "    int t = __builtin_amdgcn_workitem_id_x();\n"
    "    union { i4 i; s4 s[2]; } a, b;\n"
    "    a.i = x[t]; b.i = w[t];\n"
    "    f4 c = {0, 0, 0, 0};\n"
    "    c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a.s[0], b.s[0], c, 0, 0, 0);\n"
    "    c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a.s[1], b.s[1], c, 0, 0, 0);\n"
    "    y[t] = c;\n}\n";

static RtcJob job(const char *name, const char *source) {
    return (RtcJob){.name = name, .source = source, .arch = "gfx90a"};
}

static bool same_code(const RtcJob *x, const RtcJob *y) {
    return x->code_size && x->code_size == y->code_size && !memcmp(x->code, y->code, x->code_size);
}

/* A fresh cache directory of that name. */
static void use_cache(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    setenv("GPTOSS_CACHE", path, 1);
}

/* How many files in a directory; the last one's path in `path`. */
static int files_in(const char *dir, char *path, size_t room) {
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.') n++, snprintf(path, room, "%s/%s", dir, f->d_name);
    if (d) closedir(d);
    return n;
}

/* The same of a cache's entries. */
static int entries_in(const char *dir, char *path, size_t room) {
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (strstr(f->d_name, ".rtc")) n++, snprintf(path, room, "%s/%s", dir, f->d_name);
    if (d) closedir(d);
    return n;
}

/* --- the system's calls and its cc, made to fail; the compiler's processes are forks of this one, so they too meet it --- */

static bool no_name, no_dup, no_poll; /* uname, dup2 and polls of several descriptors fail */
static pid_t may_send;                /* all others may not; 0: all may */

/* libc's own of the function that stands here */
#define OWN(name) (*(__typeof__(&name) *)&(void *){dlsym(RTLD_NEXT, #name)})

int uname(struct utsname *u) {
    return no_name ? (errno = EIO, -1) : OWN(uname)(u);
}

int poll(struct pollfd *p, nfds_t n, int ms) {
    return no_poll && n > 1 ? (errno = EINVAL, -1) : OWN(poll)(p, n, ms);
}

ssize_t send(int fd, const void *from, size_t n, int flags) {
    return may_send && may_send != getpid() ? (errno = ENOBUFS, -1) : OWN(send)(fd, from, n, flags);
}

int dup2(int from, int to) {
    return no_dup ? (errno = ENOMEM, -1) : OWN(dup2)(from, to);
}

/* CC is a script from here on: cc, once `lines` are done with, in which $T is a folder of the test's. */
static void use_cc(const char *lines) {
    char path[256];
    snprintf(path, sizeof path, "%s/cc-%d", tmp, scripts++);
    FILE *f = fopen(path, "w");
    if (f) fprintf(f, "#!/bin/sh\nT=%s\n%s\nexec cc \"$@\"\n", tmp, lines), fclose(f);
    chmod(path, 0700);
    setenv("CC", path, 1);
}

static const char function[] = "__attribute__((visibility(\"default\"))) int k(void) { return 1; }\n";

static bool host(Arena *a, const char *source, bool cached, RtcJob *j, Err *e) {
    *j = (RtcJob){.name = "k.c", .source = source, .arch = "host:test"};
    return rtc_compile(a, RTC_HOST, j, 1, &(RtcOptions){.workers = 1, .no_cache = !cached}, e);
}

/* The same where no file may be larger than that: a full disk, as far as it goes. */
static bool host_limited(rlim_t size, Arena *a, const char *source, RtcJob *j, Err *e) {
    struct rlimit old, less;
    getrlimit(RLIMIT_FSIZE, &old);
    less = (struct rlimit){size, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &less);
    bool ok = host(a, source, false, j, e);
    setrlimit(RLIMIT_FSIZE, &old);
    return ok;
}

static int no_cache(RtcJob *jobs, int n, Arena *a, Err *e) {
    RtcOptions o = {.workers = 2, .no_cache = true};
    return rtc_compile(a, RTC_HIP, jobs, n, &o, e);
}

/* --- the tests; a test is named by its function --- */

static void test_probe(void) {
    BEGIN;
    const char *version = "";
    CHECK(rtc_probe(a, RTC_HIP, "gfx90a", &version, &e), "%s", e.msg);
    CHECK(strstr(version, "hipRTC ") == version && strstr(version, ".so"), "%s", version);
    CHECK(rtc_probe(a, RTC_HIP, "gfx90a:xnack-", &version, &e), "%s", e.msg);
    END;
}

static void count_up(void *ctx, int done, int total, const char *name) {
    int *seen = ctx;
    (void)name;
    if (total == 3 && done == *seen + 1) *seen = done;
}

static void test_parallel(void) {
    BEGIN;
    int seen = 0;
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul), job("two.hip", two)};
    RtcOptions o = {.workers = 3, .no_cache = true, .progress = count_up, .ctx = &seen};
    CHECK(rtc_compile(a, RTC_HIP, jobs, 3, &o, &e), "%s", e.msg);
    CHECK(seen == 3, "progress was called to %d", seen);
    for (int i = 0; i < 3; i++)
        CHECK(jobs[i].code_size && !*jobs[i].log && jobs[i].seconds > 0, "job %d: %s", i, jobs[i].log);
    CHECK(!strcmp(jobs[0].kernels[0].symbol, "add") && jobs[0].n_kernels == 1, "%s", jobs[0].kernels[0].symbol);
    CHECK(jobs[2].n_kernels == 2, "%d kernels", jobs[2].n_kernels);
    const RtcKernel *q = &jobs[2].kernels[!strcmp(jobs[2].kernels[1].symbol, "q")];
    CHECK(!strcmp(q->symbol, "q") && q->lds == 256 && q->max_block == 256 && q->kernarg >= 8,
          "%s lds %u block %u kernarg %u", q->symbol, q->lds, q->max_block, q->kernarg);
    CHECK(q->vgprs && q->sgprs && q->code_bytes && !q->scratch && !q->vgpr_spills, "%u %u %u", q->vgprs, q->sgprs,
          q->code_bytes);
    END;
}

static void test_cache_hit(void) {
    BEGIN;
    use_cache("hit/deeper");
    RtcJob cold = job("mfma.hip", mfma), warm = cold, other = cold;
    CHECK(rtc_compile(a, RTC_HIP, &cold, 1, NULL, &e), "%s", e.msg);
    CHECK(rtc_compile(a, RTC_HIP, &warm, 1, NULL, &e), "%s", e.msg);
    CHECK(!cold.cached && warm.cached, "cold %d warm %d", cold.cached, warm.cached);
    CHECK(same_code(&cold, &warm), "%zu and %zu bytes", cold.code_size, warm.code_size);
    CHECK(cold.n_kernels == 2 && warm.n_kernels == 2 && !memcmp(cold.kernels, warm.kernels, 2 * sizeof *cold.kernels),
          "kernels");
    const char *options[] = {"-O1"};
    other.options = options, other.n_options = 1;
    CHECK(rtc_compile(a, RTC_HIP, &other, 1, NULL, &e), "%s", e.msg);
    CHECK(!other.cached, "options are not in the key");
    other = job("mfma2.hip", mfma);
    CHECK(rtc_compile(a, RTC_HIP, &other, 1, NULL, &e), "%s", e.msg);
    CHECK(!other.cached, "the name is not in the key");
    other = job("mfma.hip", mfma), other.arch = "gfx908";
    rtc_compile(a, RTC_HIP, &other, 1, NULL, &e);
    CHECK(!other.cached, "the arch is not in the key");
    END;
}

static void test_cache_corrupt(void) {
    BEGIN;
    char path[512];
    use_cache("corrupt");
    RtcJob x = job("add.hip", add), y = x;
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e), "%s", e.msg);
    CHECK(entries_in(getenv("GPTOSS_CACHE"), path, sizeof path) == 1, "entries");
    struct stat st;
    CHECK(!stat(path, &st), "%s", path);
    long places[] = {0, 17, 40, st.st_size / 2, st.st_size - 1}; /* key, magic, sizes, code, the last byte */
    for (size_t i = 0; i < LEN(places) + 1; i++) {
        if (i == LEN(places)) {
            CHECK(!truncate(path, st.st_size - 100), "truncate");
        } else {
            FILE *f = fopen(path, "r+b");
            CHECK(f && !fseek(f, places[i], SEEK_SET), "%s", path);
            int c = fgetc(f);
            fseek(f, places[i], SEEK_SET), fputc(c ^ 4, f), fclose(f);
        }
        y = job("add.hip", add);
        CHECK(rtc_compile(a, RTC_HIP, &y, 1, NULL, &e), "%s", e.msg);
        CHECK(!y.cached && same_code(&x, &y), "place %zu: taken from a damaged entry", i);
        y = job("add.hip", add);
        CHECK(rtc_compile(a, RTC_HIP, &y, 1, NULL, &e), "%s", e.msg);
        CHECK(y.cached && same_code(&x, &y), "place %zu: not replaced", i);
    }
    END;
}

/* stderr of fn, by way of a file. */
static char *stderr_of(Arena *a, bool (*fn)(Arena *, Err *), bool *ok, Err *e) {
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "%s/stderr", tmp);
    fflush(stderr);
    int old = dup(2), f = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(f, 2), close(f);
    *ok = fn(a, e);
    dup2(old, 2), close(old);
    char *text = file_read(a, path, &n, e);
    return text ? text : "";
}

static bool two_jobs(Arena *a, Err *e) {
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul)};
    return rtc_compile(a, RTC_HIP, jobs, 2, NULL, e) && jobs[0].code_size && jobs[1].code_size;
}

static void test_cache_unwritable(void) {
    BEGIN;
    bool ok;
    const char *dirs[] = {"/proc/gptoss", "/dev/null/gptoss", "/proc/self"};
    for (size_t i = 0; i < LEN(dirs); i++) {
        setenv("GPTOSS_CACHE", dirs[i], 1);
        const char *text = stderr_of(a, two_jobs, &ok, &e);
        CHECK(ok, "%s", e.msg);
        const char *line = strchr(text, '\n');
        CHECK(strstr(text, "warning") && strstr(text, dirs[i]) && line && !line[1], "%s: [%s]", dirs[i], text);
    }
    END;
}

static void test_syntax_error(void) {
    BEGIN;
    use_cache("syntax");
    RtcJob jobs[] = {
        job("good.hip", add),
        job("bad.hip",
            "#line 41 \"templates/linear.hip\"\nextern \"C\" __global__ void k(float *x) {\n    *x = nonsense;\n}\n"),
        job("plain.hip", "extern \"C\" __global__ void k(float *x) {\n    int 3;\n}\n")};
    CHECK(!rtc_compile(a, RTC_HIP, jobs, 3, NULL, &e), "compiled");
    CHECK(strstr(e.msg, "bad.hip: ") == e.msg && strstr(e.msg, "and 1 more failed"), "%s", e.msg);
    CHECK(strstr(e.msg, "templates/linear.hip:42:10: error:") && strstr(e.msg, "nonsense"), "%s", e.msg);
    CHECK(strstr(jobs[2].log, "plain.hip:2:9: error:"), "%s", jobs[2].log);
    CHECK(jobs[0].code_size && !jobs[1].code, "the good one");
    CHECK(!rtc_compile(a, RTC_HIP, jobs + 2, 1, NULL, &e) && !jobs[2].cached, "a failure was cached");
    END;
}

static void test_warning_kept(void) {
    BEGIN;
    use_cache("warning");
    RtcJob x = job("w.hip", "#warning look here\nextern \"C\" __global__ void k(float *x) { *x = 1; }\n"), y = x;
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e) && rtc_compile(a, RTC_HIP, &y, 1, NULL, &e), "%s", e.msg);
    CHECK(strstr(x.log, "w.hip:1:2: warning: look here") && y.cached && !strcmp(x.log, y.log), "[%s] [%s]", x.log,
          y.log);
    END;
}

static void test_unknown_arch(void) {
    BEGIN;
    const char *version = "";
    CHECK(!rtc_probe(a, RTC_HIP, "gfx9999", &version, &e), "known");
    CHECK(strstr(e.msg, "hipRTC ") == e.msg && strstr(e.msg, "cannot compile for gfx9999") && *version, "%s", e.msg);
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul)};
    jobs[1].arch = "gfx9999";
    CHECK(!no_cache(jobs, 2, a, &e), "compiled");
    CHECK(strstr(e.msg, "mul.hip: hipRTC ") == e.msg && strstr(e.msg, "gfx9999"), "%s", e.msg);
    CHECK(jobs[0].code_size, "the other one");
    CHECK(!no_cache(jobs + 1, 1, a, &e) && strstr(e.msg, "hipRTC ") == e.msg && strstr(e.msg, "cannot compile for gfx9999"), "%s", e.msg);
    if (strstr(version, "hipRTC 5.2")) { /* these crash it when tried */
        static const char *const archs[] = {"gfx942", "gfx950", "gfx1100", "gfx1201"};
        for (size_t i = 0; i < LEN(archs); i++) {
            CHECK(!rtc_probe(a, RTC_HIP, archs[i], &version, &e), "known");
            CHECK(strstr(e.msg, archs[i]) && strstr(e.msg, "needs ROCm "), "%s", e.msg);
        }
    }
    END;
}

static void test_crash(void) {
    BEGIN;
    RtcJob jobs[] = {job("add.hip", add), job("linear.hip", mul), job("two.hip", two), job("mfma.hip", mfma)};
    setenv("GPTOSS_RTC_CRASH", "linear.hip", 1);
    setenv("GPTOSS_RTC_EXIT", "two.hip", 1);
    bool ok = no_cache(jobs, 4, a, &e);
    unsetenv("GPTOSS_RTC_CRASH");
    unsetenv("GPTOSS_RTC_EXIT");
    CHECK(!ok, "compiled");
    CHECK(strstr(e.msg, "linear.hip: the compiler crashed (signal 6); LLVM ERROR: as the test asked") == e.msg, "%s",
          e.msg);
    CHECK(strstr(jobs[1].log, "LLVM ERROR") && !jobs[1].code && !jobs[2].code, "%s", jobs[1].log);
    CHECK(jobs[0].code_size && jobs[3].code_size, "the rest was not compiled");
    END;
}

/* An error of the assembler, found after the front end; HIP 5.2 reports it only on stderr or not at all. */
static void test_compiler_fault(void) {
    BEGIN;
    RtcJob jobs[] = {
        job("add.hip", add),
        job("asm.hip", "extern \"C\" __global__ void k(int *x) { asm volatile(\"v_no_such v0, v1\"); }\n")};
    CHECK(!no_cache(jobs, 2, a, &e), "compiled");
    CHECK(strstr(e.msg, "asm.hip: ") == e.msg, "%s", e.msg);
    CHECK(jobs[0].code_size, "the rest was not compiled");
    END;
}

static void test_timeout(void) {
    BEGIN;
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul)};
    setenv("GPTOSS_RTC_HANG", "mul.hip", 1);
    setenv("GPTOSS_RTC_TIMEOUT", "3", 1);
    bool ok = no_cache(jobs, 2, a, &e);
    unsetenv("GPTOSS_RTC_HANG");
    unsetenv("GPTOSS_RTC_TIMEOUT");
    CHECK(!ok && strstr(e.msg, "mul.hip: the compiler did not end within 3 s"), "%s", e.msg);
    CHECK(jobs[0].code_size, "the rest was not compiled");
    END;
}

/* The cache vouches for what was compiled, to the byte and with its source, as long as it is whole and nobody else's. */
static void test_made_here(void) {
    BEGIN;
    char path[512];
    use_cache("made_here");
    RtcJob x = job("add.hip", add), y = job("mul.hip", mul), again = x;
    CHECK(!rtc_made_here(add, "code", 4), "an empty cache vouches");
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e) && no_cache(&y, 1, a, &e), "%s", e.msg);
    CHECK(rtc_made_here(add, x.code, x.code_size), "not for what it holds");
    CHECK(!rtc_made_here(mul, x.code, x.code_size), "for another source");
    CHECK(!rtc_made_here(mul, y.code, y.code_size), "for what it does not hold");
    ((char *)x.code)[x.code_size / 2] ^= 1;
    CHECK(!rtc_made_here(add, x.code, x.code_size), "for other bytes");
    ((char *)x.code)[x.code_size / 2] ^= 1;
    chmod(getenv("GPTOSS_CACHE"), 0777);
    CHECK(!rtc_made_here(add, x.code, x.code_size), "though all may write to it");
    chmod(getenv("GPTOSS_CACHE"), 0755);
    CHECK(entries_in(getenv("GPTOSS_CACHE"), path, sizeof path) == 1 && !truncate(path, 100), "entries");
    CHECK(!rtc_made_here(add, x.code, x.code_size), "though the entry is damaged");
    CHECK(rtc_compile(a, RTC_HIP, &again, 1, NULL, &e) && rtc_made_here(add, x.code, x.code_size), "not once it is whole again");
    END;
}

/* Where all is cached no compiler is loaded (here it could not be), unless what decides which one it is has changed. */
static void test_known(void) {
    BEGIN;
    char path[512];
    use_cache("known");
    RtcJob x = job("add.hip", add), y = job("mul.hip", mul);
    const char *version = NULL, *first = NULL;
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, &(RtcOptions){.version = &first}, &e), "%s", e.msg);
    setenv("TMPDIR", "/nonexistent", 1);
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, &(RtcOptions){.version = &version}, &e) && x.cached, "%s", e.msg);
    CHECK(!strcmp(version, first), "%s, %s", version, first);
    CHECK(!rtc_compile(a, RTC_HIP, &y, 1, NULL, &e) && strstr(e.msg, "temporary directory"), "another job: %s", e.msg);
    CHECK(!no_cache(&x, 1, a, &e) && strstr(e.msg, "temporary directory"), "without the cache: %s", e.msg);
    setenv("ROCM_PATH", "/nonexistent", 1);
    CHECK(!rtc_compile(a, RTC_HIP, &x, 1, NULL, &e) && strstr(e.msg, "temporary directory"), "another ROCm: %s", e.msg);
    unsetenv("ROCM_PATH");
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e), "the same one again: %s", e.msg);
    snprintf(path, sizeof path, "%s/hip.tool", getenv("GPTOSS_CACHE"));
    size_t n = 0;
    char *record = file_read(a, path, &n, &e);
    CHECK(record && n > 100, "%s", e.msg);
    record[n / 2] ^= 1;
    CHECK(file_write(path, record, n, &e), "%s", e.msg);
    CHECK(!rtc_compile(a, RTC_HIP, &x, 1, NULL, &e), "a damaged record");
    unsetenv("TMPDIR");
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e) && x.cached, "%s", e.msg);
    setenv("TMPDIR", "/nonexistent", 1);
    CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e), "not once it is whole again: %s", e.msg);
    unsetenv("TMPDIR");
    END;
}

/* Comments at the beginning make no other code; those that swallow the next line do. */
static void test_comments(void) {
    BEGIN;
    use_cache("comments");
    static const char *const sources[] = {"// one\n// two\n", "// three\n// four\n", "// one line\n", "\n", "// one \\\n// two\n", "// one \\\n\n"};
    static const bool cached[] = {false, true, false, false, false, false};
    for (size_t i = 0; i < LEN(sources); i++) {
        char text[256];
        snprintf(text, sizeof text, "%sextern \"C\" __global__ void k(float *x) { x[0] = 1; }\n", sources[i]);
        RtcJob x = job("k.hip", text);
        CHECK(rtc_compile(a, RTC_HIP, &x, 1, NULL, &e) && x.cached == cached[i], "%zu: %s", i, e.msg);
        CHECK(rtc_made_here(text, x.code, x.code_size), "%zu: not made here", i);
    }
    END;
}

static void test_duplicates(void) {
    BEGIN;
    char path[512];
    use_cache("duplicates");
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul), job("add.hip", add), job("add.hip", add)};
    CHECK(rtc_compile(a, RTC_HIP, jobs, 4, NULL, &e), "%s", e.msg);
    CHECK(entries_in(getenv("GPTOSS_CACHE"), path, sizeof path) == 2, "not two entries");
    CHECK(same_code(&jobs[0], &jobs[2]) && same_code(&jobs[0], &jobs[3]) && jobs[2].seconds == 0, "compiled again");
    CHECK(jobs[3].n_kernels == 1 && !strcmp(jobs[3].kernels[0].symbol, "add"), "kernels");
    END;
}

static void test_mfma(void) {
    BEGIN;
    RtcJob x = job("mfma.hip", mfma);
    CHECK(no_cache(&x, 1, a, &e), "%s", e.msg);
    CHECK(x.n_kernels == 2, "%d kernels", x.n_kernels);
    for (int i = 0; i < 2; i++) {
        const RtcKernel *k = &x.kernels[i];
        bool gemm = !strcmp(k->symbol, "gemm");
        CHECK(k->mfma == (gemm ? 2 : 0) && k->loads16 == (gemm ? 2 : 0), "%s: %u mfma, %u loads", k->symbol, k->mfma,
              k->loads16);
        CHECK(!gemm || k->max_block == 64, "%u", k->max_block);
    }
    END;
}

static void test_determinism(void) {
    BEGIN;
    RtcJob x[] = {job("mfma.hip", mfma), job("two.hip", two), job("add.hip", add)};
    RtcJob y[] = {job("add.hip", add), job("two.hip", two), job("mfma.hip", mfma)};
    CHECK(no_cache(x, 3, a, &e) && no_cache(y, 3, a, &e), "%s", e.msg);
    for (int i = 0; i < 3; i++) CHECK(same_code(&x[i], &y[2 - i]), "job %d differs", i);
    END;
}

/* What is not fused in the source is not fused in the code, and what is, is; a later option may undo that. */
static void test_contraction(void) {
    BEGIN;
    const char *fast[] = {"-ffp-contract=fast"};
    RtcJob plain = job("k.hip", "extern \"C\" __global__ void k(float *x) { x[0] = x[1] * x[2] + x[3]; }\n"),
           fused = plain;
    RtcJob fma =
        job("k.hip", "extern \"C\" __global__ void k(float *x) { x[0] = __builtin_fmaf(x[1], x[2], x[3]); }\n");
    fused.options = fast, fused.n_options = 1;
    CHECK(no_cache(&plain, 1, a, &e) && no_cache(&fma, 1, a, &e) && no_cache(&fused, 1, a, &e), "%s", e.msg);
    CHECK(!same_code(&plain, &fma), "fused");
    CHECK(same_code(&fused, &fma), "the option does nothing");
    END;
}

/* What our short header has, all of it: HIP's own does not define of_one_. And what it has not. */
static void test_headers(void) {
    BEGIN;
    RtcJob with = job("h.hip",
                      "#ifndef of_one_\n#error HIP's own header\n#endif\n"
                      "#define BOTH(f, ...) v += f(__VA_ARGS__), d += f((double)__VA_ARGS__);\n"
                      "extern \"C\" __global__ __launch_bounds__(64) void k(float *x, double *y) {\n"
                      "    __shared__ float s[64];\n"
                      "    const unsigned i = threadIdx.x + blockIdx.x * blockDim.x + threadIdx.y + blockIdx.y * gridDim.y + threadIdx.z + blockIdx.z * blockDim.z;\n"
                      "    s[threadIdx.x] = x[i]; __syncthreads();\n"
                      "    float v = s[63 - threadIdx.x]; double d = v;\n"
                      "    BOTH(exp, v) BOTH(exp2, v) BOTH(log, v) BOTH(log2, v) BOTH(sqrt, v) BOTH(fabs, v) BOTH(floor, v) BOTH(ceil, v)\n"
                      "    BOTH(tanh, v) BOTH(erf, v) BOTH(sin, v) BOTH(cos, v)\n"
                      "    v = fmaxf(v, expf(v)), v = fminf(v, powf(v, v)), v = fmaf(v, v, v), v = fma(v, v, v), v = fmax(v, sqrtf(v));\n"
                      "    d = fma(d, d, d), d = fmin(d, pow(d, d));\n"
                      "    x[i] = v, y[i] = d;\n"
                      "}\n");
    RtcJob again = with;
    CHECK(no_cache(&with, 1, a, &e) && no_cache(&again, 1, a, &e), "%s", e.msg);
    CHECK(with.n_kernels == 1 && !*with.log, "%s", with.log);
    CHECK(same_code(&with, &again) && with.lines && strstr(with.lines, "h.hip") && !strcmp(with.lines, again.lines) && !strstr(with.lines, "hiprtc_runtime"), "another result each time: %s", with.lines);
    again = with;
    setenv("GPTOSS_RTC_ONCE", "h.hip", 1); /* the first attempt fails: the next has our header still */
    bool ok = no_cache(&again, 1, a, &e);
    unsetenv("GPTOSS_RTC_ONCE");
    CHECK(ok && same_code(&with, &again), "%s", e.msg);
    RtcJob without = job("h.hip", "extern \"C\" __global__ void k(int *x) { x[threadIdx.x] = __popc(x[blockIdx.x]) + min(x[0], x[1]); atomicAdd(x, 1); }\n");
    CHECK(no_cache(&without, 1, a, &e), "%s", e.msg);
    CHECK(without.n_kernels == 1 && !*without.log, "%s", without.log);
    END;
}

static void test_no_leftovers(void) {
    BEGIN;
    char dir[256], path[512] = "";
    snprintf(dir, sizeof dir, "%s/left", tmp);
    CHECK(!mkdir(dir, 0700), "mkdir");
    setenv("TMPDIR", dir, 1);
    setenv("GPTOSS_RTC_CRASH", "add.hip", 1);
    RtcJob jobs[] = {job("add.hip", add), job("mul.hip", mul)};
    no_cache(jobs, 2, a, &e);
    unsetenv("GPTOSS_RTC_CRASH");
    unsetenv("TMPDIR");
    CHECK(files_in(dir, path, sizeof path) == 0, "%s was left", path);
    CHECK(jobs[1].code_size, "%s", e.msg);
    END;
}

static void test_bad_tmpdir(void) {
    BEGIN;
    RtcJob x = job("add.hip", add);
    setenv("TMPDIR", "/nonexistent", 1);
    bool ok = no_cache(&x, 1, a, &e);
    unsetenv("TMPDIR");
    CHECK(!ok && strstr(e.msg, "cannot make a temporary directory in /nonexistent: No such file"), "%s", e.msg);
    END;
}

/* Killed in the middle of a job, the caller leaves neither processes nor files. */
static void test_killed(void) {
    BEGIN;
    char dir[256], path[512] = "";
    snprintf(dir, sizeof dir, "%s/killed", tmp);
    CHECK(!mkdir(dir, 0700), "mkdir");
    fflush(stdout);
    int alive[2]; /* held by every descendant: its end says that all have gone */
    CHECK(!pipe(alive), "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        close(alive[0]);
        setenv("TMPDIR", dir, 1);
        setenv("GPTOSS_RTC_HANG", "add.hip", 1);
        RtcJob x = job("add.hip", add);
        no_cache(&x, 1, a, &e);
        _exit(0);
    }
    close(alive[1]);
    for (int i = 0; i < 1000; i++) { /* until the worker has begun: it opens 0.err */
        char worker[600];
        nanosleep(&(struct timespec){0, 10000000}, NULL);
        if (files_in(dir, path, sizeof path) != 1) continue;
        snprintf(worker, sizeof worker, "%s/0.err", path);
        if (!access(worker, F_OK)) break;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    char c;
    struct pollfd end = {.fd = alive[0], .events = POLLIN};
    ssize_t n = poll(&end, 1, 20000) == 1 ? read(alive[0], &c, 1) : -1;
    close(alive[0]);
    CHECK(n == 0, "a process outlived its caller by 20 s");
    CHECK(files_in(dir, path, sizeof path) == 0, "%s was left", path);
    END;
}

static void test_many(void) {
    BEGIN;
    enum { N = 12 };
    RtcJob jobs[N];
    for (int i = 0; i < N; i++)
        jobs[i] = job(arena_printf(a, "j%d.hip", i),
                      arena_printf(a, "extern \"C\" __global__ void k%d(int *x) { *x = %d; }\n", i, i));
    CHECK(no_cache(jobs, N, a, &e), "%s", e.msg);
    for (int i = 0; i < N; i++) {
        char want[16];
        snprintf(want, sizeof want, "k%d", i);
        CHECK(jobs[i].n_kernels == 1 && !strcmp(jobs[i].kernels[0].symbol, want), "job %d has %s", i,
              jobs[i].kernels[0].symbol);
    }
    CHECK(no_cache(jobs, 0, a, &e), "no jobs");
    END;
}

/* The bytes that are loaded, of any code object: sections that take memory, one behind the other. */
static Text loaded(const RtcJob *j) {
    Text t = {0};
    Elf64_Ehdr h;
    memcpy(&h, j->code, sizeof h);
    for (int i = 0; i < h.e_shnum; i++) {
        Elf64_Shdr s;
        memcpy(&s, (const char *)j->code + h.e_shoff + (size_t)i * sizeof s, sizeof s);
        if (s.sh_flags & SHF_ALLOC && s.sh_type != SHT_NOBITS) text_put(&t, (const char *)j->code + s.sh_offset, s.sh_size);
    }
    return t;
}

/* Lines are taken from debug information, which changes no byte that is loaded and is not kept. */
static void test_lines(void) {
    BEGIN;
    static const char *const none[] = {"-g0"};
    RtcJob with[] = {job("mfma.hip", mfma), job("two.hip", two)}, without[] = {with[0], with[1]};
    for (int i = 0; i < 2; i++) without[i].options = none, without[i].n_options = 1;
    CHECK(rtc_compile(a, RTC_HIP, with, 2, &(RtcOptions){.no_cache = true}, &e), "%s", e.msg);
    CHECK(rtc_compile(a, RTC_HIP, without, 2, &(RtcOptions){.no_cache = true}, &e), "%s", e.msg);
    for (int i = 0; i < 2; i++) {
        CHECK(with[i].lines && !without[i].lines, "%s", with[i].name);
        Text x = loaded(&with[i]), y = loaded(&without[i]);
        bool same = x.n > 500 && x.n == y.n && !memcmp(x.at, y.at, x.n);
        text_free(&x), text_free(&y);
        CHECK(same, "%s: other code", with[i].name);
        CHECK(!memmem(with[i].code, with[i].code_size, "CompileSource", 13), "%s: debug sections are left", with[i].name);
    }
    /* q stands in lines 2 to 6, its barrier and what is around it in the last but one */
    CHECK(!strncmp(with[1].lines, "FILE two.hip\n", 13), "%s", with[1].lines);
    CHECK(strstr(with[1].lines, " 1 5\n") && strstr(with[1].lines, " 1 1\n") && !strstr(with[1].lines, " 1 7\n"), "%s", with[1].lines);
    END;
}

/* A cc that fails for another reason than that it does not know the options gives no target with fewer words. */
static void test_host_asked(void) {
    BEGIN;
    const char *all = rtc_host_target(a, &e), *again;
    CHECK(all, "%s", e.msg);
    no_name = true;
    again = rtc_host_target(a, &e);
    bool lacks = rtc_host_lacks(a, all, &e);
    no_name = false;
    CHECK(!again && !lacks && strstr(e.msg, "the machine's name: Input/output error"), "%s", e.msg);
    if (strchr(all, ' ')) { /* a CPU with words to ask about */
        use_cc("case \"$*\" in *-fsyntax-only*) kill -9 $$ ;; esac");
        CHECK(!rtc_host_target(a, &e) && strstr(e.msg, "was ended by signal 9"), "%s", e.msg);
        use_cc("case \"$*\" in *-fsyntax-only*) [ -e $T/once ] || { : >$T/once; exit 1; } ;; esac"); /* as gcc, whose child was killed */
        again = rtc_host_target(a, &e);
        CHECK(again && !strcmp(again, all), "%s", again ? again : e.msg);
        use_cc("case \"$*\" in *-fsyntax-only*) sleep 100 ;; esac");
        setenv("GPTOSS_RTC_PATIENCE", "0.1", 1);
        again = rtc_host_target(a, &e);
        unsetenv("GPTOSS_RTC_PATIENCE");
        CHECK(!again && strstr(e.msg, "did not answer within 0.1 s"), "%s", e.msg);
    }
    END;
    unsetenv("CC");
}

static void test_host_faults(void) {
    BEGIN;
    RtcJob x;
    bool ok;
    use_cache("host");
    use_cc("[ $1 != --version ] || sleep 100");
    setenv("GPTOSS_RTC_PATIENCE", "0.1", 1);
    ok = host(a, function, false, &x, &e);
    unsetenv("GPTOSS_RTC_PATIENCE");
    CHECK(!ok && strstr(e.msg, "did not answer within 0.1 s"), "%s", e.msg);
    use_cc("[ $1 != --version ] || exit 0");
    ok = host(a, function, false, &x, &e);
    CHECK(!ok && strstr(e.msg, "--version prints nothing"), "%s", e.msg);
    use_cc("");
    no_dup = true;
    ok = host(a, function, false, &x, &e);
    no_dup = false;
    CHECK(!ok && strstr(e.msg, "cannot run") && strstr(e.msg, "Cannot allocate memory"), "%s", e.msg);
    ok = host_limited(8192, a, arena_printf(a, "/*%20000s*/%s", "", function), &x, &e);
    CHECK(!ok && strstr(e.msg, ".c: File too large"), "%s", e.msg);
    CHECK(host(a, function, false, &x, &e) && x.n_kernels == 1, "%s", e.msg);
    use_cc("[ $1 = --version ] || { printf %8000s x; exit 1; }"); /* with it the result is larger than 8 KB */
    CHECK(!host_limited(8100, a, function, &x, &e) && strstr(e.msg, "k.c: cannot write to ") && strstr(e.msg, "File too large (TMPDIR"), "%s", e.msg);
    use_cc("");
    for (int i = 0; i < 2; i++) CHECK(host(a, "int nothing;\n", true, &x, &e) && !x.cached, "what has no kernels is kept");
    CHECK(host(a, function, true, &x, &e) && host(a, function, true, &x, &e) && x.cached, "%s", e.msg);
    END;
    unsetenv("CC");
}

/* The server between us and cc stops, cannot wait, cannot speak: an error that says so, and nothing is left. */
static void test_host_server(void) {
    BEGIN;
    RtcJob x;
    char dir[256], path[512] = "";
    snprintf(dir, sizeof dir, "%s/server", tmp);
    CHECK(!mkdir(dir, 0700), "mkdir");
    setenv("TMPDIR", dir, 1), setenv("GPTOSS_RTC_PATIENCE", "0.2", 1), setenv("GPTOSS_RTC_TIMEOUT", "0.1", 1);
    use_cc("kill -STOP $PPID"); /* asked for its version by the server */
    bool open = host(a, function, false, &x, &e);
    CHECK(!open && strstr(e.msg, "the host compiler does not say what it is: it said nothing for 0.3 s, and was killed"), "%s", e.msg);
    setenv("GPTOSS_RTC_PATIENCE", "0.7", 1), setenv("GPTOSS_RTC_TIMEOUT", "0.6", 1); /* time enough to come so far */
    use_cc("[ $1 = --version ] || { read -r _ _ _ server _ </proc/$PPID/stat; kill -STOP $server; }");
    bool stopped = host(a, function, false, &x, &e);
    CHECK(!stopped && strstr(e.msg, "k.c: the compiler's server is gone: it said nothing for 1.3 s"), "%s", e.msg);
    unsetenv("GPTOSS_RTC_PATIENCE"), unsetenv("GPTOSS_RTC_TIMEOUT"), unsetenv("CC");
    no_poll = true;
    bool polled = host(a, function, false, &x, &e);
    no_poll = false;
    CHECK(!polled && strstr(e.msg, "server is gone: it died; poll: Invalid argument"), "%s", e.msg);
    may_send = getpid();
    bool sent = host(a, function, false, &x, &e);
    may_send = 0;
    CHECK(!sent && strstr(e.msg, "crashed while it was loaded; what it is cannot be sent: No buffer space"), "%s", e.msg);
    CHECK(files_in(dir, path, sizeof path) == 0, "%s was left", path);
    END;
    unsetenv("TMPDIR"), unsetenv("CC"), unsetenv("GPTOSS_RTC_PATIENCE"), unsetenv("GPTOSS_RTC_TIMEOUT");
}

/* A cc that hangs, and waits for a process of its own, ends with its job's time, and with its caller, killed or by Ctrl-C. */
static void test_host_hangs(void) {
    BEGIN;
    RtcJob x;
    int alive[2]; /* held by every descendant */
    char began[256];
    snprintf(began, sizeof began, "%s/began", tmp);
    use_cc("[ $1 = --version ] || { : >$T/began; sleep 100; }");
    CHECK(!pipe(alive), "pipe");
    setenv("GPTOSS_RTC_TIMEOUT", "0.5", 1);
    bool ok = host(a, function, false, &x, &e);
    unsetenv("GPTOSS_RTC_TIMEOUT");
    CHECK(!ok && strstr(e.msg, "k.c: the compiler did not end within 0.5 s"), "%s", e.msg);
    CHECK(!access(began, F_OK) && !unlink(began), "cc was not begun");
    fflush(stdout);
    for (int question = 0; question < 2; question++) { /* so does one that is asked what it knows, by the caller itself */
        if (question) use_cc("[ $1 = --version ] || { : >$T/began; exec sleep 100; }");
        pid_t pid = fork();
        if (pid == 0) {
            if (question) rtc_host_target(a, &e);
            else host(a, function, false, &x, &e);
            _exit(0);
        }
        for (int i = 0; i < 1000 && access(began, F_OK); i++) nanosleep(&(struct timespec){0, 10000000}, NULL);
        CHECK(!unlink(began), "cc was not begun");
        kill(pid, question ? SIGKILL : SIGINT);
        waitpid(pid, NULL, 0);
    }
    close(alive[1]);
    struct pollfd end = {.fd = alive[0], .events = POLLIN};
    int ended = poll(&end, 1, 20000);
    close(alive[0]);
    CHECK(ended == 1, "a process outlived its caller by 20 s");
    END;
    unsetenv("CC");
}

static const struct {
    const char *name;
    void (*run)(void);
    bool host; /* it needs no hipRTC */
} tests[] = {
#define H(name)                                                                                                        \
    { #name, test_##name, true }
#define T(name)                                                                                                        \
    { #name, test_##name, false }
    T(probe),        T(parallel),     T(cache_hit),    T(cache_corrupt), T(cache_unwritable),
    T(syntax_error), T(warning_kept), T(unknown_arch), T(crash),         T(compiler_fault),
    T(timeout),      T(duplicates),   T(made_here),    T(mfma),         T(determinism),   T(contraction),
    T(headers), T(known), T(comments),  T(no_leftovers), T(bad_tmpdir),   T(killed),        T(many),        T(lines),
    H(host_asked),   H(host_faults),  H(host_server),  H(host_hangs),
};

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {0};
    const char *version;
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool there = rtc_probe(a, RTC_HIP, "gfx90a", &version, &e) || !strstr(e.msg, "no hipRTC found");
    if (!mkdtemp(tmp)) return perror(tmp), 1;
    for (size_t i = 0; i < LEN(tests); i++) {
        if (argc > 1 && strcmp(argv[1], tests[i].name)) continue;
        if (there || tests[i].host) tests[i].run();
        else printf("skip %s: %s\n", tests[i].name, e.msg);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", tmp);
    if (system(command)) fprintf(stderr, "%s was left\n", tmp);
    arena_free(a);
    return failed != 0;
}
