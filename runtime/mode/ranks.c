/* ranks.c - see ranks.h. Whether a rank lives is told by its part: its last line says how it ended, and until then it is touched
 * every second. Clocks of machines are not compared: rank 0 sees whether the time of a file changes. */
#include "ranks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Part Part; /* as it was last seen */
struct Part {
    const char *path;
    bool there, ended, failed;
    char host[128];
    Err why;
    struct stat seen;
    double since; /* nothing has changed */
};

/* --- who we are ------------------------------------------------------------------------------------------------------------ */

static bool whole_number(const char *s, int least, int *v) {
    char *end;
    long n = s ? strtol(s, &end, 10) : -1;
    if (n < least || n > 1 << 20 || *end) return false;
    return *v = (int)n, true;
}

/* A batch script's own process has a SLURM_PROCID too; SLURM_STEP_ID is what srun alone gives. */
static bool read_slurm(Ranks *k, Err *e) {
    const char *tasks = getenv("SLURM_NTASKS"), *step = getenv("SLURM_STEP_ID"), *job = getenv("SLURM_JOB_ID"),
               *restart = getenv("SLURM_RESTART_COUNT");
    k->n = 1;
    if (step && tasks &&
        (!whole_number(tasks, 1, &k->n) || !whole_number(getenv("SLURM_PROCID"), 0, &k->rank) || k->rank >= k->n))
        return err_set(e, "SLURM_PROCID and SLURM_NTASKS are no rank and a number of ranks");
    if (k->n > 1 && !job) return err_set(e, "SLURM_NTASKS is %d, and there is no SLURM_JOB_ID to name this run by", k->n);
    k->run = k->n > 1 ? arena_printf(k->s->arena, "%s.%s.%s", job, restart ? restart : "0", step)
                      : arena_printf(k->s->arena, "alone.%ld.%ld", (long)time(NULL), (long)getpid());
    return true;
}

static uint64_t mix(uint64_t h, const void *bytes, size_t n) {
    uint64_t both[2] = {h, hash64(bytes, n)};
    return hash64(both, sizeof both);
}

/* Of all that the tokens depend on. */
static uint64_t key_of(const Session *s, const Prompts *p) {
    enum { PLAN_HEADER = 40 }; /* its checksum is in it */
    const Sampling *d = &s->sampling;
    uint64_t h = mix(0, s->plan->file.at, PLAN_HEADER);
    h = mix(h, s->model_path, strlen(s->model_path));
    h = mix(h, &s->steps, sizeof s->steps);
    h = mix(h, &d->temperature, sizeof d->temperature);
    h = mix(h, &d->top_p, sizeof d->top_p), h = mix(h, &d->min_p, sizeof d->min_p);
    h = mix(h, &d->top_k, sizeof d->top_k), h = mix(h, &d->seed, sizeof d->seed);
    for (size_t i = 0; i < p->n; i++) h = mix(h, p->at[i].ids ? p->at[i].ids : (int32_t *)&h, p->at[i].n * sizeof *p->at[i].ids);
    return h;
}

/* --- parts -------------------------------------------------------------------------------------------------------------------- */

static const char *part_path(const Ranks *k, int rank) {
    return arena_printf(k->s->arena, "%s/part.%s.%d", k->folder, k->run, rank);
}

static bool is_part(const char *name) { return !strncmp(name, "part.", 5); }

/* "REQUEST: ID ID …". False: it is no such line, or not of these requests. */
static bool read_request(Ranks *k, const char *line) {
    char *end;
    unsigned long long prompt = strtoull(line, &end, 10);
    if (end == line || *end != ':' || prompt >= k->prompts || k->of_prompt[prompt] == SIZE_MAX) return false;
    Request *q = &k->all->at[k->of_prompt[prompt]];
    int64_t n = 0;
    for (const char *s = end + 1; *s == ' '; s = end) {
        long id = strtol(s + 1, &end, 10);
        if (end == s + 1 || id < 0 || id >= k->s->plan->config.vocab || n == q->max_new) return false;
        if (!q->done) q->out[n] = (int32_t)id;
        n++;
    }
    if (*end || !n) return false;
    if (!q->done) q->n_out = n, q->done = true;
    return true;
}

/* "HEAD rank 3 of 8 on HOST" */
static bool read_head(const Ranks *k, const char *line, Part *p, const char *path, Err *e) {
    size_t n = strlen(k->head);
    const char *on = strstr(line, " on ");
    if (strncmp(line, k->head, n) || line[n] != ' ' || !on)
        return err_set(e, "%s is of another run (another input, plan or option): remove %s, or give another -o", path, k->folder);
    snprintf(p->host, sizeof p->host, "%s", on + 4);
    return true;
}

