/* dev_host.c - the device that is this CPU: compiled C kernels (--arch host), threads.
 *
 * Memory is host memory; mapped weights are used where they lie. A module is a shared object in the plan; it is loaded from
 * memory. A kernel is  void NAME(void *const *args, const int at[3], Room *room)  for one block of its grid; blocks are
 * handed out to the threads one by one and share nothing, so results do not depend on how many threads there are.
 * A plan names the CPU features that its code needs. Where one is missing the plan's sources are compiled again, into the
 * cache, or an error says what is missing. GPTOSS_PIN=1 ties each thread to a CPU. */
#include "code.h"
#include "device.h"
#include "ir/wait.h"

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern const DeviceOps dev_host; /* the table, at the end */

enum { ROOM_STEP = 2 << 20, MAX_THREADS = 1024, SPINS = 4000 };

typedef struct Room Room; /* as in templates/arch/host.h */
struct Room {
    char *at;
    size_t size;
    unsigned long long launch, made;
    int made_y, thread, next[2];
    void (*grow)(Room *room, size_t size);
};
typedef void HostKernel(void *const *args, const int *at, Room *room);

struct DeviceModule {
    void *so;
    int fd; /* stays open: the loader tells shared objects apart by their path, /proc/self/fd/N */
};

struct DeviceKernel {
    HostKernel *run;
    char *symbol;
    uint64_t launches;
    double seconds;
    DeviceKernel *next;
};

typedef struct Work Work; /* one launch */
struct Work {
    HostKernel *run;
    void *const *args;
    const uint32_t *grid;
    uint64_t blocks;
    unsigned long long launch;
};

typedef struct Host Host;
typedef struct Worker Worker;
struct Worker {
    Host *host;
    pthread_t thread;
    Room room;
};
struct Host {
    Device base;
    const Plan *plan;
    Arena *arena;  /* of recompiled modules; NULL: the plan's code is used */
    RtcJob *again; /* [plan->n_modules] */
    void **owned;  /* what alloc gave, to tell it from adopted memory */
    size_t n_owned, cap_owned, held; /* held: bytes */
    DeviceKernel *kernels; /* newest first */
    atomic_ullong launches;

    /* The crew. A launch writes work and makes `state` odd: open. A worker that sees it enters, takes blocks until there are none,
     * and leaves. The caller does the same, makes state even and waits for those inside; one that still sleeps is not waited for. */
    Worker *workers; /* [0] is the caller */
    int n_workers;
    Work work;
    _Alignas(64) atomic_uint state;
    _Alignas(64) atomic_ullong next;
    _Alignas(64) atomic_int inside;
    atomic_int asleep;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;

    /* The watch: names a kernel that does not come back. It cannot be ended; the program can. */
    pthread_t watch;
    bool watched;
    double patience;
    pthread_mutex_t watch_lock;
    pthread_cond_t watch_end;
    atomic_bool watch_over;
    _Atomic(const char *) running; /* the kernel; NULL: none */
};

/* --- threads ------------------------------------------------------------------------------------------------------------------- */

