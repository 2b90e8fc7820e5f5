/* mode_bench.c - -m bench: tokens per second of prompts (pp) and of generation (tg), in llama-bench's manner: every length at
 * every depth and every number of requests side by side, several times, mean and deviation. Not a test: nothing is asserted.
 *
 * Steps are made, launched and sampled as in getp. Prompts are random ids, and so is what generation goes on with instead of its
 * samples, or random weights would soon generate the same few ids and meet few experts. What lies in the cache before is made
 * up too: zeros. pp: from the first step to the sample behind the last prompt token. tg: from one sample, before which a step
 * has run, to that many later. stop ids do not stop. */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "ir/progress.h"

enum { LIST = 64, REPETITIONS = 5 };
static const double turn_seconds = 0.05; /* --paced */

typedef struct Numbers Numbers;
struct Numbers {
    int64_t at[LIST];
    int n;
};

typedef struct Bench Bench;
struct Bench {
    Session *s;
    Case *cases;
    int n_cases;
    int repetitions;
    bool warm;
    int64_t *pages; /* [n_kv] for the largest case */
    int32_t *ids;   /* random; request i's begin at i */
    Request *requests;
};

const char *case_name(Arena *a, const Case *c) { return arena_printf(a, "%s%" PRId64, c->prompt ? "pp" : "tg", c->n); }

/* --- cases ------------------------------------------------------------------------------------------------------------------- */

static bool numbers(const char *option, const char *list, int64_t least, Numbers *to, Err *e) {
    for (const char *s = list;; s++) {
        char *end;
        errno = 0;
        long long v = strtoll(s, &end, 10);
        if (end == s || errno || (*end && *end != ',') || v < least)
            return err_set(e, "--%s %s: a list of whole numbers, at least %" PRId64 ", such as 1,8,32", option, list,
                           least);
        if (to->n == LIST) return err_set(e, "--%s: more than %d numbers", option, LIST);
        to->at[to->n++] = v;
        if (!*end) return true;
        s = end;
    }
}

/* Positions that each request of the case reaches; tg runs a token of prompt first. */
static int64_t before(const Case *c) { return c->prompt || c->depth ? c->depth : 1; }
static int64_t positions(const Case *c) { return before(c) + c->n; }

static bool check_case(const Session *s, const Case *c, Err *e) {
    const Plan *p = s->plan;
    const char *name = case_name(s->arena, c);
    if (c->batch > p->max_batch)
        return err_set(e, "%d requests side by side: the plan has %" PRId64 " slots; recompile with --max-batch",
                       c->batch, p->max_batch);
    if (c->n > p->max_seq || before(c) > p->max_seq - c->n)
        return err_set(e,
                       "%s at depth %" PRId64 ": the plan has room for %" PRId64 " positions; recompile with --max-seq",
                       name, c->depth, p->max_seq);
    return true;
}

static bool add_cases(Bench *b, const Numbers *of, bool prompt, const Numbers *depths, const Numbers *batches, Err *e) {
    for (int i = 0; i < of->n; i++)
        for (int d = 0; d < depths->n; d++)
            for (int k = 0; k < batches->n; k++) {
                if (batches->at[k] > INT32_MAX) return err_set(e, "--batches %" PRId64 ": too many", batches->at[k]);
                Case *c = &b->cases[b->n_cases++];
                *c = (Case){prompt, of->at[i], depths->at[d], (int)batches->at[k]};
                if (!check_case(b->s, c, e)) return false;
            }
    return true;
}

static bool make_cases(Bench *b, Err *e) {
    const Options *o = b->s->o;
    Numbers pp = {0}, tg = {0}, depth = {0}, batches = {0};
    if ((o->pp && !numbers("pp", o->pp, 1, &pp, e)) || (o->tg && !numbers("tg", o->tg, 1, &tg, e)) ||
        !numbers("depth", o->depth ? o->depth : "0", 0, &depth, e) ||
        (o->batches && !numbers("batches", o->batches, 1, &batches, e)))
        return false;
    if (!o->pp && !o->tg) {
        int64_t steps = o->steps > 0        ? o->steps
                        : b->s->steps < 128 ? b->s->steps
                                            : 128,
                half = steps / 2 > 512 ? 512 : steps / 2;
        pp = (Numbers){{half > 0 ? half : 1}, 1};
        if (steps > half && steps > 1) tg = (Numbers){{steps - half}, 1};
    }
    if (!batches.n) batches = (Numbers){{o->batch > 0 ? o->batch : 1}, 1};
    b->cases = arena_array(b->s->arena, (size_t)(pp.n + tg.n) * (size_t)(depth.n * batches.n), sizeof *b->cases);
    return add_cases(b, &pp, true, &depth, &batches, e) && add_cases(b, &tg, false, &depth, &batches, e);
}