/* What of a part is whole: a line that its writer did not end does not count. */
static bool read_part(Ranks *k, const char *path, Part *p, Err *e) {
    Text t = {0};
    if (!file_stream(path, &t, e)) return text_free(&t), false;
    bool ok = true, first = true;
    for (char *line = t.at, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (first && !(ok = read_head(k, line, p, path, e))) break;
        if (!first && !strcmp(line, "done")) p->ended = true;
        else if (!first && !strncmp(line, "failed ", 7)) p->ended = p->failed = true, err_set(&p->why, "%s", line + 7);
        else if (!first && !read_request(k, line)) break;
        first = false;
    }
    text_free(&t);
    return ok;
}

/* Those of other runs: all ranks of this one see the same, however late they begin. */
static bool read_earlier(Ranks *k, Err *e) {
    DIR *d = opendir(k->folder);
    const char *own = arena_printf(k->s->arena, "part.%s.", k->run);
    bool ok = d || err_set(e, "%s: %s", k->folder, strerror(errno));
    for (const struct dirent *f; ok && (f = readdir(d));) {
        Part p = {0};
        if (is_part(f->d_name) && strncmp(f->d_name, own, strlen(own)))
            ok = read_part(k, arena_printf(k->s->arena, "%s/%s", k->folder, f->d_name), &p, e);
    }
    if (d) closedir(d);
    return ok;
}

/* In one piece, so that whoever reads sees all of it or none. */
static void append(Ranks *k, const Text *t) {
    ssize_t n = *k->lost.msg ? (ssize_t)t->n : write(k->fd, t->at, t->n);
    if (n != (ssize_t)t->n) err_set(&k->lost, "%s: %s", part_path(k, k->rank), n < 0 ? strerror(errno) : "written in part");
}