static void room_grow(Room *r, size_t size) {
    size_t n = (size + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP;
    free(r->at);
    r->at = large_alloc(n);
    r->size = n;
    r->made = 0;
    if (r->at) return;
    fprintf(stderr, "gptoss: out of memory (a thread asked for %zu bytes)\n", size);
    exit(1);
}

static void pause_cpu(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static uint64_t take(Host *h) { return atomic_fetch_add_explicit(&h->next, 1, memory_order_relaxed); }

static void do_blocks(Host *h, Room *room) {
    const Work *w = &h->work;
    uint64_t i = take(h), next;
    room->launch = w->launch;
    for (; i < w->blocks; i = next) {
        next = take(h); /* taken before it is needed, so that block i can fetch its weights */
        room->next[0] = next < w->blocks ? (int)(next % w->grid[0]) : -1;
        room->next[1] = (int)(next / w->grid[0] % w->grid[1]);
        const int at[3] = {(int)(i % w->grid[0]), (int)(i / w->grid[0] % w->grid[1]), (int)(i / w->grid[0] / w->grid[1])};
        w->run(w->args, at, room);
    }
}

static bool sees_work(Host *h, unsigned seen) {
    unsigned s = atomic_load(&h->state);
    return (s % 2 && s != seen) || atomic_load(&h->stop);
}

static void await_work(Host *h, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (sees_work(h, seen)) return;
        pause_cpu();
    }
    pthread_mutex_lock(&h->lock);
    atomic_fetch_add(&h->asleep, 1);
    while (!sees_work(h, seen)) pthread_cond_wait(&h->wake, &h->lock);
    atomic_fetch_sub(&h->asleep, 1);
    pthread_mutex_unlock(&h->lock);
}

static void *work(void *arg) {
    Worker *w = arg;
    for (unsigned seen = 0;;) {
        await_work(w->host, seen);
        if (atomic_load(&w->host->stop)) return NULL;
        atomic_fetch_add(&w->host->inside, 1);
        unsigned s = atomic_load(&w->host->state); /* once inside: while it is odd the work stays as it is */
        if (s % 2) do_blocks(w->host, &w->room), seen = s;
        atomic_fetch_sub(&w->host->inside, 1);
    }
}

static void run_alone(Host *h) {
    atomic_store(&h->next, 0);
    do_blocks(h, &h->workers[0].room);
}

static void run_together(Host *h) {
    atomic_store(&h->next, 0);
    atomic_fetch_add(&h->state, 1);
    if (atomic_load(&h->asleep)) {
        pthread_mutex_lock(&h->lock);
        pthread_cond_broadcast(&h->wake);
        pthread_mutex_unlock(&h->lock);
    }
    do_blocks(h, &h->workers[0].room);
    atomic_fetch_add(&h->state, 1);
    for (int i = 0; atomic_load(&h->inside); i++) {
        if (i < SPINS) pause_cpu();
        else sched_yield();
    }
}

static void *watch(void *arg) {
    Host *h = arg;
    unsigned long long seen = 0, said = 0;
    pthread_mutex_lock(&h->watch_lock);
    while (!atomic_load(&h->watch_over)) {
        double begin = seconds_now();
        int rc = wait_seconds(&h->watch_end, &h->watch_lock, h->patience);
        if (!rc) continue;
        if (rc != ETIMEDOUT) break; /* a time that is none: nobody watches, rather than ask again for ever */
        if (seconds_now() - begin > h->patience + 1) continue; /* all of it stood still: nothing could come back */
        unsigned long long now = atomic_load(&h->launches);
        const char *kernel = atomic_load(&h->running);
        device_say_stuck(kernel && now == seen);
        if (kernel && now == seen && now != said) {
            fprintf(stderr, "device host: kernel %s has not come back for %g s (GPTOSS_HANG_SECONDS); Ctrl-C ends the program\n", kernel, h->patience);
            said = now;
        }
        seen = now;
    }
    pthread_mutex_unlock(&h->watch_lock);
    return NULL;
}

static void start_watch(Host *h) {
    pthread_mutex_init(&h->watch_lock, NULL);
    wait_init(&h->watch_end);
    h->patience = device_hang_seconds();
    h->watched = !pthread_create(&h->watch, NULL, watch, h);
}

static void stop_watch(Host *h) {
    if (!h->watched) return;
    pthread_mutex_lock(&h->watch_lock);
    atomic_store(&h->watch_over, true);
    pthread_cond_signal(&h->watch_end);
    pthread_mutex_unlock(&h->watch_lock);
    pthread_join(h->watch, NULL);
}

static int cpus(cpu_set_t *set) { return sched_getaffinity(0, sizeof *set, set) ? 1 : CPU_COUNT(set); }

static void pin(pthread_t t, const cpu_set_t *all, int n) {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int i = 0, k = n % CPU_COUNT(all); i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, all) && k-- == 0) CPU_SET(i, &one);
    pthread_setaffinity_np(t, sizeof one, &one);
}

static bool start_crew(Host *h, int threads, Err *e) {
    cpu_set_t set;
    int n = cpus(&set);
    const char *pinned = getenv("GPTOSS_PIN");
    if (threads) n = threads < MAX_THREADS ? threads : MAX_THREADS;
    h->workers = calloc((size_t)n, sizeof *h->workers);
    if (!h->workers) return err_set(e, "device host: out of memory");
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    for (int i = 0; i < n; i++, h->n_workers++) {
        Worker *w = &h->workers[i];
        w->host = h;
        w->room.thread = i;
        w->room.grow = room_grow;
        int rc = i ? pthread_create(&w->thread, NULL, work, w) : 0;
        if (rc) return err_set(e, "device host: thread %d of %d: %s", i + 1, n, strerror(rc));
        if (pinned && !strcmp(pinned, "1")) pin(i ? w->thread : pthread_self(), &set, i);
    }
    return true;
}

static void stop_crew(Host *h) {
    if (!h->workers) return;
    atomic_store(&h->stop, true);
    pthread_mutex_lock(&h->lock);
    pthread_cond_broadcast(&h->wake);
    pthread_mutex_unlock(&h->lock);
    for (int i = 1; i < h->n_workers; i++) pthread_join(h->workers[i].thread, NULL);
    for (int i = 0; i < h->n_workers; i++) free(h->workers[i].room.at);
    free(h->workers);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->wake);
}

/* --- open ---------------------------------------------------------------------------------------------------------------------- */

