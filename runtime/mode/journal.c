/* journal.c - see journal.h. A line counts if its checksum is right; so a tail that was torn off, or a block that never reached the
 * disk, is as if it had not been written. */
#include "journal.h"

#include "ir/wait.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what it is bound to ----------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, const void *bytes, size_t n) {
    uint64_t both[2] = {h, hash64(bytes, n)};
    return hash64(both, sizeof both);
}

/* Of all that the tokens depend on. */
static uint64_t key_of(const Session *s, const Prompts *p) {
    enum { PLAN_HEADER = 40 }; /* its checksum is in it */
    const Sampling *d = &s->sampling;
    uint64_t model = model_fingerprint(s->model), h = mix(0, s->plan->file.at, PLAN_HEADER);
    h = mix(h, &model, sizeof model);
    h = mix(h, s->dev->ops->name, strlen(s->dev->ops->name));
    h = mix(h, &s->steps, sizeof s->steps);
    h = mix(h, &d->temperature, sizeof d->temperature);
    h = mix(h, &d->top_p, sizeof d->top_p), h = mix(h, &d->min_p, sizeof d->min_p);
    h = mix(h, &d->top_k, sizeof d->top_k), h = mix(h, &d->seed, sizeof d->seed);
    for (size_t i = 0; i < p->n; i++) h = mix(h, p->at[i].ids ? p->at[i].ids : (int32_t *)&h, p->at[i].n * sizeof *p->at[i].ids);
    return h;
}

static void index_prompts(Journal *j, const Prompts *p) {
    j->prompts = p->n;
    j->of_prompt = arena_array(j->s->arena, p->n + 1, sizeof *j->of_prompt);
    for (size_t i = 0; i < p->n; i++) j->of_prompt[i] = SIZE_MAX;
    for (size_t i = 0; i < j->all->n; i++) j->of_prompt[j->all->of[i]] = i;
}

void journal_bind(Journal *j, Session *s, const char *output, const char *run, const Prompts *p, Requests *r) {
    *j = (Journal){.s = s, .all = r, .run = run, .fd = -1};
    if (file_is_stdout(output) || file_in_place(output)) return;
    j->folder = arena_printf(s->arena, "%s.parts", output);
    snprintf(j->head, sizeof j->head, "gptoss-getp 3 %016" PRIx64, key_of(s, p));
    index_prompts(j, p);
}

const char *journal_part(const Journal *j, int rank) {
    return arena_printf(j->s->arena, "%s/part.%s.%d", j->folder, j->run, rank);
}

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

enum { SUM = 18 }; /* " #" and 16 digits end each line */

static void put_sum(Text *t) { text_add(t, " #%016" PRIx64 "\n", hash64(t->at, t->n)); }

/* Cuts the checksum off. False: it is not right. */
static bool take_sum(char *line, size_t n) {
    char want[SUM + 1];
    if (n < SUM) return false;
    snprintf(want, sizeof want, " #%016" PRIx64, hash64(line, n - SUM));
    if (memcmp(line + n - SUM, want, SUM)) return false;
    line[n - SUM] = 0;
    return true;
}

/* " ID ID …": how many; -1: they cannot be what this request was answered with. */
static int64_t read_ids(const Journal *j, const Request *q, char *at, int32_t *ids) {
    int64_t n = 0;
    char *end = at;
    for (const char *s = at; *s == ' '; s = end) {
        long id = strtol(s + 1, &end, 10);
        if (end == s + 1 || id < 0 || id >= j->s->plan->config.vocab || n == q->max_new) return -1;
        if (ids) ids[n] = (int32_t)id;
        n++;
    }
    return *end || !n ? -1 : n;
}

/* "REQUEST: ID ID …", or "REQUEST! VALUE": it was left out, as VALUE was the first that was no number. False: it is no such line, or
 * not of these requests. */
static bool read_request(Journal *j, char *line, bool use) {
    char *end;
    unsigned long long prompt = strtoull(line, &end, 10);
    if (end == line || (*end != ':' && *end != '!') || prompt >= j->prompts || j->of_prompt[prompt] == SIZE_MAX) return false;
    Request *q = &j->all->at[j->of_prompt[prompt]];
    if (*end == '!') { /* what was left out is run again where nothing may be left out */
        if (use && !q->done && j->s->o->skip_bad) q->done = true, q->bad = arena_strdup(j->s->arena, end + 1 + (end[1] == ' '));
        return true;
    }
    if (read_ids(j, q, end + 1, NULL) < 0) return false;
    if (use && !q->done) q->n_out = read_ids(j, q, end + 1, q->out), q->done = true;
    return true;
}

/* "HEAD rank 3 of 8 on HOST" */
static void read_head(const Journal *j, const char *line, Part *p) {
    size_t n = strlen(j->head);
    int rank, ranks, at = 0;
    p->of = PART_OTHER;
    if (strncmp(line, j->head, n) || sscanf(line + n, " rank %d of %d on %n", &rank, &ranks, &at) < 2 || !at) return;
    p->of = PART_OURS, p->shared = ranks > 1;
    snprintf(p->host, sizeof p->host, "%s", line + n + at);
}

