/* mode_logits.c - -m logits: float32 logits of every position of every request, row after row, in input order.
 * Requests are batched as ever; each step's rows go through the head in slices and to their place in the file. */
#include "mode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Sink Sink;
struct Sink {
    FILE *f;
    const char *path; /* NULL: stdout, through an anonymous file */
    char *tmp;
    int64_t *offset; /* first row of each request */
    size_t row_bytes;
    float *rows; /* of a slice */
    int32_t *index;
};

static bool sink_open(Session *s, Sink *k, const Requests *r, Err *e) {
    const char *path = s->o->output ? s->o->output : "data/output.txt";
    int64_t max = exec_max(s->plan, s->logits), at = 0;
    k->row_bytes = (size_t)s->plan->config.vocab * sizeof(float);
    k->offset = arena_array(s->arena, r->n + 1, sizeof *k->offset);
    for (size_t i = 0; i < r->n; i++) k->offset[i] = at, at += r->at[i].n_ids;
    k->rows = arena_array(s->arena, (size_t)max, k->row_bytes);
    k->index = arena_array(s->arena, (size_t)max, sizeof *k->index);
    if (strcmp(path, "-")) {
        if (!file_replaceable(path, e)) return false; /* rows come in any order: no pipe */
        k->path = path;
        k->tmp = arena_printf(s->arena, "%s.tmp%ld", path, (long)getpid());
    }
    k->f = k->tmp ? fopen(k->tmp, "wb") : tmpfile();
    return k->f || err_set(e, "%s: %s", path, strerror(errno));
}

static bool copy_out(FILE *f) {
    char block[65536];
    rewind(f);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        if (fwrite(block, 1, n, stdout) != n) return false;
    return !ferror(f) && !fflush(stdout);
}

static bool sink_close(Sink *k, bool ok, Err *e) {
    if (!k->f) return ok;
    if (ok && !k->path) ok = copy_out(k->f) || err_set(e, "stdout: %s", strerror(errno));
    if (ok && k->path && (fflush(k->f) || fsync(fileno(k->f)))) ok = err_set(e, "%s: %s", k->path, strerror(errno));
    if (fclose(k->f) && ok) ok = err_set(e, "%s: %s", k->path ? k->path : "stdout", strerror(errno));
    if (ok && k->path && rename(k->tmp, k->path)) ok = err_set(e, "%s: %s", k->path, strerror(errno));
    if (!ok && k->tmp) unlink(k->tmp);
    return ok;
}

static bool write_rows(Session *s, Sink *k, const SchedStep *t, int64_t from, int64_t n, Err *e) {
    if (!exec_read(s->exec, s->logits_buf, 0, k->rows, (size_t)n * k->row_bytes, e)) return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = k->offset[t->request[from + i]] + t->pos[from + i];
        const char *at = (const char *)k->rows + (size_t)i * k->row_bytes;
        for (size_t done = 0; done < k->row_bytes;) {
            ssize_t w =
                pwrite(fileno(k->f), at + done, k->row_bytes - done, (off_t)((size_t)row * k->row_bytes + done));
            if (w < 0 && errno == EINTR) continue;
            if (w <= 0) return err_set(e, "%s: %s", k->path ? k->path : "temporary file", strerror(errno));
            done += (size_t)w;
        }
    }
    return true;
}

static bool head(Session *s, Sink *k, const SchedStep *t, Err *e) {
    int64_t max = exec_max(s->plan, s->logits);
    for (int64_t from = 0; from < t->n; from += max) {
        int64_t n = t->n - from < max ? t->n - from : max;
        for (int64_t i = 0; i < n; i++) k->index[i] = (int32_t)(from + i);
        if (!exec_rows(s->exec, k->index, NULL, n, e) || !exec_graph(s->exec, s->logits, e) ||
            !write_rows(s, k, t, from, n, e))
            return false;
    }
    return true;
}

static bool run(Session *s, Requests *r, Sink *k, Err *e) {
    if (!session_load(s, e)) return false;
    Sched *sched = session_sched(s, &s->exec, 1, r->at, r->n, false, e);
    bool ok = sched != NULL;
    double begin = seconds_now();
    for (const SchedStep *t; ok && (t = sched_next(sched)); sched_commit(sched, NULL))
        if (!session_step(s, sched, t, r->at, e) || !head(s, k, t, e)) {
            ok = false;
            break;
        }
    if (ok) {
        SchedStats st = sched_stats(sched);
        fprintf(stderr,
                "logits on %s: %zu requests, %" PRId64 " rows of %" PRId64 " in %" PRId64
                " steps, %.2f s (load %.2f s)\n",
                s->dev->ops->name, r->n, st.prompt_tokens, s->plan->config.vocab, st.steps, seconds_now() - begin,
                s->load_seconds);
        session_profile(s);
    }
    sched_free(sched);
    return ok;
}

bool mode_logits(Session *s, Err *e) {
    Prompts p;
    Sink k = {0};
    if (s->logits < 0) return err_set(e, "%s: the plan has no graph \"logits\"", s->o->plan);
    if (!prompts_read(s, s->o->input ? s->o->input : "data/input.txt", &p, e)) return false;
    Requests r = requests_make(s, &p, false);
    bool ok = sink_open(s, &k, &r, e) && (!r.n || run(s, &r, &k, e));
    return sink_close(&k, ok, e);
}