/* Pools for the case that needs most of each; all must fit. */
static bool make_pools(Bench *b, Err *e) {
    Session *s = b->s;
    size_t budget, sum = 0;
    b->pages = arena_array(s->arena, (size_t)s->plan->n_kv + 1, sizeof *b->pages);
    for (int k = 0; k < s->plan->n_kv; k++) {
        for (int i = 0; i < b->n_cases; i++) {
            int64_t n = b->cases[i].batch * sched_worst_pages(s->plan->kv[k].window, positions(&b->cases[i]), s->chunk, false);
            if (n > b->pages[k]) b->pages[k] = n;
        }
        sum += (size_t)b->pages[k] * exec_page_bytes(s->plan, k);
    }
    if (!session_kv_budget(s, &budget, e)) return false;
    if (budget && sum > budget)
        return err_set(
            e, "kv cache: these depths and batches need %.1f MiB, there are %.1f: smaller ones, or more --kv-memory",
            (double)sum / 0x1p20, (double)budget / 0x1p20);
    return exec_kv(s->exec, b->pages, e) && exec_kv_zero(s->exec, e);
}

static void make_ids(Bench *b) {
    int64_t most = 0, n = 0;
    uint64_t state = 1;
    for (int i = 0; i < b->n_cases; i++) {
        if (positions(&b->cases[i]) > most) most = positions(&b->cases[i]);
        if (b->cases[i].batch > n) n = b->cases[i].batch;
    }
    b->ids = arena_array(b->s->arena, (size_t)(most + n), sizeof *b->ids);
    b->requests = arena_array(b->s->arena, (size_t)n, sizeof *b->requests);
    for (int64_t i = 0; i < most + n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        b->ids[i] = (int32_t)((state >> 33) % (uint64_t)b->s->plan->config.vocab);
    }
    int32_t *out = arena_array(b->s->arena, (size_t)n * (size_t)(most + 1), sizeof *out);
    for (int64_t i = 0; i < n; i++) b->requests[i].out = out + i * (most + 1);
}

static Sched *begin(Bench *b, const Case *c, Err *e) {
    for (int i = 0; i < c->batch; i++) {
        int64_t at = before(c);
        Request r = {.ids = b->ids + i, .n_ids = at + c->n, .cached = at, .max_new = 1, .number = (uint32_t)i};
        if (!c->prompt) r.n_ids = at, r.cached = at - 1, r.max_new = c->n + 1, r.feed = r.ids + at;
        r.out = b->requests[i].out;
        b->requests[i] = r;
    }
    b->s->slots = c->batch;
    return session_sched_in(b->s, b->pages, b->requests, (size_t)c->batch, false, e);
}

/* --- sweeps -------------------------------------------------------------------------------------------------------------------- */

static bool run_once(Bench *b, const Case *c, double *seconds, int64_t *steps, Err *e) {
    Sched *sched = begin(b, c, e);
    const SchedStep *t = NULL;
    const int32_t *ids;
    bool ok = sched != NULL;
    double from = seconds_now();
    *steps = 0;
    while (ok && (ok = session_next(b->s, sched, b->requests, &t, &ids, e)) && t) {
        ++*steps;
        if (!c->prompt && t->n_decode < t->n) from = seconds_now(), *steps = 0; /* the prompt's token */
        sched_commit(sched, ids);
    }
    *seconds = seconds_now() - from;
    sched_free(sched);
    return ok;
}

static const Column columns[] = {
    {"test", "test", -1},       {"depth", "depth", 0},
    {"batch", "batch", 0},      {"tok/s", "tokens_per_second", 2},
    {"±", "deviation", 2},      {"ms a step", "milliseconds_per_step", 3},
    {"steps", "steps", 0},      {"tokens", "tokens", 0},
    {"runs", "repetitions", 0},
};
enum { C_TEST, C_DEPTH, C_BATCH, C_RATE, C_SD, C_MS, C_STEPS, C_TOKENS, C_RUNS };

