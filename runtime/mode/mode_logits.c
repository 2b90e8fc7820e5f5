/* mode_logits.c - -m logits: float32 logits of every position of every request, row after row, in input order.
 * Requests are batched as ever; each step's rows go through the head in slices and to their place in the file. */
#include "ir/judge.h"
#include "ir/progress.h"
#include "mode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct Sink Sink;
struct Sink {
    FileOut out;
    FILE *f;         /* out's, else a temporary file that is copied there in the end: rows come in any order */
    int64_t done, n; /* rows */
    int64_t *offset; /* first row of each request */
    size_t row_bytes;
    float *rows; /* of a slice */
    int32_t *index;
};

static bool sink_open(Session *s, Sink *k, const Requests *r, const char *path, Err *e) {
    int64_t max = exec_max(s->plan, s->logits), at = 0;
    k->row_bytes = (size_t)s->plan->config.vocab * sizeof(float);
    k->offset = arena_array(s->arena, r->n + 1, sizeof *k->offset);
    for (size_t i = 0; i < r->n; i++) k->offset[i] = at, at += r->at[i].n_ids;
    k->rows = arena_array(s->arena, (size_t)max, k->row_bytes);
    k->index = arena_array(s->arena, (size_t)max, sizeof *k->index);
    k->n = at;
    if (!file_begin(&k->out, path, e)) return false;
    k->f = k->out.seekable ? k->out.f : tmpfile();
    return k->f || err_set(e, "a temporary file: %s", strerror(errno));
}

static bool copy(FILE *from, FILE *to) {
    char block[65536];
    rewind(from);
    for (size_t n; (n = fread(block, 1, sizeof block, from)) > 0;)
        if (fwrite(block, 1, n, to) != n) return false;
    return !ferror(from);
}

static bool sink_close(Sink *k, bool ok, Err *e) {
    if (!k->out.f) return ok;
    if (ok && k->f != k->out.f) ok = copy(k->f, k->out.f) || err_set(e, "%s: %s", k->out.path, strerror(errno));
    if (k->f && k->f != k->out.f) fclose(k->f);
    return file_end(&k->out, ok, e);
}

static bool check_finite(Session *s, Sched *sched, const Sink *k, const SchedStep *t, const Request *r, int64_t from, int64_t n,
                         Err *e) {
    int64_t vocab = s->plan->config.vocab, at = judge_not_finite(k->rows, n * vocab);
    if (at < 0) return true;
    int64_t token = from + at / vocab;
    err_set(e, "request %" PRIu32 ", position %" PRId32 ": logit %" PRId64 " is %g", r[t->request[token]].number + 1,
            t->pos[token], at % vocab, (double)k->rows[at]);
    return session_name_nonfinite(s, sched, r, s->logits, k->index, NULL, n, e);
}

static bool write_rows(Session *s, Sched *sched, Sink *k, const SchedStep *t, const Request *r, int64_t from, int64_t n,
                       Err *e) {
    if (!exec_read(s->exec, s->logits_buf, 0, k->rows, (size_t)n * k->row_bytes, e) || !session_unchanged(s, e)) return false;
    if (!check_finite(s, sched, k, t, r, from, n, e)) return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = k->offset[t->request[from + i]] + t->pos[from + i];
        const char *at = (const char *)k->rows + (size_t)i * k->row_bytes;
        if (!write_all(fileno(k->f), at, k->row_bytes, (off_t)((size_t)row * k->row_bytes)))
            return err_set(e, "%s: %s", k->f == k->out.f ? k->out.path : "a temporary file", strerror(errno));
    }
    return true;
}

static bool head(Session *s, Sched *sched, Sink *k, const SchedStep *t, const Request *r, Err *e) {
    int64_t max = exec_max(s->plan, s->logits);
    for (int64_t from = 0; from < t->n; from += max) {
        int64_t n = t->n - from < max ? t->n - from : max;
        for (int64_t i = 0; i < n; i++) k->index[i] = (int32_t)(from + i);
        exec_rows(s->exec, k->index, NULL, n);
        if (!exec_graph(s->exec, s->logits, e) || !write_rows(s, sched, k, t, r, from, n, e)) return false;
    }
    return true;
}

static void show_rows(Sink *k, Progress *bar, int64_t n) {
    char detail[64];
    k->done += n;
    if (!progress_due(bar)) return;
    snprintf(detail, sizeof detail, "%.1f tok/s", (double)k->done / (seconds_now() - bar->begin));
    progress_draw(bar, (double)k->done / (double)k->n, detail);
}

static bool run(Session *s, Requests *r, Sink *k, Err *e) {
    if (!session_load(s, e)) return false;
    Sched *sched = session_sched(s, &s->exec, 1, r->at, r->n, false, e);
    bool ok = sched != NULL;
    double begin = seconds_now();
    Progress bar;
    progress_begin(&bar, "logits");
    for (const SchedStep *t; ok && (t = sched_next(sched));) {
        ok = session_step(s, sched, t, r->at, e) && head(s, sched, k, t, r->at, e);
        if (ok) sched_commit(sched, NULL), show_rows(k, &bar, t->n);
    }
    progress_end(&bar);
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
    Requests r;
    Sink k = {0};
    if (s->logits < 0) return err_set(e, "%s: the plan has no graph \"logits\"", s->o->plan);
    if (!s->o->output) return err_set(e, "-m logits writes raw floats: say where, with -o FILE (- is stdout)");
    const char *input = s->o->input ? s->o->input : "data/input.txt";
    if (!session_output(s, s->o->output, input, e) || !prompts_read(s, input, &p, e) || !requests_prompts(s, &p, &r, e)) return false;
    bool ok = sink_open(s, &k, &r, s->o->output, e) && (!r.n || run(s, &r, &k, e));
    return sink_close(&k, ok, e);
}
