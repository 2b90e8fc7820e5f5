/* ranks.c - see ranks.h. Whether a rank lives is told by its part of the journal: its last line says how it ended, and until then it
 * is touched every second. Clocks of machines are not compared: rank 0 sees whether the time of a file changes. */
#include "ranks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Other Other; /* rank, its part as it was last seen */
struct Other {
    const char *path;
    bool there;
    Part part;
    struct stat seen;
    double since; /* nothing has changed; seconds of waiting */
};

/* --- who we are ------------------------------------------------------------------------------------------------------------ */

static bool whole_number(const char *s, int least, int *v) {
    char *end;
    long n = s ? strtol(s, &end, 10) : -1;
    if (n < least || n > 1 << 20 || *end) return false;
    return *v = (int)n, true;
}

/* A batch script's own process has a SLURM_PROCID too; SLURM_STEP_ID is what srun alone gives. */
static bool read_slurm(Ranks *k, const char **run, Err *e) {
    const char *tasks = getenv("SLURM_NTASKS"), *step = getenv("SLURM_STEP_ID"), *job = getenv("SLURM_JOB_ID"),
               *restart = getenv("SLURM_RESTART_COUNT");
    k->n = 1;
    if (step && tasks &&
        (!whole_number(tasks, 1, &k->n) || !whole_number(getenv("SLURM_PROCID"), 0, &k->rank) || k->rank >= k->n))
        return err_set(e, "SLURM_PROCID and SLURM_NTASKS are no rank and a number of ranks");
    if (k->n > 1 && !job) return err_set(e, "SLURM_NTASKS is %d, and there is no SLURM_JOB_ID to name this run by", k->n);
    *run = k->n > 1 ? arena_printf(k->s->arena, "%s.%s.%s", job, restart ? restart : "0", step)
                      : arena_printf(k->s->arena, "alone.%ld.%ld", (long)time(NULL), (long)getpid());
    return true;
}

/* --- what is whose -------------------------------------------------------------------------------------------------------------- */

static void share(Ranks *k) {
    Arena *a = k->s->arena;
    size_t n = k->all->n, missing = 0;
    k->mine = (Requests){0, arena_array(a, n + 1, sizeof(Request)), arena_array(a, n + 1, sizeof(size_t))};
    k->from = arena_array(a, n + 1, sizeof *k->from);
    for (size_t i = 0; i < n; i++) {
        if (k->all->at[i].done || missing++ % (size_t)k->n != (size_t)k->rank) continue;
        k->from[k->mine.n] = i;
        k->mine.of[k->mine.n] = k->all->of[i];
        k->mine.at[k->mine.n++] = k->all->at[i];
    }
}

/* Requests that are not done. */
static size_t missing(const Ranks *k) {
    size_t n = 0;
    for (size_t i = 0; i < k->all->n; i++) n += !k->all->at[i].done;
    return n;
}

bool ranks_open(Ranks *k, Session *s, const char *output, const Prompts *p, Requests *r, Err *e) {
    const char *run = NULL;
    *k = (Ranks){.s = s, .all = r, .mine = *r};
    if (!read_slurm(k, &run, e)) return false;
    Journal *j = &k->journal;
    journal_bind(j, s, output, run, p, r);
    if (!j->folder && k->n > 1) return err_set(e, "-o %s: ranks meet in a folder beside the output: give -o FILE", output);
    if (!j->folder && s->o->resume) return err_set(e, "--resume: -o %s is no file, and has no journal beside it: give -o FILE", output);
    if (!j->folder) return true;
    if (!journal_resume(j, s->o->resume || k->n > 1, e)) return false;
    share(k);
    if (k->rank == 0 && j->earlier)
        fprintf(stderr, "%s: %zu of %zu requests are done, by runs before this one\n", j->folder, j->earlier, r->n);
    else if (k->n == 1 && s->o->resume) fprintf(stderr, "%s: there is nothing to resume: all is done from the start\n", j->folder);
    return journal_begin(j, k->rank, k->n, e);
}

void ranks_finished(void *ranks, size_t request) {
    Ranks *k = ranks;
    journal_add(&k->journal, k->mine.of[request], &k->mine.at[request]);
}

/* --- the end ------------------------------------------------------------------------------------------------------------------- */

static double patience(void) { return seconds_env("GPTOSS_RANK_SECONDS", 120); } /* network file systems show a change up to a minute late */