static int host_count(void) { return 1; }

/* The plan's code needs what this CPU lacks: compile its sources here. */
static bool compile_again(Host *h, const char *lacks, Err *e) {
    const Plan *p = h->plan;
    const char *target = rtc_host_target(h->arena, e);
    if (!target) return false;
    fprintf(stderr, "the plan was compiled for a CPU with %s, which this one has not: compiling its sources for %s\n", lacks, target);
    h->again = arena_array(h->arena, (size_t)p->n_modules, sizeof *h->again);
    return code_for_host(h->arena, p, target, h->again, e) ||
           err_wrap(e, "the plan was compiled for a CPU with %s, which this one has not, and cannot be compiled here", lacks);
}

static void host_close(Device *d);

static Device *host_open(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    (void)index; /* several share the CPU */
    if (strcmp(p->arch, "host")) return err_set(e, "device host runs plans made with --arch host; this one is for %s", p->arch), NULL;
    device_bound_memory();
    Host *h = calloc(1, sizeof *h);
    if (!h) return err_set(e, "device host: out of memory"), NULL;
    h->base.ops = &dev_host;
    h->plan = p;
    h->arena = arena_new();
    const char *lacks = rtc_host_lacks(h->arena, p->target_id, e); /* asks for the tile registers too: before there are threads */
    if (lacks && (!*lacks || compile_again(h, lacks, e)) && start_crew(h, o->threads, e)) return start_watch(h), &h->base;
    host_close(&h->base);
    return NULL;
}

static void host_close(Device *d) {
    Host *h = (Host *)d;
    stop_watch(h);
    stop_crew(h);
    for (DeviceKernel *k = h->kernels, *next; k; k = next) {
        next = k->next;
        free(k->symbol);
        free(k);
    }
    for (size_t i = 0; i < h->n_owned; i++) device_give(&h->held, h->owned[i]);
    free(h->owned);
    arena_free(h->arena);
    free(h);
}

/* What can be had without swapping; the page cache counts as free. */
static size_t available(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kb = 0;
    while (f && !kb && fgets(line, sizeof line, f)) sscanf(line, "MemAvailable: %llu", &kb);
    if (f) fclose(f);
    return kb ? (size_t)kb << 10 : (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
}

static bool host_info(Device *d, DeviceInfo *i, Err *e) {
    (void)e;
    *i = (DeviceInfo){"", "host", 0, available()};
    snprintf(i->name, sizeof i->name, "this CPU, %d threads", ((Host *)d)->n_workers);
    i->memory_total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    return true;
}

/* --- memory -------------------------------------------------------------------------------------------------------------------- */

static void *host_alloc(Device *d, size_t size, const char *name, Err *e) {
    Host *h = (Host *)d;
    if (h->n_owned == h->cap_owned) {
        size_t cap = h->cap_owned ? 2 * h->cap_owned : 64;
        void **more = realloc(h->owned, cap * sizeof *more);
        if (!more) return err_set(e, "device host: out of memory for %s", name), NULL;
        h->owned = more, h->cap_owned = cap;
    }
    void *p = device_take(&h->held, size, "host", name, e);
    return p ? h->owned[h->n_owned++] = p : NULL;
}

static void host_free(Device *d, void *p) {
    Host *h = (Host *)d;
    for (size_t i = 0; i < h->n_owned; i++)
        if (h->owned[i] == p) {
            device_give(&h->held, p);
            h->owned[i] = h->owned[--h->n_owned];
            return;
        }
}

/* Kernels read weights at any address that suits their type. Reading the file begins now, not at the first step's page faults. */
static void *host_adopt(Device *d, const void *p, size_t size, const char *name) {
    (void)d, (void)name;
    size_t page = (size_t)sysconf(_SC_PAGE_SIZE), into = (uintptr_t)p % page;
    if ((uintptr_t)p % 4) return NULL;
    madvise((char *)(uintptr_t)p - into, size + into, MADV_WILLNEED);
    return (void *)(uintptr_t)p;
}

static bool host_copy(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    (void)d, (void)stream, (void)e;
    if (n) memcpy(dst, src, n);
    return true;
}

static bool host_fill(Device *d, int stream, void *dst, int byte, size_t n, Err *e) {
    (void)d, (void)stream, (void)e;
    memset(dst, byte, n);
    return true;
}

static bool host_sync(Device *d, int stream, Err *e) {
    (void)d, (void)stream, (void)e;
    return true;
}

/* --- code ---------------------------------------------------------------------------------------------------------------------- */

static int memory_file(const char *name, const void *bytes, size_t n) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && !write_all(fd, bytes, n, -1)) return close(fd), -1;
    return fd;
}