static bool run_case(Bench *b, const Case *c, Table *t, Err *e) {
    double sum = 0, squares = 0, all = 0, tokens = (double)c->n * c->batch;
    int64_t steps = 0;
    for (int i = b->warm ? -1 : 0; i < b->repetitions; i++) {
        double seconds;
        if (!run_once(b, c, &seconds, &steps, e)) return err_wrap(e, "%s", case_name(b->s->arena, c));
        if (i < 0) continue;
        double rate = tokens / (seconds > 0 ? seconds : 1e-9);
        sum += rate, squares += rate * rate, all += seconds;
    }
    double n = b->repetitions, mean = sum / n, variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0;
    Cell *cell = table_row(t);
    cell[C_TEST].text = case_name(b->s->arena, c);
    cell[C_DEPTH].number = (double)c->depth, cell[C_BATCH].number = c->batch;
    cell[C_RATE].number = mean, cell[C_SD].number = n > 1 ? sqrt(variance > 0 ? variance : 0) : NAN;
    cell[C_MS].number = steps ? all / n / (double)steps * 1e3 : NAN;
    cell[C_STEPS].number = (double)steps, cell[C_TOKENS].number = tokens, cell[C_RUNS].number = n;
    return true;
}

static bool sweep(Bench *b, Table *t, Err *e) {
    Progress bar;
    bool ok = true;
    progress_begin(&bar, "bench");
    for (int i = 0; ok && i < b->n_cases; i++) {
        progress_draw(&bar, (double)i / b->n_cases, case_name(b->s->arena, &b->cases[i]));
        ok = run_case(b, &b->cases[i], t, e);
    }
    progress_end(&bar);
    return ok;
}

/* --- single steps ---------------------------------------------------------------------------------------------------------------- */

/* pp: the case's first step. tg: the first of generated tokens only. */
static bool with_step(Bench *b, const Case *c, bool (*use)(Bench *b, const BenchStep *step, void *ctx, Err *e),
                      void *ctx, Err *e) {
    Session *s = b->s;
    const int32_t *ids;
    int ahead = s->ahead;
    Sched *sched = begin(b, c, e);
    bool ok = sched != NULL;
    s->ahead = 0;
    const SchedStep *t = NULL;
    for (int64_t prompts = c->prompt ? 0 : c->batch; ok && prompts > 0;) {
        ok = session_next(s, sched, b->requests, &t, &ids, e);
        if (ok) sched_commit(sched, ids), prompts -= t->n;
    }
    if (ok) {
        t = sched_next(sched);
        session_tell(s, sched, t, b->requests);
        int64_t slots = t->n < c->batch ? t->n : c->prompt ? (t->n + c->n - 1) / c->n : c->batch;
        const BenchStep step = {c, t, {s->exec->sizes, slots, before(c)}};
        ok = use(b, &step, ctx, e);
    }
    s->ahead = ahead;
    sched_free(sched);
    return ok;
}

typedef struct Tables Tables; /* parts: of a plan for several devices */
struct Tables {
    Table kernels, parts;
};

static Tables tables(const Session *s) {
    return (Tables){{.arena = s->arena, .columns = kernel_columns, .n_columns = kernel_n_columns(s->plan)},
                    {.arena = s->arena, .columns = bench_part_columns, .n_columns = bench_part_n_columns}};
}

static bool step_kernels(Bench *b, const BenchStep *step, void *ctx, Err *e) {
    Session *s = b->s;
    Tables *t = ctx;
    Exchange *link = arena_array(s->arena, (size_t)s->plan->devices, sizeof *link);
    return bench_kernels(s, step, s->limits, link, &t->kernels, e) &&
           (s->plan->devices == 1 || bench_parts(s, step, s->limits, link, &t->parts, e));
}

static bool measure_limits(const Session *s, Err *e) {
    return limits_measure(s->limits, s->dev, e) &&
           (s->plan->devices == 1 || limits_measure_link(s->limits, s->group[0], s->group[1], s->exec->through.msg, e));
}

static bool kernels(Bench *b, Tables *t, Err *e) {
    bool ok = measure_limits(b->s, e);
    for (int i = 0; ok && i < b->n_cases; i++) ok = with_step(b, &b->cases[i], step_kernels, t, e);
    return ok;
}

typedef struct Trace Trace;
struct Trace {
    json_t *events;
    int n;
};

