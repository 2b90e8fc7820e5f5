/* crew.c - the threads that run a launch's workgroups, and their memory: both are kept from launch to launch.
 *
 * Whoever launches works too, and alone where there is one workgroup. The others join while workgroups are left; those that wake
 * too late are not waited for, so that small launches lose nothing (run alone, they took as long: 2026-11-30). A thread that cannot
 * be made, or has no memory, is one fewer. A fork of the process has no threads: it launches alone, and must have been made between
 * launches. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "race.h"

enum { MOST = 256 };

typedef enum Use { REGISTERS, HIT, WAVES, LDS, SCRATCH, EXECUTED, USES } Use;

typedef struct Worker Worker;
struct Worker {
    Crew *crew;
    pthread_t thread;
    Group g;
    EmuCounts counts;
    struct { void *p; size_t size; } memory[USES]; /* as much as any launch has asked for */
    Worker *next;
};

struct Crew {
    pthread_mutex_t launching; /* one launch at a time */
    pid_t pid;
    uint32_t cpus, n; /* n: threads */
    Worker self, *threads;
    /* what the lock guards */
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    Job *job;
    uint32_t places, busy; /* how many may still join the job; how many did, and work */
    bool closing;
};

Crew *crew_new(void) {
    Crew *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    pthread_mutex_init(&c->launching, NULL);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->idle, NULL);
    c->pid = getpid();
    return c;
}

/* --- a worker's memory ------------------------------------------------------------------------------------------------------------ */

/* Of what an earlier launch left in it; NULL for none, and *ok cleared, with e set, where there is no memory. */
static void *hold(Worker *t, Use use, size_t size, bool *ok, Err *e) {
    static const char *const what[] = {"registers", "its instructions' memory", "waves", "LDS", "scratch", "counts"};
    if (!size || !*ok) return NULL;
    if (size > t->memory[use].size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return *ok = err_set(e, "out of memory: %zu bytes for %s", size, what[use]), NULL;
        if (t->memory[use].size) munmap(t->memory[use].p, t->memory[use].size);
        t->memory[use].p = p, t->memory[use].size = size;
    }
    return t->memory[use].p;
}

static void *hold_zeros(Worker *t, Use use, size_t size, bool *ok, Err *e) {
    void *p = hold(t, use, size, ok, e);
    return p ? memset(p, 0, size) : NULL;
}

static bool worker_open(Worker *t, Job *j, Err *e) {
    bool ok = true;
    Group *g = &t->g;
    uint32_t *registers = hold(t, REGISTERS, (size_t)j->n_waves * R_VGPRS * LANES * 4, &ok, e);
    const Region **hit = hold_zeros(t, HIT, j->m->n_code * sizeof *hit, &ok, e);
    *g = (Group){.job = j, .n_waves = j->n_waves, .lds_size = j->lds_size, .scratch_size = j->k->pub.scratch_bytes};
    g->waves = hold_zeros(t, WAVES, j->n_waves * sizeof(Wave), &ok, e);
    g->lds = hold(t, LDS, 2 * ((size_t)j->lds_size + 16), &ok, e); /* and as many bytes of its shadow */
    g->scratch = hold(t, SCRATCH, group_scratch(g), &ok, e);
    g->executed = hold_zeros(t, EXECUTED, j->launch->executed ? j->m->n_code * sizeof *g->executed : 0, &ok, e);
    if (!ok) return err_wrap(e, "kernel %s", j->k->pub.name);
    g->limit = j->launch->max_instructions ? j->launch->max_instructions : EMU_MAX_INSTRUCTIONS;
    g->lds_bits = g->lds + j->lds_size + 16;
    for (size_t k = 0; k < g->n_waves; k++) g->waves[k].v = registers + k * R_VGPRS * LANES, g->waves[k].hit = hit;
    if (j->launch->races) g->race = race_open(g);
    t->counts = (EmuCounts){0};
    return true;
}

static void worker_free(Worker *t) {
    for (int use = 0; use < USES; use++)
        if (t->memory[use].size) munmap(t->memory[use].p, t->memory[use].size);
}

/* --- workgroups ------------------------------------------------------------------------------------------------------------------- */

/* A workgroup has run: what its waves counted. */
static void count_waves(EmuCounts *c, Group *g) {
    if (g->done > c->longest) c->longest = g->done;
    for (size_t k = 0; k < g->n_waves; k++) {
        Wave *w = &g->waves[k];
        c->waves++;
        c->salu += w->n[C_SALU], c->valu += w->n[C_VALU], c->mfma += w->n[C_MFMA], c->smem += w->n[C_SMEM];
        c->vmem += w->n[C_VMEM], c->lds += w->n[C_LDS], c->branch += w->n[C_BRANCH], c->barriers += w->n[C_BARRIER];
        for (int kind = 0; kind < C_KINDS; kind++) c->instructions += w->n[kind];
        c->bytes_read += w->bytes_read, c->bytes_written += w->bytes_written, c->lds_bytes += w->lds_bytes;
        memset(w->n, 0, sizeof w->n);
        w->bytes_read = w->bytes_written = w->lds_bytes = 0;
    }
}