static bool changed(const struct stat *a, const struct stat *b) {
    return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

/* Looks again, `now` seconds after the first time. True: there is nothing to wait for any more, and what the rank did has been read. False with
 * e set: it cannot be. */
static bool look(Ranks *k, Other *o, double now, Err *e) {
    struct stat st;
    Part *p = &o->part;
    if (!stat(o->path, &st) && (!o->there || changed(&st, &o->seen))) {
        o->since = now, o->seen = st, o->there = true;
        if (journal_ended(o->path, st.st_size)) return journal_read(&k->journal, o->path, true, p, e);
    }
    if (now - o->since < patience()) return false;
    if (o->there && !journal_read(&k->journal, o->path, true, p, e)) return false;
    if (p->ended) return true;
    p->ended = p->failed = true;
    err_set(&p->why, o->there ? "it died: nothing was heard of it for %g s" : "it has not begun within %g s", patience());
    return err_add(&p->why, " (GPTOSS_RANK_SECONDS)"), true;
}

/* A rank whose part is of another run was started with other options. */
static bool of_this_run(const Other *o, Err *e) {
    if (o->part.of == PART_OURS || !o->there) return true;
    return err_set(e, o->part.of == PART_OTHER ? "%s is of another run (another input, plan or option)" : "%s: its first line is not whole", o->path);
}

static bool wait_for_all(Ranks *k, Other *others, Err *e) {
    const struct timespec nap = {0, 100000000};
    for (int i = 1; i < k->n; i++) others[i].path = journal_part(&k->journal, i);
    Stopwatch watch = {0};
    for (int waiting = 1; waiting; nanosleep(&nap, NULL)) {
        double now = stopwatch(&watch, 1);
        waiting = 0;
        for (int i = 1; i < k->n; i++) {
            e->msg[0] = 0;
            if (others[i].part.ended) continue;
            if (!look(k, &others[i], now, e)) waiting++;
            else if (!of_this_run(&others[i], e)) return false;
            if (*e->msg) return false;
        }
        if (!waiting) break;
    }
    return true;
}

/* Names the ranks that did not do their work, and what is missing. A rank may have done all and failed nevertheless. */
static bool all_done(const Ranks *k, const Other *others, Err *e) {
    size_t n = missing(k);
    if (!n) return true;
    err_set(e, "%zu of %zu requests are missing", n, k->all->n);
    for (int i = 0; i < k->n; i++) {
        const Part *p = &others[i].part;
        if (p->failed) err_add(e, "\n  rank %d of %d%s%s: %.300s", i, k->n, *p->host ? " on " : "", p->host, p->why.msg);
    }
    if (*k->journal.lost.msg) return err_add(e, "\nof what was done not all is kept in %s (%.300s)", k->journal.folder, k->journal.lost.msg);
    return err_add(e, "\nwhat was done is kept in %s: the same command does the rest", k->journal.folder);
}

void ranks_kept(const Ranks *k, Err *e) {
    const Journal *j = &k->journal;
    size_t done = k->all->n - missing(k);
    if (!j->folder || !done) return;
    if (*j->lost.msg) err_add(e, "\nof %zu of %zu requests that are done not all are kept in %s (%.300s)", done, k->all->n, j->folder, j->lost.msg);
    else err_add(e, "\n%zu of %zu requests are done, and kept in %s: the same command with --resume does the rest", done, k->all->n, j->folder);
}

/* One process alone: it has failed, or did all. */
static bool end_alone(Ranks *k, bool ok, Err *e) {
    if (ok) return true;
    if (!k->journal.kept) journal_forget(&k->journal);
    ranks_kept(k, e);
    return false;
}

bool ranks_end(Ranks *k, bool ok, Err *e) {
    Err lost = {0};
    if (!k->journal.folder) return ok;
    for (size_t i = 0; i < k->mine.n; i++) k->all->at[k->from[i]] = k->mine.at[i];
    bool kept = journal_end(&k->journal, ok, e, &lost);
    if (k->n == 1) return end_alone(k, ok, e);
    if (ok && !kept) *e = lost, ok = false; /* the others' only way to rank 0 */
    if (k->rank) return ok;
    Other *others = arena_array(k->s->arena, (size_t)k->n, sizeof *others);
    if (!ok) others[0].part.failed = true, others[0].part.why = *e;
    return wait_for_all(k, others, e) && all_done(k, others, e);
}

void ranks_remove(Ranks *k) { journal_remove(&k->journal); }
