/* dev_gpu.c - the device of GPUs, on whatever API dev_hip.c or dev_cuda.c gives it. See dev_gpu.h.
 *
 * Copies go through two pinned halves a stream, so that an upload returns once its bytes are staged and the host may run
 * ahead; what was downloaded arrives at the next sync, or wait for an event behind it. Waiting is polling: work that has not
 * come back after GPTOSS_HANG_SECONDS (120) is reported as hung, with what was launched last, and the device is not touched
 * again.
 *
 * A thread that copies from another device (gpu_copy_from) touches nothing of that device's struct but what never changes.
 *
 * GPTOSS_SYNC_LAUNCHES=1 captures no graphs and waits after each launch: a fault or a hang then names its kernel.
 * GPTOSS_PDL=0: no kernel begins before the one before it has ended, whatever the plan says of it. Nor does it where several devices
 * compute a step: what a kernel reads early may then be another device's, which only events order (two H200, 2026-11-29: it hung). */
#include "dev_gpu.h"
#include "ir/library.h"
#include "numa.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

enum {
    STREAMS = 4,
    STAGE = 4 << 20,
    STAGE_ALIGN = 256,
    PENDING = 64,
    TIMED = 512,
    MARKS = 256, /* a step of several devices has a replay for each of its segments */
    MOST_REACHED = 64,
    NON_BLOCKING = 1,
    ANY_DEVICE = 3, /* of pinned memory: portable, and kernels reach it */
    NO_TIMING = 2,
    THREAD_LOCAL = 1
};

struct DeviceModule {
    void *handle;
};

struct DeviceKernel {
    void *function;
    char *symbol;
    bool overlaps;
    uint64_t launches; /* with -f */
    double ms;
    DeviceKernel *next;
};

typedef struct Gpu Gpu;

struct DeviceEvent {
    void *handle;
    int stream;
    uint64_t downloads; /* of the stream, before the record */
    const Gpu *of;      /* and its replays before it */
    uint64_t replays;
};

typedef struct Pending Pending; /* a download that is to be copied out of the stage once it has come */
struct Pending {
    void *dst;
    const void *staged;
    size_t n;
};

typedef struct Stream Stream;
struct Stream {
    void *handle;
    char *stage;   /* two halves of STAGE bytes */
    void *done[2]; /* events: what was copied from a half has left it */
    bool busy[2];
    int half;
    size_t used;              /* of the half */
    Pending pending[PENDING]; /* oldest first */
    int n_pending;
    uint64_t settled; /* downloads copied out so far */
};

typedef struct Captured Captured;
struct Captured {
    void *exec, *stream; /* stream: that is captured */
    int launches;
    const char *first, *last; /* kernels */
};

typedef struct Mark Mark; /* an event behind a replay: which one hangs? */
struct Mark {
    void *event;
    uint64_t replay;
    const Captured *graph;
    uint64_t *needs; /* [n_group] the replays of the group's others that it waits for */
};

typedef struct Timed Timed; /* a launch between two events */
struct Timed {
    DeviceKernel *kernel;
    void *begin, *end;
};

struct Gpu {
    Device base;
    DeviceOps ops; /* the table, without graphs where launches must run one by one */
    const GpuApi *api;
    const GpuFns *f;
    int index;
    void *context;
    uint64_t reached; /* the devices whose memory this one reads straight, a bit each */
    void *common_host; /* what alloc_common gave, if it is the host's */
    Gpu **group;       /* [n_group] that work together, this one among them; NULL: none do */
    int n_group;
    int commons; /* of the first: what the group has in common */
    uint64_t *needs; /* [n_group] what waits for the others' replays is put in next */
    char arch[64], name[128];
    Stream stream[STREAMS];
    DeviceKernel *kernels; /* newest first */
    Captured *capturing;   /* NULL: not */
    bool sync_launches, profile, overlap, hung;
    double hang_seconds;
    uint64_t launches, replays; /* for messages: what was started last */
    const char *last;
    const Captured *last_graph;
    Mark mark[MARKS]; /* of replay r: r % MARKS */
    Timed timed[TIMED];
    int n_timed;
};

/* --- the library ---------------------------------------------------------------------------------------------------- */

static bool resolve(void *lib, const char *path, const GpuSymbol *symbols, size_t n, Err *e) {
    for (size_t i = 0; i < n; i++) {
        *symbols[i].slot = dlsym(lib, symbols[i].name);
        if (!*symbols[i].slot && !symbols[i].optional)
            return err_set(e, "%s has no %s: it is too old, or not what its name says", path, symbols[i].name);
    }
    return true;
}