static void *beat(void *arg) {
    Ranks *k = arg;
    pthread_mutex_lock(&k->lock);
    while (!k->stop) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec++;
        pthread_cond_timedwait(&k->stopped, &k->lock, &t);
        futimens(k->fd, NULL);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static bool begin_part(Ranks *k, Err *e) {
    const char *path = part_path(k, k->rank);
    char host[100] = "?";
    Text t = {0};
    gethostname(host, sizeof host - 1);
    k->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (k->fd < 0) return err_set(e, "%s: %s", path, strerror(errno));
    text_add(&t, "%s rank %d of %d on %s\n", k->head, k->rank, k->n, host);
    append(k, &t);
    text_free(&t);
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->stopped, NULL);
    k->beats = !pthread_create(&k->thread, NULL, beat, k);
    return k->beats || err_set(e, "no thread could be started to show that rank %d lives", k->rank);
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

static void index_prompts(Ranks *k, const Prompts *p) {
    k->prompts = p->n;
    k->of_prompt = arena_array(k->s->arena, p->n + 1, sizeof *k->of_prompt);
    for (size_t i = 0; i < p->n; i++) k->of_prompt[i] = SIZE_MAX;
    for (size_t i = 0; i < k->all->n; i++) k->of_prompt[k->all->of[i]] = i;
}

bool ranks_open(Ranks *k, Session *s, const char *output, const Prompts *p, Requests *r, Err *e) {
    struct stat st;
    *k = (Ranks){.s = s, .all = r, .mine = *r, .fd = -1};
    if (!read_slurm(k, e)) return false;
    const char *folder = arena_printf(s->arena, "%s.parts", output);
    if (k->n == 1 && (file_is_stdout(output) || stat(folder, &st) || !S_ISDIR(st.st_mode))) return true;
    if (file_is_stdout(output)) return err_set(e, "-o %s: ranks meet in a folder beside the output: give -o FILE", output);
    k->folder = folder;
    if (mkdir(folder, 0777) && errno != EEXIST) return err_set(e, "%s: %s", folder, strerror(errno));
    snprintf(k->head, sizeof k->head, "gptoss-getp 1 %016" PRIx64, key_of(s, p));
    index_prompts(k, p);
    if (!read_earlier(k, e)) return false;
    share(k);
    size_t left = 0;
    for (size_t i = 0; i < r->n; i++) left += !r->at[i].done;
    if (k->rank == 0 && left < r->n)
        fprintf(stderr, "%s: %zu of %zu requests are done, by runs before this one\n", folder, r->n - left, r->n);
    return begin_part(k, e);
}

void ranks_finished(void *ranks, size_t request) {
    Ranks *k = ranks;
    const Request *q = &k->mine.at[request];
    Text t = {0};
    if (!k->folder) return;
    text_add(&t, "%zu:", k->mine.of[request]);
    for (int64_t i = 0; i < q->n_out; i++) text_add(&t, " %" PRId32, q->out[i]);
    text_put(&t, "\n", 1);
    append(k, &t);
    text_free(&t);
}

/* --- the end ------------------------------------------------------------------------------------------------------------------- */

static void end_part(Ranks *k, bool ok, const Err *e) {
    Text t = {0};
    text_add(&t, ok ? "done\n" : "failed %s\n", ok ? "" : e->msg);
    for (size_t i = 0; i + 1 < t.n; i++)
        if (t.at[i] == '\n') t.at[i] = ' ';
    append(k, &t);
    text_free(&t);
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_signal(&k->stopped);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    close(k->fd);
}

static double patience(void) { return seconds_env("GPTOSS_RANK_SECONDS", 120); } /* network file systems show a change up to a minute late */

static bool changed(const struct stat *a, const struct stat *b) {
    return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

/* Is the part's last line one that ends it? */
static bool has_ended(const char *path, off_t size) {
    char tail[sizeof(Err) + 16];
    size_t most = sizeof tail - 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, tail, most, size > (off_t)most ? size - (off_t)most : 0);
    if (fd >= 0) close(fd);
    if (n < 2 || tail[n - 1] != '\n') return false;
    tail[n - 1] = 0;
    const char *line = strrchr(tail, '\n');
    return line && (!strcmp(line + 1, "done") || !strncmp(line + 1, "failed ", 7));
}

/* Looks again. True: there is nothing to wait for any more, and what the rank did has been read. False with e set: it cannot be. */
static bool look(Ranks *k, Part *p, Err *e) {
    const char *path = p->path;
    struct stat st;
    double now = seconds_now();
    if (!p->since) p->since = now;
    if (!stat(path, &st) && (!p->there || changed(&st, &p->seen))) {
        p->since = now, p->seen = st, p->there = true;
        if (has_ended(path, st.st_size)) return read_part(k, path, p, e);
    }
    if (now - p->since < patience()) return false;
    if (p->there && !read_part(k, path, p, e)) return false;
    if (p->ended) return true;
    p->ended = p->failed = true;
    err_set(&p->why, p->there ? "it died: nothing was heard of it for %g s" : "it has not begun within %g s", patience());
    return err_add(&p->why, " (GPTOSS_RANK_SECONDS)"), true;
}

static bool wait_for_all(Ranks *k, Part *parts, Err *e) {
    const struct timespec nap = {0, 100000000};
    for (int i = 1; i < k->n; i++) parts[i].path = part_path(k, i);
    for (int waiting = 1; waiting; nanosleep(&nap, NULL)) {
        waiting = 0;
        for (int i = 1; i < k->n; i++) {
            e->msg[0] = 0;
            if (!parts[i].ended && !look(k, &parts[i], e)) waiting++;
            if (*e->msg) return false;
        }
        if (!waiting) break;
    }
    return true;
}

/* Names the ranks that did not do their work, and what is missing. A rank may have done all and failed nevertheless. */
static bool all_done(const Ranks *k, const Part *parts, Err *e) {
    size_t missing = 0;
    for (size_t i = 0; i < k->all->n; i++) missing += !k->all->at[i].done;
    if (!missing) return true;
    err_set(e, "%zu of %zu requests are missing", missing, k->all->n);
    for (int i = 0; i < k->n; i++)
        if (parts[i].failed)
            err_add(e, "\n  rank %d of %d%s%s: %.300s", i, k->n, *parts[i].host ? " on " : "", parts[i].host, parts[i].why.msg);
    return err_add(e, "\nwhat was done is kept in %s: the same command does the rest", k->folder);
}

bool ranks_end(Ranks *k, bool ok, Err *e) {
    if (!k->folder) return ok;
    for (size_t i = 0; i < k->mine.n; i++) k->all->at[k->from[i]] = k->mine.at[i];
    if (ok && *k->lost.msg) *e = k->lost, ok = false;
    end_part(k, ok, e);
    if (k->rank) return ok;
    Part *parts = arena_array(k->s->arena, (size_t)k->n, sizeof *parts);
    if (!ok) parts[0] = (Part){.failed = true, .why = *e};
    return wait_for_all(k, parts, e) && all_done(k, parts, e);
}

void ranks_remove(const Ranks *k) {
    DIR *d = k->folder ? opendir(k->folder) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));)
        if (is_part(f->d_name)) unlink(arena_printf(k->s->arena, "%s/%s", k->folder, f->d_name));
    if (d) closedir(d), rmdir(k->folder);
}