static void read_line(Journal *j, char *line, size_t n, bool use, Part *p) {
    if (!take_sum(line, n)) p->damaged++;
    else if (!strcmp(line, "done")) p->ended = true;
    else if (!strncmp(line, "failed ", 7)) p->ended = p->failed = true, err_set(&p->why, "%s", line + 7);
    else if (read_request(j, line, use)) p->done++;
    else p->damaged++;
}

typedef struct Lines Lines; /* of a file of any size */
struct Lines {
    FILE *f;
    char block[1 << 16];
    size_t at, n; /* of block, what is next, and all */
    Text line;
};

/* The next one, without its end. False: there is none; line holds a tail. Of one that is too long to be a request's only the beginning comes,
 * which has no checksum. */
static bool next_line(Lines *l) {
    const size_t most = 64 << 20;
    for (l->line.n = 0;;) {
        const char *from = l->block + l->at, *end = memchr(from, '\n', l->n - l->at);
        size_t k = end ? (size_t)(end - from) : l->n - l->at;
        if (l->line.n < most) text_put(&l->line, from, k);
        l->at += k + (end != NULL);
        if (end) return true;
        l->at = 0;
        if (!(l->n = fread(l->block, 1, sizeof l->block, l->f))) return false;
    }
}

bool journal_read(Journal *j, const char *path, bool use, Part *p, Err *e) {
    Lines l = {.f = file_open(path, e)};
    if (!l.f) return false;
    *p = (Part){.of = PART_DAMAGED};
    if (next_line(&l) && take_sum(l.line.at, l.line.n)) read_head(j, l.line.at, p);
    if (p->of == PART_OURS) {
        while (next_line(&l)) read_line(j, l.line.at, l.line.n, use, p);
        p->damaged += l.line.n > 0;
    }
    bool ok = !ferror(l.f) || err_set(e, "%s: %s", path, strerror(errno));
    text_free(&l.line);
    fclose(l.f);
    return ok;
}

bool journal_ended(const char *path, off_t size) {
    char tail[sizeof(Err) + 64];
    size_t most = sizeof tail - 1;
    Err none;
    FILE *f = file_open(path, &none);
    size_t n = f && !fseeko(f, size > (off_t)most ? size - (off_t)most : 0, SEEK_SET) ? fread(tail, 1, most, f) : 0;
    if (f) fclose(f);
    if (n < 2 || tail[n - 1] != '\n') return false;
    tail[n - 1] = 0;
    char *line = strrchr(tail, '\n');
    return line && take_sum(line + 1, strlen(line + 1)) && (!strcmp(line + 1, "done") || !strncmp(line + 1, "failed ", 7));
}

/* --- what earlier runs have left ------------------------------------------------------------------------------------------------ */

/* Of a process that still writes: which, else 0. (Its lock ends with it, however it ends.) */
static pid_t writer_of(const char *path) {
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in its place: journal_read says so */
    bool held = fd >= 0 && !fcntl(fd, F_GETLK, &l) && l.l_type != F_UNLCK;
    if (fd >= 0) close(fd);
    return held ? l.l_pid : 0;
}

typedef struct Left Left; /* in the folder */
struct Left {
    size_t used, unused, damaged; /* requests; lines */
    const char *other;            /* a part of another run */
};

static bool look_at(Journal *j, const char *path, bool resume, Left *l, Err *e) {
    Part p;
    pid_t writer = writer_of(path);
    if (!journal_read(j, path, false, &p, e)) return false;
    bool use = p.of == PART_OURS && (resume || p.shared);
    if (writer && use) return err_set(e, "%s: process %ld is at work on this", path, (long)writer);
    if (p.of == PART_DAMAGED) warning("%s: its first line is not whole: nothing of it is used", path);
    if (p.of == PART_OTHER) l->other = path;
    if (p.damaged && use) warning("%s: %zu of its lines are not whole, and do not count", path, p.damaged);
    if (!use) l->unused += p.done;
    return !use || (l->used++, journal_read(j, path, true, &p, e));
}

static bool is_part(const char *name) { return !strncmp(name, "part.", 5); }

/* Those of other runs: all ranks of this one see the same, however late they begin. */
static bool look_at_all(Journal *j, bool resume, Left *l, Err *e) {
    DIR *d = opendir(j->folder);
    const char *own = arena_printf(j->s->arena, "part.%s.", j->run);
    bool ok = d || errno == ENOENT || err_set(e, "%s: %s", j->folder, strerror(errno));
    for (const struct dirent *f; ok && d && (errno = 0, f = readdir(d));)
        if (is_part(f->d_name) && strncmp(f->d_name, own, strlen(own)))
            ok = look_at(j, arena_printf(j->s->arena, "%s/%s", j->folder, f->d_name), resume, l, e);
    if (ok && d && errno) ok = err_set(e, "%s: %s", j->folder, strerror(errno));
    if (d) closedir(d);
    return ok;
}