static DeviceModule *host_module_load(Device *d, const PlanModule *m, Err *e) {
    Host *h = (Host *)d;
    const PlanModule *of = h->plan->modules;
    const RtcJob *again = h->again && m >= of && m < of + h->plan->n_modules ? &h->again[m - of] : NULL;
    char path[64];
    DeviceModule *r = calloc(1, sizeof *r);
    if (!r) return err_set(e, "device host: out of memory"), NULL;
    r->fd = memory_file(m->name, again ? again->code : m->code, again ? again->code_size : m->code_size);
    if (r->fd < 0) err_set(e, "device host: %s: no memory file: %s", m->name, strerror(errno));
    else {
        snprintf(path, sizeof path, "/proc/self/fd/%d", r->fd);
        if ((r->so = dlopen(path, RTLD_NOW | RTLD_LOCAL))) return r;
        err_set(e, "device host: %s: %s", m->name, dlerror());
        close(r->fd);
    }
    free(r);
    return NULL;
}

static void host_module_unload(Device *d, DeviceModule *m) {
    (void)d;
    if (!m) return;
    dlclose(m->so);
    close(m->fd);
    free(m);
}

static DeviceKernel *host_kernel(Device *d, DeviceModule *m, const PlanKernel *pk, Err *e) {
    Host *h = (Host *)d;
    DeviceKernel *k = calloc(1, sizeof *k);
    if (!k || !(k->symbol = strdup(pk->symbol))) return free(k), err_set(e, "device host: out of memory"), NULL;
    *(void **)&k->run = dlsym(m->so, pk->symbol);
    k->next = h->kernels;
    if (k->run) return h->kernels = k;
    free(k->symbol), free(k);
    return err_set(e, "device host: the shared object has no kernel %s", pk->symbol), NULL;
}

static bool host_launch(Device *d, int stream, DeviceKernel *k, const uint32_t grid[3], uint32_t block, uint32_t lds, void *const *args,
                        int n_args, Err *e) {
    (void)stream, (void)block, (void)lds, (void)n_args, (void)e;
    Host *h = (Host *)d;
    double begin = seconds_now();
    atomic_store_explicit(&h->running, k->symbol, memory_order_relaxed);
    h->work = (Work){k->run, args, grid, (uint64_t)grid[0] * grid[1] * grid[2], atomic_fetch_add(&h->launches, 1) + 1};
    if (h->work.blocks < 2 || h->n_workers < 2) run_alone(h);
    else run_together(h);
    atomic_store_explicit(&h->running, NULL, memory_order_relaxed);
    k->launches++;
    k->seconds += seconds_now() - begin;
    return true;
}

/* --- profile ------------------------------------------------------------------------------------------------------------------- */

static int slower_first(const void *a, const void *b) {
    double x = (*(DeviceKernel *const *)a)->seconds, y = (*(DeviceKernel *const *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void host_profile(Device *d, Text *t, bool json) {
    Host *h = (Host *)d;
    size_t n = 0;
    double all = 0;
    for (DeviceKernel *k = h->kernels; k; k = k->next) n += k->launches > 0, all += k->seconds;
    DeviceKernel **list = calloc(n + 1, sizeof *list);
    if (!list) out_of_memory((n + 1) * sizeof *list, "a profile");
    n = 0;
    for (DeviceKernel *k = h->kernels; k; k = k->next)
        if (k->launches) list[n++] = k;
    qsort(list, n, sizeof *list, slower_first);
    json_t *array = json_array();
    if (!json) text_add(t, "%-52s %9s %10s %10s %6s\n", "kernel", "launches", "seconds", "us each", "%");
    for (size_t i = 0; i < n; i++) {
        const DeviceKernel *k = list[i];
        if (json) json_array_append_new(array, json_pack("{s:s, s:I, s:f}", "kernel", k->symbol, "launches", (json_int_t)k->launches, "seconds", k->seconds));
        else text_add(t, "%-52s %9llu %10.4f %10.1f %6.1f\n", k->symbol, (unsigned long long)k->launches, k->seconds, k->seconds / (double)k->launches * 1e6, all > 0 ? k->seconds / all * 100 : 0);
    }
    char *s = json ? json_dumps(array, JSON_COMPACT) : NULL;
    if (s) text_add(t, "%s", s);
    free(s), free(list);
    json_decref(array);
}

const DeviceOps dev_host = {
    .name = "host", .many = true, .count = host_count, .open = host_open, .close = host_close, .info = host_info,
    .alloc = host_alloc, .free = host_free, .alloc_common = device_alloc_common, .free_common = device_free_common, .adopt = host_adopt, .upload = host_copy, .download = host_copy, .fill = host_fill, .sync = host_sync,
    .module_load = host_module_load, .module_unload = host_module_unload, .kernel = host_kernel, .launch = host_launch,
    .profile = host_profile,
};