bool gpu_load(const char *const *names, size_t n_names, const char *const *dirs, size_t n_dirs,
              const GpuSymbol *symbols, size_t n, Err *e) {
    char path[4096];
    LibraryFault fault = {""};
    for (size_t d = 0; d < n_dirs; d++)
        for (size_t i = 0; dirs[d] && i < n_names; i++) {
            snprintf(path, sizeof path, "%s%s", dirs[d], names[i]);
            void *lib = library_open(path, RTLD_NOW | RTLD_LOCAL, &fault);
            if (lib) return resolve(lib, path, symbols, n, e);
        }
    if (*fault.why) return err_set(e, "%s is there but does not load: %s", names[n_names - 1], fault.why);
    return err_set(e, "no %s found", names[n_names - 1]);
}

static bool ready(const GpuApi *api, int *n, Err *e) {
    *n = 0;
    if (!api->load(e)) return err_wrap(e, "device %s", api->ops->name);
    /* hipInit says "invalid device" where there is none */
    int rc = api->f->init(0);
    if (!rc) rc = api->f->count(n);
    if (rc == GPU_NO_DEVICE || rc == GPU_INVALID_DEVICE || (!rc && !*n))
        return err_set(e, "device %s: there is none: %s", api->ops->name, api->none);
    return !rc || err_set(e, "device %s: %s at start: %s", api->ops->name, api->error_name(rc), api->none);
}

int gpu_count(const GpuApi *api) {
    Err e;
    int n;
    return ready(api, &n, &e) ? n : 0;
}

/* --- errors and waiting ------------------------------------------------------------------------------------------------ */

/* The oldest replay that has not come back, else the last. */
static uint64_t open_replay(const Gpu *g) {
    for (uint64_t r = g->replays < MARKS ? 1 : g->replays - MARKS + 1; r < g->replays; r++)
        if (g->mark[r % MARKS].graph && g->f->event_query(g->mark[r % MARKS].event) == GPU_NOT_READY) return r;
    return g->replays;
}

/* What the device was asked to do and has not done. */
static const char *position(const Gpu *g, char *s, size_t n) {
    const Mark *m = g->last_graph ? &g->mark[open_replay(g) % MARKS] : NULL;
    if (m && m->graph)
        snprintf(s, n,
                 "%s graph replay %llu, of %d launches from %s to %s; GPTOSS_SYNC_LAUNCHES=1 runs them one by one and "
                 "names the kernel",
                 g->hung ? "in" : "in or before", (unsigned long long)m->replay, m->graph->launches, m->graph->first,
                 m->graph->last);
    else if (g->last)
        snprintf(s, n, "the last started was launch %llu, kernel %s%s", (unsigned long long)g->launches, g->last,
                 g->sync_launches ? "" : "; GPTOSS_SYNC_LAUNCHES=1 waits after each and names the kernel");
    else snprintf(s, n, "no kernel has been launched yet");
    return s;
}

static bool failed(const Gpu *g, int rc, const char *what, Err *e) {
    char at[512];
    return err_set(e, "device %s %d: %s: %s; %s", g->api->ops->name, g->index, what, g->api->error_name(rc),
                   position(g, at, sizeof at));
}

static bool use(Gpu *g, Err *e) {
    int rc = g->api->use(g->index, &g->context);
    return !rc || failed(g, rc, "cannot be used", e);
}

/* Before something is freed: a device that cannot be used may still free what it has. False: it is hung, and would never answer. */
static bool to_free(Gpu *g) {
    Err e;
    if (!g->hung) (void)use(g, &e);
    return !g->hung;
}

static uint64_t done_replays(const Gpu *g) {
    uint64_t r = open_replay(g);
    const Mark *m = &g->mark[r % MARKS];
    bool open = r && m->graph && g->f->event_query(m->event) == GPU_NOT_READY;
    return open ? r - 1 : g->replays;
}

/* Which device of the group do they all wait for? */
static Gpu *culprit(Gpu *g) {
    const uint64_t *needs = g->mark[open_replay(g) % MARKS].needs;
    for (int i = 0; i < g->n_group && needs; i++)
        if (g->group[i] != g && needs[i] > done_replays(g->group[i])) return culprit(g->group[i]);
    return g;
}

/* Something of the group has failed: a device that does not come to an end by itself now is not touched again. */
static void abandon(Gpu *g) {
    const struct timespec nap = {0, 50000};
    double until = seconds_now() + (g->hang_seconds < 1 ? g->hang_seconds : 1);
    for (int i = 0; i < g->n_group; i++)
        for (int k = 0; k < STREAMS; k++) {
            const Stream *s = &g->group[i]->stream[k];
            while (s->handle && !g->group[i]->hung && g->f->stream_query(s->handle) == GPU_NOT_READY)
                if (seconds_now() > until) g->group[i]->hung = true;
                else nanosleep(&nap, NULL);
        }
}