static void sum_counts(EmuCounts *to, const EmuCounts *c) {
    to->waves += c->waves, to->instructions += c->instructions, to->salu += c->salu, to->valu += c->valu;
    to->mfma += c->mfma, to->smem += c->smem, to->vmem += c->vmem, to->lds += c->lds, to->branch += c->branch;
    to->barriers += c->barriers, to->bytes_read += c->bytes_read, to->bytes_written += c->bytes_written;
    to->lds_bytes += c->lds_bytes;
    if (c->longest > to->longest) to->longest = c->longest;
}

static bool next_group(Job *j, uint64_t *at) {
    pthread_mutex_lock(&j->lock);
    *at = j->next++;
    bool any = *at < j->n_groups && *at <= j->failed_at;
    pthread_mutex_unlock(&j->lock);
    return any;
}

/* Runs workgroups until none is left, or one before them has failed. */
static void worker_run(Worker *t) {
    Job *j = t->g.job;
    for (uint64_t at; next_group(j, &at);) {
        group_run(&t->g, at, j->launch->only ? j->launch->only[at] : at);
        count_waves(&t->counts, &t->g);
    }
    if (t->g.race) race_verdict(t->g.race, &j->races);
    race_close(t->g.race);
    pthread_mutex_lock(&j->lock);
    sum_counts(j->counts, &t->counts);
    for (size_t i = 0; t->g.executed && i < j->m->n_code; i++) j->launch->executed[i] += t->g.executed[i];
    pthread_mutex_unlock(&j->lock);
}

/* --- threads ---------------------------------------------------------------------------------------------------------------------- */

static void *serve(void *arg) {
    Worker *t = arg;
    Crew *c = t->crew;
    Err e;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->places && !c->closing) pthread_cond_wait(&c->wake, &c->lock);
        if (c->closing) break;
        c->places--, c->busy++;
        Job *job = c->job;
        pthread_mutex_unlock(&c->lock);
        if (worker_open(t, job, &e)) worker_run(t);
        pthread_mutex_lock(&c->lock);
        c->places = 0; /* no workgroup is left, or no memory */
        if (!--c->busy) pthread_cond_signal(&c->idle);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static bool add_thread(Crew *c) {
    Worker *t = calloc(1, sizeof *t);
    if (!t) return false;
    t->crew = c;
    if (pthread_create(&t->thread, NULL, serve, t)) return free(t), false;
    t->next = c->threads, c->threads = t, c->n++;
    return true;
}

/* How many threads may join; they are made when they are first wanted. */
static uint32_t helpers(Crew *c, const Job *j) {
    if (j->n_groups < 2 || j->launch->races || getpid() != c->pid) return 0;
    if (!j->launch->threads && !c->cpus) c->cpus = (uint32_t)cpu_count(); /* once: it reads a file */
    uint64_t n = j->launch->threads ? j->launch->threads : c->cpus;
    if (n > MOST) n = MOST;
    if (n > j->n_groups) n = j->n_groups;
    while (c->n + 1 < n && add_thread(c)) {}
    return (uint32_t)n - 1 < c->n ? (uint32_t)n - 1 : c->n;
}

static void invite(Crew *c, Job *j, uint32_t n) {
    pthread_mutex_lock(&c->lock);
    c->job = j, c->places = n;
    while (n--) pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

static void dismiss(Crew *c) {
    pthread_mutex_lock(&c->lock);
    c->places = 0;
    while (c->busy) pthread_cond_wait(&c->idle, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

bool crew_run(Crew *c, Job *j, Err *e) {
    if (!j->n_groups) return true;
    pthread_mutex_lock(&c->launching);
    bool ok = worker_open(&c->self, j, e);
    if (ok) {
        uint32_t n = helpers(c, j);
        if (n) invite(c, j, n);
        worker_run(&c->self);
        if (n) dismiss(c);
    }
    pthread_mutex_unlock(&c->launching);
    return ok;
}

void crew_free(Crew *c) {
    if (!c) return;
    bool fork = getpid() != c->pid; /* the lock may be a thread's that is not there: one that woke too late */
    if (!fork) {
        pthread_mutex_lock(&c->lock);
        c->closing = true;
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->lock);
    }
    for (Worker *t = c->threads, *next; t; t = next) {
        next = t->next;
        if (!fork) pthread_join(t->thread, NULL);
        worker_free(t);
        free(t);
    }
    worker_free(&c->self);
    if (!fork) { /* conditions would wait for the threads */
        pthread_cond_destroy(&c->wake), pthread_cond_destroy(&c->idle);
        pthread_mutex_destroy(&c->lock);
        pthread_mutex_destroy(&c->launching);
    }
    free(c);
}