static bool step_trace(Bench *b, const BenchStep *step, void *ctx, Err *e) {
    Trace *t = ctx;
    return bench_trace(b->s, step, t->n++, t->events, e);
}

static bool trace(Bench *b, Err *e) {
    Trace t = {.events = json_array()};
    bool ok = true;
    for (int i = 0; ok && i < b->n_cases; i++) ok = with_step(b, &b->cases[i], step_trace, &t, e);
    json_t *j = json_pack("{s:o, s:s}", "traceEvents", t.events, "displayTimeUnit", "ms");
    char *text = ok ? json_dumps(j, JSON_COMPACT) : NULL;
    if (ok) ok = text ? file_write(b->s->o->trace, text, strlen(text), e) : err_set(e, "out of memory for the trace");
    free(text);
    json_decref(j);
    return ok;
}

/* --- the report -------------------------------------------------------------------------------------------------------------------- */

static json_t *limit_json(double v) { return v > 0 ? json_real(v) : json_null(); }

static json_t *limits_json(const Session *s) {
    const Limits *l = s->limits;
    json_t *j = json_pack("{s:o, s:o, s:s}", "read_bytes_per_second", limit_json(l->read), "matrix_flops", limit_json(l->matrix), "note", l->why);
    if (s->plan->devices > 1)
        json_object_set_new(j, "link", json_pack("{s:o, s:o, s:o, s:o, s:o}", "kernel_reads_bytes_per_second", limit_json(l->link_read),
                                                 "kernel_writes_bytes_per_second", limit_json(l->link_write), "copy_to_bytes_per_second",
                                                 limit_json(l->link_to), "copy_from_bytes_per_second", limit_json(l->link_from), "handover_seconds",
                                                 limit_json(l->handover)));
    return j;
}

static void report_json(const Bench *b, const Table *t, const Table *parts, const DeviceInfo *info, Text *to) {
    const Session *s = b->s;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "mode", "bench", "device", s->dev->ops->name, "name",
                          info->name, "arch", s->plan->arch, "model", s->plan->model_name, "precision",
                          s->plan->precision, s->o->kernels ? "kernels" : "tests", table_json(t));
    if (parts->rows.n) json_object_set_new(j, "parts", table_json(parts));
    if (s->limits) json_object_set_new(j, "limits", limits_json(s));
    char *text = json_dumps(j, JSON_INDENT(1));
    if (!text) die("bench: the results cannot be written as JSON");
    text_add(to, "%s\n", text);
    free(text);
    json_decref(j);
}

static void report_limits(const Limits *l, Text *to) {
    if (l->read > 0) text_add(to, "read limit %.1f GB/s\n", l->read * 1e-9);
    if (l->matrix > 0) text_add(to, "matrix limit %.1f TFLOP/s (bf16)\n", l->matrix * 1e-12);
    if (l->link_read > 0)
        text_add(to, "link limit %.1f GB/s read and %.1f written by a kernel of device 1, in the first one's memory; copies %.1f there, %.1f back\n",
                 l->link_read * 1e-9, l->link_write * 1e-9, l->link_to * 1e-9, l->link_from * 1e-9);
    if (l->handover > 0) text_add(to, "handover %.1f us: device 1 behind the first, and the first behind it\n", l->handover * 1e6);
    if (*l->why) text_add(to, "limits: %s\n", l->why);
}

/* parts: none, or behind the other; csv is one table. */
static bool report(const Bench *b, const Table *t, const Table *parts, Err *e) {
    const Session *s = b->s;
    const char *format = s->o->json ? "json" : s->o->format ? s->o->format : "text";
    DeviceInfo info;
    Text to = {0};
    if (!s->dev->ops->info(s->dev, &info, e)) return false;
    if (!strcmp(format, "json")) report_json(b, t, parts, &info, &to);
    else if (!strcmp(format, "csv")) table_csv(t, &to);
    else {
        text_add(&to, "bench on %s (%s), %s %s\n", s->dev->ops->name, info.name, s->plan->model_name,
                 s->plan->precision);
        if (s->limits) report_limits(s->limits, &to);
        for (int i = 0; i < 1 + (parts->rows.n > 0); i++) {
            if (!strcmp(format, "md") || i) text_add(&to, "\n");
            (strcmp(format, "md") ? table_text : table_md)(i ? parts : t, &to);
        }
    }
    bool ok = file_write("-", to.at, to.n, e);
    text_free(&to);
    return ok;
}