/* Has another of the group failed, for which this one would wait for ever? */
static bool others_live(Gpu *g, Err *e) {
    for (int i = 0; i < g->n_group; i++) {
        Gpu *o = g->group[i];
        int rc = o == g ? GPU_OK : g->f->stream_query(o->stream[0].handle);
        if (rc == GPU_OK || rc == GPU_NOT_READY) continue;
        abandon(g);
        return failed(o, rc, "a launch or copy failed", e);
    }
    return true;
}

static bool hangs(Gpu *g, Err *e) {
    Gpu *at = culprit(g);
    char where[512];
    at->hung = true;
    err_set(e, "device %s %d: hung: nothing has come back for %g s (GPTOSS_HANG_SECONDS); %s", at->api->ops->name, at->index,
            g->hang_seconds, position(at, where, sizeof where));
    return abandon(g), false;
}

static bool wait_for(Gpu *g, int (*query)(void *), void *what, Err *e) {
    const struct timespec nap = {0, 50000};
    Stopwatch watch = {0};
    for (int rc; (rc = query(what));) {
        double waited = stopwatch(&watch, fmin(1, g->hang_seconds / 4));
        if (rc != GPU_NOT_READY) return abandon(g), failed(g, rc, "a launch or copy failed", e);
        if (waited > g->hang_seconds) return hangs(g, e);
        if (waited <= 1e-3) continue;
        if (!others_live(g, e)) return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

/* --- streams ------------------------------------------------------------------------------------------------------------ */

static bool stream_open(Gpu *g, Stream *s, Err *e) {
    int rc = g->f->stream_create(&s->handle, NON_BLOCKING);
    if (!rc) rc = g->f->host_alloc((void **)&s->stage, 2 * STAGE, 0);
    for (int i = 0; !rc && i < 2; i++) rc = g->f->event_create(&s->done[i], NO_TIMING);
    return !rc || failed(g, rc, "cannot make a stream", e);
}

static void stream_close(Gpu *g, Stream *s) {
    for (int i = 0; i < 2; i++)
        if (s->done[i]) g->f->event_destroy(s->done[i]);
    if (s->stage) g->f->host_free(s->stage);
    if (s->handle) g->f->stream_destroy(s->handle);
    *s = (Stream){0};
}

static Stream *stream_of(Gpu *g, int i, Err *e) {
    if (i < 0 || i >= STREAMS) die("device %s: stream %d", g->api->ops->name, i);
    if (!use(g, e)) return NULL;
    if (g->stream[i].handle || stream_open(g, &g->stream[i], e)) return &g->stream[i];
    stream_close(g, &g->stream[i]);
    return NULL;
}

static bool drain_timed(Gpu *g, Err *e);

/* The n oldest downloads have come: to where they were wanted. */
static void settle(Stream *s, int n) {
    for (int i = 0; i < n; i++) memcpy(s->pending[i].dst, s->pending[i].staged, s->pending[i].n);
    s->n_pending -= n, s->settled += (uint64_t)n;
    memmove(s->pending, s->pending + n, (size_t)s->n_pending * sizeof *s->pending);
}

/* Waits for all of the stream; then downloads are in place and the stage is free. */
static bool drain(Gpu *g, Stream *s, Err *e) {
    if (!wait_for(g, g->f->stream_query, s->handle, e)) return false;
    settle(s, s->n_pending);
    s->used = 0;
    s->busy[0] = s->busy[1] = false;
    return drain_timed(g, e);
}

/* The half is full: on to the other, once all copies from and to it are done. */
static bool next_half(Gpu *g, Stream *s, Err *e) {
    int rc = g->f->event_record(s->done[s->half], s->handle), n = 0;
    if (rc) return failed(g, rc, "cannot record an event", e);
    s->busy[s->half] = true;
    s->half ^= 1;
    s->used = 0;
    if (s->busy[s->half] && !wait_for(g, g->f->event_query, s->done[s->half], e)) return false;
    s->busy[s->half] = false;
    const char *half = s->stage + (size_t)s->half * STAGE;
    while (n < s->n_pending && (const char *)s->pending[n].staged >= half &&
           (const char *)s->pending[n].staged < half + STAGE)
        n++;
    settle(s, n);
    return true;
}

/* n <= STAGE bytes of pinned memory, for a copy that is queued next. */
static char *stage(Gpu *g, Stream *s, size_t n, Err *e) {
    if (s->used + n > STAGE && !next_half(g, s, e)) return NULL;
    char *p = s->stage + (size_t)s->half * STAGE + s->used;
    s->used += (n + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
    return p;
}

bool gpu_upload(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    for (size_t at = 0, piece; s && at < n; at += piece) {
        piece = n - at < STAGE ? n - at : STAGE;
        char *p = stage(g, s, piece, e);
        if (!p) return false;
        memcpy(p, (const char *)src + at, piece);
        int rc = g->f->upload((char *)dst + at, p, piece, s->handle);
        if (rc) return failed(g, rc, "cannot copy to the device", e);
    }
    return s != NULL;
}

bool gpu_download(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    for (size_t at = 0, piece; s && at < n; at += piece) {
        piece = n - at < STAGE ? n - at : STAGE;
        if (s->n_pending == PENDING && !drain(g, s, e)) return false;
        char *p = stage(g, s, piece, e);
        if (!p) return false;
        int rc = g->f->download(p, (const char *)src + at, piece, s->handle);
        if (rc) return failed(g, rc, "cannot copy from the device", e);
        s->pending[s->n_pending++] = (Pending){(char *)dst + at, p, piece};
    }
    return s != NULL;
}

bool gpu_fill(Device *d, int stream, void *dst, int byte, size_t n, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    if (!s) return false;
    int rc = n ? g->f->fill(dst, (unsigned char)byte, n, s->handle) : GPU_OK;
    return !rc || failed(g, rc, "cannot fill memory", e);
}

bool gpu_sync(Device *d, int stream, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    return s && drain(g, s, e);
}

/* --- from another device ------------------------------------------------------------------------------------------------- */

bool gpu_reach(Device *d, Device *other, Err *why) {
    Gpu *g = (Gpu *)d;
    const Gpu *from = (const Gpu *)other;
    if (!use(g, why)) return false;
    int rc = from->index < MOST_REACHED ? g->api->reach(g->index, from->index, from->context) : GPU_NO_PEER;
    if (!rc) g->reached |= 1ull << from->index;
    return !rc || err_set(why, "device %s %d cannot reach device %s %d (%s)", g->api->ops->name, g->index,
                          g->api->ops->name, from->index, g->api->error_name(rc));
}

/* A piece lies in the stage once it has come from the other device; the one before it may still be on its way up. */
static bool copy_piece(Gpu *g, Stream *s, char *dst, Gpu *other, const char *src, size_t n, void *down, Err *e) {
    char *p = stage(g, s, n, e);
    if (!p) return false;
    int rc = g->api->use(other->index, &other->context);
    if (!rc) rc = g->f->download(p, src, n, down);
    if (rc) return failed(g, rc, "cannot copy from another device", e);
    if (!wait_for(g, g->f->stream_query, down, e) || !use(g, e)) return false;
    rc = g->f->upload(dst, p, n, s->handle);
    return !rc || failed(g, rc, "cannot copy to the device", e);
}

/* Through this device's pinned memory, on a stream of the other device that is nobody else's. */
static bool copy_staged(Gpu *g, Stream *s, char *dst, Gpu *other, const char *src, size_t n, Err *e) {
    void *down = NULL;
    int rc = g->api->use(other->index, &other->context);
    if (!rc) rc = g->f->stream_create(&down, NON_BLOCKING);
    if (rc) return failed(g, rc, "cannot make a stream of another device", e);
    bool ok = true;
    for (size_t at = 0, piece; ok && at < n; at += piece) {
        piece = n - at < STAGE ? n - at : STAGE;
        ok = copy_piece(g, s, dst + at, other, src + at, piece, down, e);
    }
    Err why;
    if (!g->hung) g->f->stream_destroy(down);
    return use(g, ok ? e : &why) && ok;
}

bool gpu_copy_from(Device *d, int stream, void *dst, Device *other, const void *src, size_t n, Err *e) {
    Gpu *g = (Gpu *)d, *from = (Gpu *)other;
    Stream *s = stream_of(g, stream, e);
    if (!s || !n) return s != NULL;
    if (from->index >= MOST_REACHED || !(g->reached >> from->index & 1)) return copy_staged(g, s, dst, from, src, n, e);
    int rc = g->api->copy_peer(dst, g->index, g->context, src, from->index, from->context, n, s->handle);
    return !rc || failed(g, rc, "cannot copy from another device", e);
}

/* --- open, close, info ----------------------------------------------------------------------------------------------------- */

static bool asked(const char *variable) {
    const char *v = getenv(variable);
    return v && *v && strcmp(v, "0");
}

static bool refused(const char *variable) {
    const char *v = getenv(variable);
    return v && !strcmp(v, "0");
}

static bool check_arch(Gpu *g, const Plan *p, Err *e) {
    const char *api = g->api->ops->name;
    if (!g->api->arch(g->index, g->arch, sizeof g->arch))
        return err_set(e, "device %s %d: its architecture cannot be read", api, g->index);
    if (g->api->runs(g->arch, p->arch)) return true;
    return err_set(e, "device %s %d (%s) is %s, this plan is for %s: recompile with --arch %.*s", api, g->index,
                   g->name, g->arch, p->arch, (int)strcspn(g->arch, ":"), g->arch);
}

bool gpu_runs(const GpuApi *api, int index, const Plan *p) {
    char arch[64];
    return api->arch(index, arch, sizeof arch) && api->runs(arch, p->arch);
}

Device *gpu_open(const GpuApi *api, int index, const Plan *p, const DeviceOptions *o, Err *e) {
    int n;
    if (!ready(api, &n, e)) return NULL;
    if (index < 0 || index >= n)
        return err_set(e, "device %s %d: there are %d (0 to %d)", api->ops->name, index, n, n - 1), NULL;
    Gpu *g = calloc(1, sizeof *g);
    if (!g) return err_set(e, "device %s: out of memory", api->ops->name), NULL;
    *g = (Gpu){.api = api,
               .f = api->f,
               .index = index,
               .ops = *api->ops,
               .profile = o->profile,
               .sync_launches = asked("GPTOSS_SYNC_LAUNCHES")};
    g->base.ops = &g->ops;
    g->hang_seconds = device_hang_seconds();
    if (g->profile || g->sync_launches) g->ops.capture_begin = NULL;
    g->overlap = api->launch_overlapping && !g->profile && !g->sync_launches && p->devices < 2 && !refused("GPTOSS_PDL") && api->overlaps();
    if (api->f->name(g->name, sizeof g->name, index)) strcpy(g->name, "?");
    char bus[32] = "";
    if (!api->f->bus_id(bus, sizeof bus, index)) numa_bind(numa_node(bus)); /* before any pinned memory */
    if (check_arch(g, p, e) && stream_of(g, 0, e)) return &g->base;
    gpu_close(&g->base);
    return NULL;
}

void gpu_close(Device *d) {
    Gpu *g = (Gpu *)d;
    if (g->context) (void)to_free(g);
    for (int i = 0; !g->hung && i < STREAMS; i++) stream_close(g, &g->stream[i]);
    for (int i = 0; !g->hung && i < TIMED && g->timed[i].begin; i++)
        g->f->event_destroy(g->timed[i].begin), g->f->event_destroy(g->timed[i].end);
    for (int i = 0; i < MARKS; i++) {
        if (!g->hung && g->mark[i].event) g->f->event_destroy(g->mark[i].event);
        free(g->mark[i].needs);
    }
    free(g->needs);
    for (DeviceKernel *k = g->kernels, *next; k; k = next) {
        next = k->next;
        free(k->symbol);
        free(k);
    }
    if (!g->hung) g->api->release(g->index, g->context);
    free(g);
}

bool gpu_info(Device *d, DeviceInfo *i, Err *e) {
    Gpu *g = (Gpu *)d;
    *i = (DeviceInfo){.memory_total = 0};
    snprintf(i->name, sizeof i->name, "%s", g->name);
    snprintf(i->arch, sizeof i->arch, "%s", g->arch);
    if (!use(g, e)) return false;
    int rc = g->f->mem_info(&i->memory_free, &i->memory_total);
    return !rc || failed(g, rc, "cannot ask for its memory", e);
}

static void list_one(const GpuApi *api, int i, Text *t) {
    char name[128] = "?", arch[64] = "", bus[32] = "";
    size_t free = 0, total = 0;
    void *context = NULL;
    api->f->name(name, sizeof name, i);
    api->arch(i, arch, sizeof arch);
    api->f->bus_id(bus, sizeof bus, i);
    int rc = api->use(i, &context);
    if (!rc) rc = api->f->mem_info(&free, &total);
    text_add(t, "      %s %d  %s  %s  ", api->ops->name, i, name, arch);
    if (rc) text_add(t, "cannot be used: %s", api->error_name(rc));
    else text_add(t, "%.1f of %.1f GiB free", (double)free / 0x1p30, (double)total / 0x1p30);
    text_add(t, "  pci %s", bus);
    if (numa_node(bus) >= 0) text_add(t, "  numa node %d", numa_node(bus));
    text_add(t, "\n");
    api->release(i, context);
}

void gpu_list(const GpuApi *api, Text *t) {
    Err e;
    int n;
    if (!ready(api, &n, &e)) {
        text_add(t, "      %s\n", e.msg);
        return;
    }
    for (int i = 0; i < n; i++) list_one(api, i, t);
}

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

static bool no_memory(Gpu *g, int rc, size_t size, const char *name, Err *e) {
    size_t free = 0, total = 0;
    if (rc != GPU_OUT_OF_MEMORY || g->f->mem_info(&free, &total)) return failed(g, rc, "cannot allocate memory", e);
    return err_set(e,
                   "device %s %d: out of memory: %.2f GiB for %s (%.2f of %.2f GiB free); try a smaller -b or -n, or compile "
                   "with --kv16",
                   g->api->ops->name, g->index, (double)size / 0x1p30, name, (double)free / 0x1p30, (double)total / 0x1p30);
}

void *gpu_alloc(Device *d, size_t size, const char *name, Err *e) {
    Gpu *g = (Gpu *)d;
    void *p = NULL;
    if (!use(g, e)) return NULL;
    int rc = g->f->alloc(&p, size ? size : 1);
    return rc ? no_memory(g, rc, size, name, e), NULL : p;
}

void gpu_free(Device *d, void *p) {
    Gpu *g = (Gpu *)d;
    if (p && to_free(g)) g->f->free(p); /* waits for what is running, which a hung device would never end */
}

/* Each knows the others, so that it can say whom it waits for. */
static void make_group(Gpu *g, Device *const *others, int n) {
    if (g->commons++) return;
    g->group = calloc((size_t)n + 1, sizeof *g->group);
    for (int i = 0; g->group && i <= n; i++) g->group[i] = i ? (Gpu *)others[i - 1] : g;
    for (int i = 0; i <= n; i++) {
        Gpu *o = i ? (Gpu *)others[i - 1] : g;
        o->group = g->group, o->n_group = n + 1;
        o->needs = calloc((size_t)n + 1, sizeof *o->needs);
        if (!o->group || !o->needs) out_of_memory(((size_t)n + 1) * sizeof *o->needs, "a group of devices");
    }
}

static void end_group(Gpu *g, Device *const *others, int n) {
    if (--g->commons) return;
    free(g->group);
    for (int i = 0; i <= n; i++) {
        Gpu *o = i ? (Gpu *)others[i - 1] : g;
        o->group = NULL, o->n_group = 0;
    }
}

/* The address is the same for all: they are in one address space. */
void *gpu_alloc_common(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e) {
    Gpu *g = (Gpu *)d;
    void *p = NULL;
    bool straight = true;
    *why = (Err){""};
    for (int i = 0; i < n && straight; i++) straight = gpu_reach(others[i], d, why);
    if (!use(g, e)) return NULL;
    int rc = straight && !g->api->alloc_common ? g->f->alloc(&p, size)
             : straight ? g->api->alloc_common(&p, size) : g->f->host_alloc(&p, size, ANY_DEVICE);
    if (rc && !straight) return failed(g, rc, "cannot have pinned memory", e), err_wrap(e, "%s", name), NULL;
    if (rc) return no_memory(g, rc, size, name, e), NULL;
    if (!straight) g->common_host = p;
    make_group(g, others, n);
    return p;
}

void gpu_free_common(Device *d, Device *const *others, int n, void *p) {
    Gpu *g = (Gpu *)d;
    end_group(g, others, n);
    for (int i = 0; i < n; i++)
        if (((Gpu *)others[i])->hung) return; /* it may still write there */
    if (p != g->common_host) gpu_free(d, p);
    else if (to_free(g)) g->f->host_free(p);
}

/* --- modules and launches ------------------------------------------------------------------------------------------------- */

DeviceModule *gpu_module_load(Device *d, const PlanModule *m, Err *e) {
    Gpu *g = (Gpu *)d;
    if (!use(g, e)) return NULL;
    DeviceModule *r = calloc(1, sizeof *r);
    if (!r) return err_set(e, "device %s: out of memory", g->api->ops->name), NULL;
    int rc = g->f->module_load(&r->handle, m->code);
    if (!rc) return r;
    free(r);
    err_set(e, "device %s %d (%s): cannot load the code of %s: %s%s", g->api->ops->name, g->index, g->arch, m->name,
            g->api->error_name(rc), rc == GPU_NO_BINARY ? ": it was compiled for another device" : "");
    return NULL;
}

void gpu_module_unload(Device *d, DeviceModule *m) {
    Gpu *g = (Gpu *)d;
    if (m && to_free(g)) g->f->module_unload(m->handle);
    free(m);
}

static bool kernel_find(Gpu *g, DeviceKernel *k, DeviceModule *m, const PlanKernel *pk, Err *e) {
    int rc = g->f->module_function(&k->function, m->handle, pk->symbol);
    if (rc)
        return err_set(e, "device %s %d: the code has no kernel %s (%s)", g->api->ops->name, g->index, pk->symbol,
                       g->api->error_name(rc));
    rc = pk->lds && g->api->dynamic_lds ? g->api->dynamic_lds(k->function, pk->lds) : GPU_OK;
    if (rc)
        return err_set(e, "device %s %d (%s): kernel %s cannot have its %u bytes of shared memory (%s)",
                       g->api->ops->name, g->index, g->arch, pk->symbol, pk->lds, g->api->error_name(rc));
    return true;
}

DeviceKernel *gpu_kernel(Device *d, DeviceModule *m, const PlanKernel *pk, Err *e) {
    Gpu *g = (Gpu *)d;
    if (!use(g, e)) return NULL;
    DeviceKernel *k = calloc(1, sizeof *k);
    if (!k || !(k->symbol = strdup(pk->symbol)))
        return free(k), err_set(e, "device %s: out of memory", g->api->ops->name), NULL;
    if (!kernel_find(g, k, m, pk, e)) return free(k->symbol), free(k), NULL;
    k->overlaps = pk->overlaps && g->overlap;
    k->next = g->kernels;
    return g->kernels = k;
}

/* With -f: an event before and behind each launch. */
static bool drain_timed(Gpu *g, Err *e) {
    for (int i = 0; i < g->n_timed; i++) {
        float ms = 0;
        int rc = g->f->event_elapsed(&ms, g->timed[i].begin, g->timed[i].end);
        if (rc) return failed(g, rc, "cannot time a launch", e);
        g->timed[i].kernel->launches++;
        g->timed[i].kernel->ms += ms;
    }
    g->n_timed = 0;
    return true;
}

static bool time_begin(Gpu *g, Stream *s, DeviceKernel *k, Err *e) {
    if (g->n_timed == TIMED && !drain(g, s, e)) return false;
    Timed *t = &g->timed[g->n_timed];
    int rc = GPU_OK;
    t->kernel = k;
    if (!t->begin) {
        rc = g->f->event_create(&t->begin, 0);
        if (!rc) rc = g->f->event_create(&t->end, 0);
    }
    if (!rc) rc = g->f->event_record(t->begin, s->handle);
    return !rc || failed(g, rc, "cannot time a launch", e);
}

static bool time_end(Gpu *g, Stream *s, Err *e) {
    int rc = g->f->event_record(g->timed[g->n_timed++].end, s->handle);
    return !rc || failed(g, rc, "cannot time a launch", e);
}

/* A launch failed: nothing else may be called on a stream that is being captured. */
static void capture_abandon(Gpu *g) {
    void *graph = NULL;
    if (!g->capturing) return;
    g->f->capture_end(g->capturing->stream, &graph);
    if (graph) g->f->graph_destroy(graph);
    free(g->capturing);
    g->capturing = NULL;
}

bool gpu_launch(Device *d, int stream, DeviceKernel *k, const uint32_t grid[3], uint32_t block, uint32_t lds,
                void *const *args, int n_args, Err *e) {
    Gpu *g = (Gpu *)d;
    void *values[PLAN_MAX_ARGS], *params[PLAN_MAX_ARGS];
    Stream *s = stream_of(g, stream, e);
    if (!s || (g->profile && !time_begin(g, s, k, e))) return capture_abandon(g), false;
    for (int i = 0; i < n_args; i++) values[i] = args[i], params[i] = &values[i];
    g->launches++, g->last = k->symbol, g->last_graph = NULL;
    if (g->capturing) {
        if (!g->capturing->launches++) g->capturing->first = k->symbol;
        g->capturing->last = k->symbol;
    }
    int rc = k->overlaps
                 ? g->api->launch_overlapping(k->function, grid, block, lds, s->handle, params)
                 : g->f->launch(k->function, grid[0], grid[1], grid[2], block, 1, 1, lds, s->handle, params, NULL);
    if (rc) return failed(g, rc, "cannot launch", e), capture_abandon(g), false;
    if (g->profile && !time_end(g, s, e)) return false;
    return !g->sync_launches || drain(g, s, e);
}

/* --- graphs ------------------------------------------------------------------------------------------------------------------ */

bool gpu_capture_begin(Device *d, int stream, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    if (!s) return false;
    int rc = g->f->capture_begin(s->handle, THREAD_LOCAL);
    if (rc) return failed(g, rc, "cannot begin to capture", e);
    g->capturing = calloc(1, sizeof *g->capturing);
    if (!g->capturing) out_of_memory(sizeof *g->capturing, "a captured graph");
    g->capturing->stream = s->handle;
    return true;
}

void *gpu_capture_end(Device *d, int stream, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    Captured *c = g->capturing;
    void *graph = NULL;
    if (!s) return capture_abandon(g), NULL;
    g->capturing = NULL;
    int rc = g->f->capture_end(s->handle, &graph);
    if (!rc) rc = g->api->instantiate(&c->exec, graph);
    if (graph) g->f->graph_destroy(graph);
    if (!rc) return c;
    free(c);
    return failed(g, rc, "cannot capture a graph", e), NULL;
}

bool gpu_replay(Device *d, int stream, void *graph, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    if (!s) return false;
    g->last_graph = graph;
    Mark *m = &g->mark[++g->replays % MARKS];
    *m = (Mark){m->event, g->replays, graph, m->needs};
    if (g->n_group && !m->needs && !(m->needs = calloc((size_t)g->n_group, sizeof *m->needs))) out_of_memory((size_t)g->n_group * sizeof *m->needs, "a mark");
    if (g->n_group) memcpy(m->needs, g->needs, (size_t)g->n_group * sizeof *m->needs);
    int rc = m->event ? GPU_OK : g->f->event_create(&m->event, NO_TIMING);
    if (!rc) rc = g->f->graph_launch(g->last_graph->exec, s->handle);
    if (!rc) rc = g->f->event_record(m->event, s->handle);
    return !rc || failed(g, rc, "cannot replay a graph", e);
}

void gpu_graph_free(Device *d, void *graph) {
    Gpu *g = (Gpu *)d;
    Captured *c = graph;
    if (!g->hung) g->f->exec_destroy(c->exec);
    if (g->last_graph == c) g->last_graph = NULL;
    for (int i = 0; i < MARKS; i++)
        if (g->mark[i].graph == c) g->mark[i].graph = NULL;
    free(c);
}

/* --- events ------------------------------------------------------------------------------------------------------------------ */

DeviceEvent *gpu_event(Device *d, Err *e) {
    Gpu *g = (Gpu *)d;
    if (!use(g, e)) return NULL;
    DeviceEvent *v = calloc(1, sizeof *v);
    if (!v) return err_set(e, "device %s: out of memory", g->api->ops->name), NULL;
    int rc = g->f->event_create(&v->handle, 0);
    if (!rc) return v;
    free(v);
    return failed(g, rc, "cannot make an event", e), NULL;
}

void gpu_event_free(Device *d, DeviceEvent *v) {
    Gpu *g = (Gpu *)d;
    if (v && to_free(g)) g->f->event_destroy(v->handle);
    free(v);
}

bool gpu_record(Device *d, int stream, DeviceEvent *v, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    if (!s) return false;
    v->stream = stream, v->of = g, v->replays = g->replays;
    v->downloads = s->settled + (uint64_t)s->n_pending;
    int rc = g->f->event_record(v->handle, s->handle);
    return !rc || failed(g, rc, "cannot record an event", e);
}

bool gpu_wait(Device *d, DeviceEvent *v, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, v->stream, e);
    if (!s || !wait_for(g, g->f->event_query, v->handle, e)) return false;
    if (v->downloads > s->settled) settle(s, (int)(v->downloads - s->settled));
    return true;
}

bool gpu_await(Device *d, int stream, const DeviceEvent *v, Err *e) {
    Gpu *g = (Gpu *)d;
    Stream *s = stream_of(g, stream, e);
    if (!s) return false;
    int rc = g->f->stream_wait(s->handle, v->handle, 0);
    for (int i = 0; i < g->n_group; i++)
        if (g->group[i] == v->of) g->needs[i] = v->replays;
    return !rc || failed(g, rc, "cannot wait for another device", e);
}

bool gpu_elapsed(Device *d, const DeviceEvent *from, const DeviceEvent *to, double *seconds, Err *e) {
    Gpu *g = (Gpu *)d;
    float ms = 0;
    int rc = g->f->event_elapsed(&ms, from->handle, to->handle);
    *seconds = (double)ms * 1e-3;
    return !rc || failed(g, rc, "cannot tell a time", e);
}

/* --- profile ---------------------------------------------------------------------------------------------------------------- */

static int by_time(const void *x, const void *y) {
    const DeviceKernel *a = *(DeviceKernel *const *)x, *b = *(DeviceKernel *const *)y;
    return a->ms < b->ms ? 1 : a->ms > b->ms ? -1 : strcmp(a->symbol, b->symbol);
}

/* Launches are counted when they are waited for: those behind the last wait too. A device that failed has the others. */
static void count_all(Gpu *g) {
    Err e;
    for (int i = 0; i < STREAMS && !g->hung && use(g, &e); i++)
        if (g->stream[i].handle) (void)drain(g, &g->stream[i], &e);
}

void gpu_profile(Device *d, Text *t, bool json) {
    Gpu *g = (Gpu *)d;
    double sum = 0;
    count_all(g);
    size_t n = 0;
    for (const DeviceKernel *k = g->kernels; k; k = k->next) sum += k->ms, n += k->launches > 0;
    DeviceKernel **list = calloc(n + 1, sizeof *list);
    if (!list) out_of_memory((n + 1) * sizeof *list, "a profile");
    n = 0;
    for (DeviceKernel *k = g->kernels; k; k = k->next)
        if (k->launches) list[n++] = k;
    qsort(list, n, sizeof *list, by_time);
    if (json) text_add(t, "[");
    else text_add(t, "%-56s %8s %10s %9s %6s\n", "kernel", "launches", "ms", "us each", "%");
    for (size_t i = 0; i < n; i++) {
        const DeviceKernel *k = list[i];
        unsigned long long launches = k->launches;
        if (json)
            text_add(t, "%s{\"kernel\": \"%s\", \"launches\": %llu, \"seconds\": %.9f}", i ? ", " : "", k->symbol,
                     launches, k->ms * 1e-3);
        else
            text_add(t, "%-56s %8llu %10.2f %9.2f %6.1f\n", k->symbol, launches, k->ms,
                     k->ms * 1e3 / (double)k->launches, sum > 0 ? 100 * k->ms / sum : 0);
    }
    if (json) text_add(t, "]");
    free(list);
}
