/* mode.c - see mode.h: sessions, memory for the KV cache, the loop of steps. Reading requests is in prompts.c. */
#include "mode.h"
#include "runtime/device/code.h"
#include "runtime/device/limits.h"
#include "ir/progress.h"

#include <inttypes.h>
#include <stdlib.h>

enum { DEFAULT_STEPS = 1024 };

void warning(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("gptoss-exec: warning: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

/* --- options against the plan ------------------------------------------------------------------------------------------- */

/* Modes that look at one device's work, launch by launch. */
static bool one_device(const Options *o) { return !strcmp(o->mode, "parity"); }

static bool check_devices(const Session *s, Err *e) {
    const Options *o = s->o;
    int64_t each = s->plan->devices, least = o->gpus_asked ? each : 1;
    if (o->ep && o->ep != each)
        return err_set(e, "--ep %" PRId64 ": the plan is for %" PRId64 " device%s: recompile with gptoss-compile --ep %" PRId64, o->ep, each,
                       each == 1 ? "" : "s", o->ep);
    if (each > 1 && one_device(o))
        return err_set(e, "-m %s looks at one device, the plan is for %" PRId64 ": compile one without --ep; its kernels are the same", o->mode, each);
    if (o->gpus && (o->gpus < least || o->gpus % least))
        return err_set(e, "-g %" PRId64 ": the plan is for groups of %" PRId64 " devices (gptoss-compile --ep): give a multiple of %" PRId64, o->gpus, each, each);
    if (o->gpus_asked && o->gpus != least && strncmp(o->mode, "getp", 4) && strcmp(o->mode, "eval"))
        return err_set(e, "-g: -m %s runs on one %s; getp and eval run on several", o->mode, each > 1 ? "group of devices" : "device");
    return true;
}

static bool check_limits(Session *s, Err *e) {
    const Options *o = s->o;
    const Plan *p = s->plan;
    if (o->steps > p->max_seq)
        return err_set(e, "-n %" PRId64 ": the plan has room for %" PRId64 " positions; recompile with --max-seq",
                       o->steps, p->max_seq);
    if (o->batch > p->max_batch)
        return err_set(e, "-b %" PRId64 ": the plan has %" PRId64 " slots; recompile with --max-batch", o->batch,
                       p->max_batch);
    if (!check_devices(s, e)) return false;
    s->sampling = (Sampling){.top_p = 1};
    options_sampling(o, &s->sampling);
    if (!session_draws(s, e)) return false;
    if (s->sampling.temperature <= 0 && !strncmp(o->mode, "getp", 4) && (o->top_p >= 0 || o->min_p >= 0 || o->top_k >= 0))
        warning("-m %s is greedy: -p, --top-k and --min-p mean something with -T above 0", o->mode);
    s->steps = o->steps > 0 ? o->steps : p->max_seq < DEFAULT_STEPS ? p->max_seq : DEFAULT_STEPS;
    s->slots = (int)(o->batch > 0 ? o->batch : p->max_batch);
    s->chunk = o->chunk > 0 && o->chunk < p->max_tokens ? o->chunk : p->max_tokens;
    return true;
}

bool session_draws(const Session *s, Err *e) {
    if (s->sampling.temperature <= 0 || plan_buf(s->plan, "sampling") >= 0) return true;
    return err_set(e, "%s: its graph \"sample\" has no input sampling, so -T must be 0: recompile with a graph that has it (graphs/gpt_oss.lua)", s->o->plan);
}

static int head_output(const Plan *p, int graph) {
    const Value *v = graph < 0 ? NULL : plan_result(program_graph(p->program, p->graphs[graph].name));
    return v ? plan_value(&p->graphs[graph], v->name) : -1;
}

/* plan/verify.c has seen to it that there is a step, and that a head gives what it is for. */
static void find_graphs(Session *s) {
    const Plan *p = s->plan;
    s->step = plan_graph(p, "step"), s->sample = plan_graph(p, "sample"), s->logits = plan_graph(p, "logits");
    s->ids_buf = head_output(p, s->sample);
    s->logits_buf = head_output(p, s->logits);
}

/* --- the model against the plan ------------------------------------------------------------------------------------------ */

static bool same_shape(const ModelConfig *plan, const ModelConfig *m, const char *path, Err *e) {
    const struct {
        const char *name;
        int64_t plan, model;
    } row[] = {
        {"vocabulary", plan->vocab, m->vocab},      {"hidden size", plan->hidden, m->hidden},
        {"experts", plan->experts, m->experts},     {"intermediate size", plan->intermediate, m->intermediate},
        {"head_dim", plan->head_dim, m->head_dim},  {"attention heads", plan->heads, m->heads},
        {"kv heads", plan->kv_heads, m->kv_heads},
    };
    for (size_t i = 0; i < LEN(row); i++)
        if (row[i].plan != row[i].model)
            return err_set(e, "%s: %s is %" PRId64 ", in the plan %" PRId64 ": the plan was compiled for another model",
                           path, row[i].name, row[i].model, row[i].plan);
    return true;
}

/* What only changes numbers is baked into the plan: it rules, and the difference is said. */
static void compare_numbers(const ModelConfig *plan, const ModelConfig *m) {
    const struct {
        const char *name;
        double plan, model;
    } row[] = {
        {"layers", (double)plan->layers, (double)m->layers}, /* more than the checkpoint has: its weights are missed by name */
        {"experts per token", (double)plan->topk, (double)m->topk},
        {"sliding window", (double)plan->window, (double)m->window},
        {"rms_norm_eps", plan->rms_eps, m->rms_eps},
        {"swiglu_limit", plan->swiglu_limit, m->swiglu_limit},
        {"rope_theta", plan->rope_theta, m->rope_theta},
        {"rope factor", plan->rope_factor, m->rope_factor},
        {"rope beta_fast", plan->rope_beta_fast, m->rope_beta_fast},
        {"rope beta_slow", plan->rope_beta_slow, m->rope_beta_slow},
        {"rope truncate", plan->rope_truncate, m->rope_truncate},
        {"original context", (double)plan->original_context, (double)m->original_context},
    };
    for (size_t i = 0; i < LEN(row); i++)
        if (row[i].plan != row[i].model)
            warning("%s is %g in the checkpoint, %g in the plan, which is used", row[i].name, row[i].model, row[i].plan);
    for (int64_t i = 0; i < plan->layers && i < m->layers; i++)
        if (plan->sliding[i] != m->sliding[i]) {
            warning("layer %" PRId64 " is %s in the checkpoint, %s in the plan, which is used", i,
                    m->sliding[i] ? "sliding" : "full", plan->sliding[i] ? "sliding" : "full");
            return;
        }
}

static bool open_model(Session *s, Err *e) {
    const char *path = s->o->model;
    bool recorded = !path && s->plan->model_path, swap = s->o->swap_embeddings || (recorded && s->plan->swap_embeddings);
    if (!path) path = s->plan->model_path;
    if (!path) path = getenv("GPTOSS_MODEL");
    if (!path || !*path)
        return err_set(e, "no model: -w MODEL was not given, the plan records none (gptoss-compile --model), and "
                          "GPTOSS_MODEL is not set");
    s->model_path = path;
    if (!(s->model = model_open(path, swap, e)) || !model_check(s->model, e))
        return err_wrap(e, "%s", s->o->model ? "model" : recorded ? "the model recorded in the plan (-w names another)" : "GPTOSS_MODEL");
    if (!same_shape(&s->plan->config, model_config(s->model), path, e)) return false;
    compare_numbers(&s->plan->config, model_config(s->model));
    return true;
}

/* --- open and close -------------------------------------------------------------------------------------------------------- */

static Device *open_member(const Session *s, const char *name, int member, Err *e) {
    const DeviceOptions d = {
        .threads = (int)s->o->threads, .seed = (uint64_t)s->o->seed_schedule, .profile = s->o->profile, .limit = (uint64_t)s->o->emu_limit, .races = s->o->races};
    return device_open(name, s->index * (int)s->plan->devices + member, s->plan, &d, e);
}

Device *session_device(const Session *s, const char *name, Err *e) { return open_member(s, name, 0, e); }

static void close_group(Session *s) {
    for (int64_t i = 0; s->group && i < s->plan->devices; i++) device_close(s->group[i]), s->group[i] = NULL;
    s->dev = NULL;
}

/* The first one last: the thread stays near it, where its pinned memory is. */
static bool open_group(Session *s, const char *name, Err *e) {
    s->group = arena_array(s->arena, (size_t)s->plan->devices, sizeof *s->group);
    for (int64_t i = s->plan->devices; i-- > 0;)
        if (!(s->group[i] = open_member(s, name, (int)i, e))) {
            if (s->plan->devices > 1) err_wrap(e, "the plan is for groups of %" PRId64 " devices (gptoss-compile --ep)", s->plan->devices);
            return close_group(s), false;
        }
    s->dev = s->group[0];
    return true;
}

/* The first that can be opened of the groups of -g: one that cannot is left out, unless all are. */
static bool open_first(Session *s, const char *name, Err *e) {
    int64_t each = s->plan->devices, n = s->o->gpus_asked ? device_count(name, s->plan) : each;
    if (s->o->gpus && s->o->gpus < n) n = s->o->gpus;
    n /= each;
    s->lost = arena_array(s->arena, n > 0 ? (size_t)n : 1, sizeof *s->lost);
    do {
        Err *why = &s->lost[s->index];
        if (open_group(s, name, why)) return true;
    } while (++s->index < n);
    *e = s->lost[0];
    return false;
}

static bool open_device(Session *s, Err *e) {
    const char *name = s->o->device;
    if (!strcmp(s->o->mode, "getp_cpu")) {
        if (strcmp(name, "auto") && strcmp(name, "ref")) return err_set(e, "-m getp_cpu runs on ref, not on %s", name);
        name = "ref";
    }
    if (!open_first(s, name, e)) return false;
    int all = s->o->gpus_asked ? device_several(s->dev, s->o->gpus, s->plan, e) : (int)s->plan->devices;
    s->groups = all / (int)s->plan->devices;
    return s->groups > 0;
}

static bool session_plan(Session *s, Err *e) { return (s->plan = plan_open(s->o->plan, e)) || err_wrap(e, "plan"); }

bool session_open(Session *s, const Options *o, Err *e) {
    *s = (Session){.o = o, .arena = arena_new()};
    if (!session_plan(s, e) || !check_limits(s, e)) return false;
    find_graphs(s);
    if (!code_vouch(s->plan, strcmp(o->mode, "getp_cpu") ? o->device : "ref", o->trust_code, e)) return false;
    if (o->kernels && !strcmp(o->mode, "bench")) /* compilers are forks of this process: not once a GPU is in use */
        limits_compile(s->limits = arena_alloc(s->arena, sizeof *s->limits), s->arena, o->device, s->plan);
    return open_device(s, e) && open_model(s, e);
}

void session_beside(Session *s, const Session *first, int index) {
    *s = *first;
    s->arena = arena_new();
    s->borrows = true, s->index = index;
    s->dev = NULL, s->group = NULL, s->exec = NULL, s->rows = NULL;
    memset(s->flight, 0, sizeof s->flight);
}

bool session_open_beside(Session *s, const Session *first, Err *e) {
    return open_group(s, first->dev->ops->name, e);
}

bool session_output(const Session *s, const char *path, const char *input, Err *e) {
    if (!file_writable(path, e)) return false;
    if (input && file_same(path, input)) return err_set(e, "-o %s is the input too: give it another name", path);
    if (file_same(path, s->model_path) || file_inside(path, s->model_path))
        return err_set(e, "-o %s is a file of the model: give it another name", path);
    return true;
}

static void show_load(void *ctx, size_t done, size_t total) {
    char detail[80];
    Progress *bar = ctx;
    if (!progress_due(bar)) return;
    snprintf(detail, sizeof detail, "%.1f of %.1f GB  %.2f GB/s", (double)done * 1e-9, (double)total * 1e-9, (double)done * 1e-9 / (seconds_now() - bar->begin));
    progress_draw(bar, (double)done / (double)total, detail);
}

/* GPTOSS_AHEAD=0: each step waits for the ids of the last; 1: none does, on any device. */
static int steps_ahead(const Session *s) {
    const char *v = getenv("GPTOSS_AHEAD");
    if (s->skip_bad) return 0; /* what a NaN leaves behind is looked at before anything else runs */
    if (s->generation.n_suppressed) return 0; /* its head is no graph of the device either */
    if (v && *v) return strcmp(v, "0") != 0;
    return s->dev->ops->event && s->dev->ops->capture_begin; /* without graphs launches are timed or waited for, one by one */
}

static void loaded(Session *s, double begin, const char *from) {
    if (*s->exec->through.msg) warning("%s: what the group's devices share lies in host memory", s->exec->through.msg);
    s->load_seconds = seconds_now() - begin;
    s->ahead = steps_ahead(s);
    s->rows = arena_array(s->arena, (size_t)s->plan->max_batch, sizeof *s->rows);
    if (s->o->verbose)
        fprintf(stderr, "loaded %.1f MiB of weights%s in %.2f s\n", (double)s->exec->weight_bytes / 1048576, from, s->load_seconds);
}

bool session_load(Session *s, Err *e) {
    double begin = seconds_now();
    Progress bar;
    progress_begin(&bar, "loading");
    s->exec = exec_open(s->plan, s->model, s->group, &(ExecLoading){show_load, &bar}, e);
    progress_end(&bar);
    if (s->exec) loaded(s, begin, "");
    return s->exec != NULL;
}

bool session_load_from(Session *s, const Session *from, Err *e) {
    double begin = seconds_now();
    s->exec = exec_open_from(from->exec, s->group, e);
    if (s->exec) loaded(s, begin, arena_printf(s->arena, " from device %d to %d", from->index, s->index));
    return s->exec != NULL;
}

void session_close(Session *s) {
    exec_close(s->exec);
    close_group(s);
    if (!s->borrows) tok_close(s->tok), model_close(s->model), plan_close(s->plan);
    arena_free(s->arena);
}

/* --- KV cache -------------------------------------------------------------------------------------------------------------- */

bool session_kv_budget(Session *s, size_t *budget, Err *e) {
    DeviceInfo info;
    *budget = s->o->kv_memory;
    if (*budget || s->dev->ops->simulated) return true;
    if (!s->dev->ops->info(s->dev, &info, e)) return false;
    *budget = info.memory_free / 10 * 9;
    return true;
}

/* Each pool gets the pages of as many worst-case requests as can be in flight. */
static bool kv_pages(Session *s, const Request *r, size_t n, int64_t *pages, Err *e) {
    size_t budget, one = 0;
    int64_t at_once = (int64_t)n < s->slots ? (int64_t)n : s->slots;
    for (int k = 0; k < s->plan->n_kv; k++) {
        pages[k] = 1;
        for (size_t i = 0; i < n; i++) {
            int64_t w = sched_worst_pages(s->plan->kv[k].window, sched_positions(&r[i]), s->chunk, r[i].keep);
            if (w > pages[k]) pages[k] = w;
        }
        one += (size_t)pages[k] * exec_page_bytes(s->plan, k);
    }
    if (!session_kv_budget(s, &budget, e)) return false;
    if (budget && one && budget / one < (size_t)at_once) at_once = (int64_t)(budget / one);
    if (!at_once)
        return err_set(e,
                       "kv cache: one request may need %.1f MiB, there are %.1f MiB: more --kv-memory, or a smaller -n",
                       (double)one / 1048576, (double)budget / 1048576);
    for (int k = 0; k < s->plan->n_kv; k++) pages[k] *= at_once;
    return true;
}

Sched *session_sched_in(Session *s, const int64_t *pages, Request *r, size_t n, bool stop_at_eos, Err *e) {
    const Plan *p = s->plan;
    const ModelConfig *c = model_config(s->model);
    int64_t *window = arena_array(s->arena, (size_t)p->n_kv + 1, sizeof *window);
    for (int k = 0; k < p->n_kv; k++) window[k] = p->kv[k].window;
    const SchedOptions o = {.slots = s->slots,
                            .max_tokens = p->max_tokens,
                            .chunk = s->chunk,
                            .max_blocks = p->max_blocks,
                            .n_kv = p->n_kv,
                            .window = window,
                            .pages = pages,
                            .eos = c->eos,
                            .n_eos = stop_at_eos ? c->n_eos : 0,
                            .queue = s->queue};
    return sched_new(&o, r, n, e);
}

Sched *session_sched(Session *s, Exec *const *execs, int n_execs, Request *r, size_t n, bool stop_at_eos, Err *e) {
    int64_t *pages = arena_array(s->arena, (size_t)s->plan->n_kv + 1, sizeof *pages);
    if (!kv_pages(s, r, n, pages, e)) return NULL;
    for (int i = 0; i < n_execs; i++)
        if (!exec_kv(execs[i], pages, e)) return NULL;
    return session_sched_in(s, pages, r, n, stop_at_eos, e);
}

/* --- requests --------------------------------------------------------------------------------------------------------------- */

bool session_no_room(const Session *s, const char *who, size_t tokens, Err *e) {
    int64_t most = s->plan->max_seq;
    const char *by_default = s->o->steps < 0 ? " (the default)" : "";
    if ((int64_t)tokens > most)
        return err_set(e, "%s has %zu tokens, the plan has room for %" PRId64 ": one compiled with a larger --max-seq has more", who, tokens, most);
    return err_set(e, "%s has %zu tokens, -n is %" PRId64 "%s: give -n %zu or more, the plan has room for %" PRId64, who, tokens, s->steps, by_default, tokens, most);
}

static Requests no_requests(Session *s, const Prompts *p) {
    return (Requests){0, arena_array(s->arena, p->n + 1, sizeof(Request)), arena_array(s->arena, p->n + 1, sizeof(size_t))};
}

static void add_request(Session *s, Requests *r, const Prompts *p, size_t of, int64_t max_new) {
    Request q = {.ids = p->at[of].ids, .n_ids = (int64_t)p->at[of].n, .max_new = max_new, .number = (uint32_t)of};
    q.out = arena_array(s->arena, (size_t)max_new + 1, sizeof *q.out);
    r->of[r->n] = of;
    r->at[r->n++] = q;
}

Requests requests_make(Session *s, const Prompts *p, const char *fate) {
    Requests r = no_requests(s, p);
    for (size_t i = 0; i < p->n; i++) {
        Err why;
        int64_t n = (int64_t)p->at[i].n;
        if (!n) warning("request %zu is empty: %s", i + 1, fate);
        else if (n <= s->steps) add_request(s, &r, p, i, s->steps - n + 1);
        else session_no_room(s, arena_printf(s->arena, "request %zu", i + 1), (size_t)n, &why), warning("%s; %s", why.msg, fate);
    }
    return r;
}

bool requests_left(const Session *s, const Prompts *p, const Requests *r, Err *e) {
    size_t most = 0;
    if (!p->n || r->n) return true;
    for (size_t i = 0; i < p->n; i++) most = p->at[i].n > most ? p->at[i].n : most;
    if (!most) return err_set(e, "nothing to run: every prompt is empty");
    return session_no_room(s, "nothing to run: the longest prompt", most, e);
}

bool requests_prompts(Session *s, const Prompts *p, Requests *r, Err *e) {
    *r = no_requests(s, p);
    for (size_t i = 0; i < p->n; i++) {
        if ((int64_t)p->at[i].n > s->plan->max_seq) return session_no_room(s, arena_printf(s->arena, "request %zu", i + 1), p->at[i].n, e);
        if (p->at[i].n) add_request(s, r, p, i, 0);
        else warning("request %zu is empty: it has no logits", i + 1);
    }
    return requests_left(s, p, r, e);
}

/* --- steps ------------------------------------------------------------------------------------------------------------------- */

static void tell_tables(Exec *x, const Sched *sched, const SchedStep *t) {
    for (size_t i = 0; i < t->n_tables; i++) {
        int kv = t->tables[i].kv, slot = (int)t->tables[i].at;
        exec_blocks(x, kv, slot, sched_table(sched, kv, slot));
    }
}

void session_inputs(Exec *x, const Sched *sched, const SchedStep *t) {
    for (size_t i = 0; i < t->n_new_pages; i++) exec_page(x, t->new_pages[i].kv, t->new_pages[i].at);
    tell_tables(x, sched, t);
    exec_tokens(x, t->src, t->slot, t->pos, t->n, t->n_decode);
}

typedef struct Search Search; /* for what is not finite in a step */
struct Search {
    const SchedStep *t;
    const int32_t *rows; /* that the head runs, of the step's */
    const char *name;    /* of the first value; NULL: none was found */
    size_t request;      /* whose; SIZE_MAX: no one's alone */
    Request *r;          /* NULL, or: go on, until each of these that is bad (unnamed) has its own first value */
};

static const char unnamed[] = "no value that is not finite was found again";

static bool found(void *ctx, const NonFinite *n) {
    Search *q = ctx;
    int64_t token = n->sym == SYM_T ? n->row : n->sym == SYM_S && q->rows ? q->rows[n->row] : -1;
    size_t request = token < 0 ? SIZE_MAX : q->t->request[token];
    if (!q->name) q->name = n->value, q->request = request;
    if (q->r && request != SIZE_MAX && q->r[request].bad == unnamed) q->r[request].bad = n->value;
    return !q->r;
}

/* The oldest step that is not committed once more, node by node, with the ids that the slots' last samples were. */
static void search_step(Session *s, Sched *sched, const Request *r, Search *q) {
    const SchedStep *t = q->t = sched_rewind(sched);
    int32_t *src = arena_array(s->arena, (size_t)t->n, sizeof *src);
    for (int64_t i = 0; i < t->n; i++) {
        const Request *of = &r[t->request[i]];
        src[i] = t->pos[i] < of->n_ids ? of->ids[t->pos[i]] : of->out[t->pos[i] - of->n_ids];
    }
    tell_tables(s->exec, sched, t);
    exec_tokens(s->exec, src, t->slot, t->pos, t->n, t->n_decode);
    exec_nonfinite(s->exec, s->step, found, q);
}

/* Behind search_step: n rows of a head (slots: of sample). */
static void search_head(Session *s, int head, const int32_t *rows, const int32_t *slots, int64_t n, Search *q) {
    q->rows = rows;
    exec_rows(s->exec, rows, slots, n);
    exec_nonfinite(s->exec, head, found, q);
}

bool session_name_nonfinite(Session *s, Sched *sched, const Request *r, int head, const int32_t *rows, const int32_t *slots,
                            int64_t n, Err *e) {
    Search q = {0};
    search_step(s, sched, r, &q);
    if (!q.name) search_head(s, head, rows, slots, n, &q);
    if (!q.name) return err_add(e, "; -m parity finds the first value that differs from ref");
    return err_add(e, "; the first value that is not finite in this step is %s (-m parity compares every value with ref)", q.name);
}

static void say_bad(const Request *r) {
    warning("request %" PRIu32 ", token %" PRId64 ": its logits hold a NaN (the first value that is not finite: %s): it is left out", r->number + 1, r->n_out + 1, r->bad);
}

/* ref stops at the first op that cannot go on with a NaN; where that came from is said too. */
static bool step_failed(Session *s, Sched *sched, Request *r, Err *e) {
    Search q = {0};
    if (s->dev->ops->run_node) search_step(s, sched, r, &q);
    if (!q.name) return false;
    if (s->skip_bad && q.request != SIZE_MAX) {
        r[q.request].bad = q.name;
        say_bad(&r[q.request]);
        sched_drop(sched, q.request);
        s->again = true; /* the step was not done, so none of it counts */
    }
    err_add(e, "; the first value that is not finite in this step is %s", q.name);
    return q.request == SIZE_MAX ? false : err_wrap(e, "request %" PRIu32, r[q.request].number + 1);
}

bool session_step(Session *s, Sched *sched, const SchedStep *t, Request *r, Err *e) {
    session_inputs(s->exec, sched, t);
    return exec_graph(s->exec, s->step, e) || step_failed(s, sched, r, e);
}

static bool not_a_number(Session *s, Sched *sched, const SchedStep *t, const Request *r, int64_t row, Err *e) {
    size_t request = t->row_request[row];
    int64_t max = exec_max(s->plan, s->sample), from = row / max * max, n = t->n_rows - from < max ? t->n_rows - from : max;
    err_set(e, "request %" PRIu32 ", token %" PRId64 ": its logits hold a NaN", r[request].number + 1, r[request].n_out + 1);
    return session_name_nonfinite(s, sched, r, s->sample, t->rows + from, t->row_slot + from, n, e);
}

/* The head's inputs for the rows from … from+n-1. How each is drawn: by request and position alone. */
static void head_inputs(Session *s, const SchedStep *t, const Request *r, int64_t from, int64_t n) {
    exec_rows(s->exec, t->rows + from, t->row_slot + from, n);
    if (s->sampling.temperature <= 0) return; /* as exec_rows left it */
    for (int64_t i = 0; i < n; i++) {
        s->rows[i] = s->sampling;
        s->rows[i].request = r[t->row_request[from + i]].number;
        s->rows[i].position = (uint32_t)t->pos[t->rows[from + i]] + 1;
    }
    exec_sampling(s->exec, s->rows, n);
}

/* Behind head_inputs: what is drawn is what each slot goes on with. */
static bool draw(Session *s, Err *e) { return exec_graph_without(s->exec, s->sample, s->generation.suppressed, s->generation.n_suppressed, e); }

/* The requests of the step whose ids say NaN: what each met first. No step is behind this one, so all the others go on, with what is drawn for
 * them again: looking for a NaN drew otherwise. */
static bool leave_out(Session *s, Sched *sched, const Flight *f, Request *r, Err *e) {
    const SchedStep *t = f->step;
    Search q = {.r = r};
    bool ok = true;
    for (int64_t i = 0; i < t->n_rows; i++)
        if (f->ids[i] < 0 && !r[t->row_request[i]].done) r[t->row_request[i]].bad = unnamed;
    search_step(s, sched, r, &q);
    for (int64_t from = 0, max = exec_max(s->plan, s->sample); from < t->n_rows; from += max) {
        int64_t n = t->n_rows - from < max ? t->n_rows - from : max;
        search_head(s, s->sample, t->rows + from, t->row_slot + from, n, &q);
        head_inputs(s, t, r, from, n);
        if (!(ok = draw(s, e))) break; /* a device that fails: another may answer all of them */
    }
    for (int64_t i = 0; i < t->n_rows; i++) {
        Request *bad = &r[t->row_request[i]];
        if (f->ids[i] >= 0 || bad->done) continue;
        if (ok) say_bad(bad);
        else bad->bad = NULL;
    }
    return ok;
}

void session_tell(Session *s, const Sched *sched, const SchedStep *t, const Request *r) {
    int64_t max = exec_max(s->plan, s->sample), n = t->n_rows < max ? t->n_rows : max;
    session_inputs(s->exec, sched, t);
    if (n) head_inputs(s, t, r, 0, n);
}

/* The step, its head and the ids' way back, without waiting where the device does not. A head takes so many rows; those of
 * the first go along with the step's inputs. */
static bool launch(Session *s, Sched *sched, Flight *f, const Request *r, Err *e) {
    const SchedStep *t = f->step;
    int64_t max = exec_max(s->plan, s->sample);
    session_tell(s, sched, t, r);
    for (int64_t from = 0; from < t->n_rows || !from; from += max) {
        int64_t n = t->n_rows - from < max ? t->n_rows - from : max;
        if (from) head_inputs(s, t, r, from, n);
        if (!from && !exec_graph(s->exec, s->step, e)) return false;
        if (!from && s->after) {
            if (!s->after(s, sched, t, s->after_ctx, e)) return false;
            if (n) head_inputs(s, t, r, 0, n); /* it may have run a head of its own */
        }
        if (n && (!draw(s, e) || !exec_fetch(s->exec, s->ids_buf, 0, f->ids + from, (size_t)n * sizeof *f->ids, e))) return false;
    }
    return exec_mark(s->exec, (int)(f - s->flight), e);
}

bool session_unchanged(const Session *s, Err *e) { return !s->dev->ops->adopt || model_unchanged(s->model, e); }

/* The oldest in flight has come back. Of what it gave, a NaN too, nothing counts if it computed with others' weights. */
static bool arrive(Session *s, Sched *sched, Flight *f, Request *r, Err *e) {
    bool bad = false;
    if (!f->failed && !exec_wait(s->exec, (int)(f - s->flight), e)) return false;
    if (!session_unchanged(s, e)) return false;
    if (f->failed) return *e = f->why, step_failed(s, sched, r, e);
    for (int64_t i = 0; i < f->step->n_rows; i++) {
        if (f->ids[i] >= 0 || r[f->step->row_request[i]].done) continue;
        if (!s->skip_bad) return not_a_number(s, sched, f->step, r, i, e);
        bad = true;
    }
    return !bad || leave_out(s, sched, f, r, e);
}

void session_again(Session *s) {
    s->again = false;
    s->launched = s->returned = 0;
    for (int i = 0; i < EXEC_MARKS; i++) s->flight[i].failed = false;
}

bool session_next(Session *s, Sched *sched, Request *r, const SchedStep **t, const int32_t **ids, Err *e) {
    Flight *f;
    for (bool on = true; on && s->launched - s->returned <= s->ahead;) {
        f = &s->flight[s->launched % EXEC_MARKS];
        if (s->launched > s->returned && s->flight[s->returned % EXEC_MARKS].failed) break;
        f->step = sched_next(sched);
        if (!f->step) break;
        if (!f->ids) f->ids = arena_array(s->arena, (size_t)s->plan->max_batch, sizeof *f->ids);
        s->launched++;
        f->failed = !launch(s, sched, f, r, &f->why);
        on = !f->failed;
    }
    *t = NULL;
    if (s->launched == s->returned) return true;
    f = &s->flight[s->returned++ % EXEC_MARKS];
    if (!arrive(s, sched, f, r, e))
        return err_wrap(e, "step %" PRId64 " (%" PRId64 " tokens)", s->returned, (int64_t)f->step->n);
    *t = f->step, *ids = f->ids;
    return true;
}

void session_profile(Session *s) {
    Text t = {0};
    if (!s->o->profile) return;
    for (int64_t i = 0; s->dev->ops->profile && i < s->plan->devices; i++) {
        if (s->plan->devices > 1) text_add(&t, "%s %" PRId64 " of its group:\n", s->dev->ops->name, i);
        s->dev->ops->profile(s->group[i], &t, false);
    }
    if (!s->dev->ops->profile) text_add(&t, "device %s has no profile\n", s->dev->ops->name);
    fputs(t.at ? t.at : "", stderr);
    text_free(&t);
}