/* --- taking turns ------------------------------------------------------------------------------------------------------------------ */

/* Once where time is not real; else as often as makes a turn long enough to be measured. */
static bool turn_case(Bench *b, const Case *c, json_t *list, Err *e) {
    double all = 0, seconds;
    int64_t steps, all_steps = 0, runs = 0;
    while (!runs || (all < turn_seconds && b->warm)) {
        if (!run_once(b, c, &seconds, &steps, e)) return err_wrap(e, "%s", case_name(b->s->arena, c));
        all += seconds, all_steps += steps, runs++;
    }
    json_array_append_new(list, json_pack("{s:s, s:I, s:i, s:I, s:I, s:f}", "test", case_name(b->s->arena, c), "depth",
                                          (json_int_t)c->depth, "batch", c->batch, "steps", (json_int_t)all_steps,
                                          "tokens", (json_int_t)(c->n * c->batch * runs), "seconds", all));
    return true;
}

static bool turn_sweep(Bench *b, json_t *to, Err *e) {
    json_t *list = json_array();
    json_object_set_new(to, "tests", list);
    for (int i = 0; i < b->n_cases; i++)
        if (!turn_case(b, &b->cases[i], list, e)) return false;
    return true;
}

static bool turn_kernels(Bench *b, json_t *to, Err *e) {
    Tables t = tables(b->s);
    for (int i = 0; i < b->n_cases; i++)
        if (!with_step(b, &b->cases[i], step_kernels, &t, e)) return false;
    json_object_set_new(to, "kernels", table_json(&t.kernels));
    if (t.parts.rows.n) json_object_set_new(to, "parts", table_json(&t.parts));
    return true;
}

/* What -f counted so far. */
static void add_profile(const Session *s, json_t *to) {
    Text t = {0};
    if (!s->o->profile || !s->dev->ops->profile) return;
    s->dev->ops->profile(s->dev, &t, true);
    json_object_set_new(to, "profile", t.n ? json_loads(t.at, 0, NULL) : json_null());
    text_free(&t);
}

static bool turn(Bench *b, Err *e) {
    const Session *s = b->s;
    DeviceInfo info;
    if (!s->dev->ops->info(s->dev, &info, e)) return false;
    json_t *j = json_pack("{s:s, s:s}", "device", s->dev->ops->name, "name", info.name);
    bool ok = s->o->kernels ? turn_kernels(b, j, e) : turn_sweep(b, j, e);
    if (ok) add_profile(s, j);
    if (ok && s->limits) json_object_set_new(j, "limits", limits_json(s));
    char *text = ok ? json_dumps(j, JSON_COMPACT) : NULL;
    if (ok) ok = text ? printf("%s\n", text) > 0 && cli_stdout(e) : err_set(e, "bench: the turn cannot be written as JSON");
    free(text);
    json_decref(j);
    return ok;
}

static bool turns(Bench *b, Err *e) {
    bool ok = !b->s->limits || measure_limits(b->s, e);
    for (int c; ok && (c = getchar()) != EOF;)
        if (c == '\n') ok = turn(b, e);
    return ok;
}

bool mode_bench(Session *s, Err *e) {
    bool real = !s->dev->ops->simulated;
    Bench b = {.s = s, .warm = real, .repetitions = real ? REPETITIONS : 1};
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (s->o->paced && s->o->trace) return err_set(e, "--paced and --trace: one at a time");
    if (s->o->kernels && s->o->trace) return err_set(e, "--kernels and --trace: one at a time");
    if (s->o->repetitions > 0) b.repetitions = (int)s->o->repetitions;
    if (!make_cases(&b, e) || (s->o->trace && !session_output(s, s->o->trace, NULL, e)) || !session_load(s, e) ||
        !make_pools(&b, e))
        return false;
    make_ids(&b);
    if (s->o->trace) return trace(&b, e);
    if (s->o->paced) return turns(&b, e);
    Tables t = tables(s);
    if (!s->o->kernels) t.kernels.columns = columns, t.kernels.n_columns = LEN(columns);
    bool ok = (s->o->kernels ? kernels(&b, &t, e) : sweep(&b, &t.kernels, e)) && report(&b, &t.kernels, &t.parts, e);
    if (ok) session_profile(s);
    return ok;
}
