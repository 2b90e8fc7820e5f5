/* crew_test.c - the emulator's threads: made once, as many as can be, the same results whatever becomes of them. */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rtc.h"
#include "runtime/emu/emu.h"

static int failed;
static void verdict(const char *name, bool ok, const char *why) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failed++;
    fflush(stdout);
}

static const char source[] =
    "#define K extern \"C\" __global__ void\n"
    "K small(int *p, int n) { p[blockIdx.x * 64 + threadIdx.x] = n + blockIdx.x; }\n"
    "K large(int *p, int n) {\n"
    "    __shared__ int s[8192];\n"
    "    for (int i = threadIdx.x; i < 8192; i += 256) s[i] = n + i;\n"
    "    __syncthreads();\n"
    "    p[blockIdx.x * 256 + threadIdx.x] = s[(threadIdx.x * 31 + blockIdx.x) % 8192];\n"
    "}\n"
    "K leftover(int *p, int n) { __shared__ int s[64]; if (n < 0) s[threadIdx.x] = n; p[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x]; }\n";

enum { GROUPS = 32, MOST = GROUPS * 256 };
static EmuModule *module;

/* --- threads that are counted, and of which only some can be made -------------------------------------------------------------- */

static int made, can_be_made = 1000; /* made: wanted, too */

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (__atomic_add_fetch(&made, 1, __ATOMIC_RELAXED) > can_be_made) return EAGAIN;
    return real(t, a, f, arg);
}

/* --- a device ------------------------------------------------------------------------------------------------------------------- */

typedef struct Fake Fake;
struct Fake {
    EmuMem *mem;
    int p[MOST], launches;
    Err e;
};

static Fake *open_fake(void) {
    Fake *f = calloc(1, sizeof *f);
    if (!f || !(f->mem = emu_mem_new()) || !emu_mem_add(f->mem, f->p, sizeof f->p, "p", true, &f->e)) exit(2);
    return f;
}

static void close_fake(Fake *f) {
    emu_mem_free(f->mem);
    free(f);
}

static bool launch(Fake *f, const char *kernel, uint32_t block, int n, uint32_t threads) {
    struct { int *p, n; } args = {f->p, n};
    EmuLaunch l = {.kernel = kernel, .grid = {GROUPS, 1, 1}, .block = {block, 1, 1}, .kernarg = &args, .kernarg_size = 12, .threads = threads};
    memset(f->p, 0, sizeof f->p);
    f->launches++;
    return emu_launch(module, f->mem, &l, NULL, &f->e);
}

/* One launch of each kind; all of their results. */
static bool good(Fake *f, uint32_t threads) {
    int n = f->launches * 1000;
    if (!launch(f, "small", 64, n, threads)) return false;
    for (int i = 0; i < GROUPS * 64; i++)
        if (f->p[i] != n + i / 64) return err_set(&f->e, "small: %d is %d", i, f->p[i]);
    if (!launch(f, "large", 256, n, threads)) return false;
    for (int i = 0; i < GROUPS * 256; i++)
        if (f->p[i] != n + (i % 256 * 31 + i / 256) % 8192) return err_set(&f->e, "large: %d is %d", i, f->p[i]);
    return true;
}

/* --- tests ---------------------------------------------------------------------------------------------------------------------- */

static void test_threads(void) {
    Fake *f = open_fake();
    bool ok = true;
    made = 0;
    for (int i = 0; ok && i < 100; i++) ok = good(f, 4);
    if (ok && made != 3) ok = err_set(&f->e, "%d threads were made for 4", made);
    for (int i = 0; ok && i < 20; i++) ok = good(f, i % 7 + 1);
    if (ok && made != 6) ok = err_set(&f->e, "%d threads were made for up to 7", made);
    verdict("threads_are_kept", ok, f->e.msg);
    close_fake(f);
}

static void test_fewer(void) {
    for (int n = 0; n < 3; n++) {
        char name[64];
        Fake *f = open_fake();
        made = 0, can_be_made = n;
        bool ok = good(f, 8) && good(f, 8);
        can_be_made = 1000;
        snprintf(name, sizeof name, "only_%d_threads_can_be_made", n);
        verdict(name, ok, f->e.msg);
        close_fake(f);
    }
}

/* What a launch left in the memory of its threads, the next one has not written. */
static void test_leftover(void) {
    Fake *f = open_fake();
    bool ok = good(f, 4), ran = ok && launch(f, "leftover", 64, 1, 4);
    if (ran) ok = err_set(&f->e, "an earlier launch's LDS was read");
    ok = ok && (strstr(f->e.msg, "workgroup (0,0,0)") && strstr(f->e.msg, "was never written")) && good(f, 4);
    verdict("nothing_is_left_over", ok, f->e.msg);
    close_fake(f);
}

static void *many(void *arg) {
    Fake *f = arg;
    for (int i = 0; i < 100; i++)
        if (!good(f, 3)) return f;
    return NULL;
}

static void test_devices(void) {
    enum { DEVICES = 4 };
    Fake *f[DEVICES];
    pthread_t thread[DEVICES];
    bool ok = true;
    for (int i = 0; i < DEVICES; i++) f[i] = open_fake();
    for (int i = 0; i < DEVICES; i++) pthread_create(&thread[i], NULL, many, f[i]);
    Err e = {0};
    for (int i = 0; i < DEVICES; i++) {
        void *bad;
        pthread_join(thread[i], &bad);
        if (bad) ok = false, e = f[i]->e;
        close_fake(f[i]);
    }
    verdict("devices_at_once", ok, e.msg);
}

static void test_fork(void) {
    Fake *f = open_fake();
    int status = -1;
    bool ok = good(f, 4);
    pid_t pid = ok ? fork() : -1;
    if (pid == 0) {
        alarm(60); /* where it waits for threads that it has not */
        ok = good(f, 4);
        close_fake(f);
        _exit(ok ? 0 : 1);
    }
    if (ok && (waitpid(pid, &status, 0) != pid || status)) ok = err_set(&f->e, "the fork ended with status 0x%x", (unsigned)status);
    ok = ok && good(f, 4);
    verdict("a_fork_launches_alone", ok, f->e.msg);
    close_fake(f);
}

int main(void) {
    Err e = {0};
    size_t size;
    void *code = rtc_compile(source, NULL, &size, &e);
    if (!code && !strncmp(e.msg, "no hipRTC", 9)) return printf("skip crew: %s\n", e.msg), 0;
    if (!code || !(module = emu_load(code, size, &e))) return printf("FAIL load: %s\n", e.msg), 1;
    test_threads();
    test_fewer();
    test_leftover();
    test_devices();
    test_fork();
    emu_unload(module);
    free(code);
    return failed != 0;
}