bool journal_resume(Journal *j, bool resume, Err *e) {
    Left l = {0};
    if (!look_at_all(j, resume, &l, e)) return false;
    for (size_t i = 0; i < j->all->n; i++) j->earlier += j->all->at[i].done;
    if (l.other && resume && !l.used)
        return err_set(e, "%s is of another run (another input, plan or option): remove %s, or give another -o", l.other, j->folder);
    if (l.other) warning("%s is of another run (another input, plan or option): it is left as it is", l.other);
    if (l.unused)
        warning("%s has %zu finished requests of an earlier run like this one: --resume would use them; all is done anew", j->folder, l.unused);
    return true;
}

/* --- writing ------------------------------------------------------------------------------------------------------------------ */

/* What reached the disk of it until now counts, and nothing else will. Under the lock. */
static void lose(Journal *j, int why) {
    if (*j->lost.msg) return;
    err_set(&j->lost, "%s: %s", j->own, strerror(why));
    warning("%s: from here on nothing is kept", j->lost.msg);
}

/* In one piece, if the file system takes it so: whoever reads it meanwhile sees all of it, or a line that is not whole. */
static void append(Journal *j, Text *t) {
    put_sum(t);
    pthread_mutex_lock(&j->lock);
    if (!*j->lost.msg && !write_all(j->fd, t->at, t->n, -1)) lose(j, errno);
    pthread_mutex_unlock(&j->lock);
    text_free(t);
}

static void *keep(void *arg) {
    Journal *j = arg;
    pthread_mutex_lock(&j->lock);
    while (!j->stop) {
        wait_seconds(&j->stopped, &j->lock, 1);
        pthread_mutex_unlock(&j->lock);
        futimens(j->fd, NULL);
        bool ok = !fsync(j->fd) || errno == EINVAL;
        int why = errno;
        pthread_mutex_lock(&j->lock);
        if (!ok) lose(j, why);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* Created, locked, with its first line, and on disk. */
static bool make_part(Journal *j, int rank, int ranks, Err *e) {
    char host[100] = "?";
    Text t = {0};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (mkdir(j->folder, 0777) && errno != EEXIST) return err_set(e, "%s: %s", j->folder, strerror(errno));
    j->fd = open(j->own, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0) return err_set(e, "%s: %s", j->own, strerror(errno));
    (void)fcntl(j->fd, F_SETLK, &lock); /* a file system without locks: two runs at once are the user's affair there */
    gethostname(host, sizeof host - 1);
    text_add(&t, "%s rank %d of %d on %s", j->head, rank, ranks, host);
    append(j, &t);
    if (*j->lost.msg) return *e = j->lost, false;
    return (!fsync(j->fd) && file_sync_name(j->own) && file_sync_name(j->folder)) || err_set(e, "%s: %s", j->own, strerror(errno));
}

bool journal_begin(Journal *j, int rank, int ranks, Err *e) {
    j->own = journal_part(j, rank);
    pthread_mutex_init(&j->lock, NULL);
    wait_init(&j->stopped);
    bool ok = make_part(j, rank, ranks, e);
    if (ok && pthread_create(&j->thread, NULL, keep, j)) ok = err_set(e, "%s: no thread could be started to keep it", j->own);
    if (ok || j->fd < 0) return ok;
    close(j->fd), j->fd = -1;
    journal_forget(j);
    return false;
}

void journal_add(Journal *j, size_t prompt, const Request *r) {
    Text t = {0};
    if (!j->folder) return;
    text_add(&t, "%zu%c", prompt, r->bad ? '!' : ':');
    if (r->bad) text_add(&t, " %s", r->bad);
    for (int64_t i = 0; i < r->n_out; i++) text_add(&t, " %" PRId32, r->out[i]);
    append(j, &t);
    j->kept++;
}

bool journal_end(Journal *j, bool ok, const Err *why, Err *e) {
    Text t = {0};
    text_add(&t, ok ? "done" : "failed %s", ok ? "" : why->msg);
    for (size_t i = 0; i < t.n; i++)
        if (t.at[i] == '\n') t.at[i] = ' ';
    append(j, &t);
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->stopped);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    if (fsync(j->fd) && errno != EINVAL) lose(j, errno); /* the last lines: its own fsync may have begun before them */
    close(j->fd), j->fd = -1;
    return !*j->lost.msg || (*e = j->lost, false);
}

/* --- the end ------------------------------------------------------------------------------------------------------------------- */

void journal_forget(const Journal *j) {
    unlink(j->own);
    rmdir(j->folder); /* unless others are there */
}

void journal_remove(Journal *j) {
    DIR *d = j->folder ? opendir(j->folder) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));) {
        Err e;
        Part p;
        const char *path = arena_printf(j->s->arena, "%s/%s", j->folder, f->d_name);
        if (is_part(f->d_name) && journal_read(j, path, false, &p, &e) && p.of != PART_OTHER && (p.ended || !writer_of(path)))
            unlink(path); /* who has written its last line may still hold it */
    }
    if (d) closedir(d), rmdir(j->folder);
}
