/* pipeline.c - the compiler at a glance: the passes, in order.
 * After each pass every graph is verified; --dump STAGE prints the program after it (STAGE: a pass's name, or all).
 * Add a pass: a row of `passes` and its file. */
#include "compile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ir/progress.h"
#include "passes.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- targets --- */

static const Target targets[] = {
#define TARGET(arch, compiler, prelude, options, id, wave, matrix, lds)                                                \
    {arch, compiler, prelude, options, id, wave, matrix, lds},
#include "targets.def"
#undef TARGET
};

const Target *target_find(const char *arch) {
    for (size_t i = 0; i < LEN(targets); i++)
        if (!strcmp(targets[i].arch, arch)) return &targets[i];
    return NULL;
}

const char *target_list(Arena *a) {
    const char *s = targets[0].arch;
    for (size_t i = 1; i < LEN(targets); i++) s = arena_printf(a, "%s, %s", s, targets[i].arch);
    return s;
}

/* --- passes --- */

static bool pass_graph(Compile *c, Err *e) {
    Plan *p = &c->plan;
    c->program = front_program(c->front, c->o.graph, e);
    if (!c->program) return false;
    if (!front_config(c->front)) return err_set(e, "%s: its program{} gives no config", c->o.graph);
    p->config = *front_config(c->front);
    p->model_name = c->program->name;
    p->max_seq = p->config.max_seq;
    p->max_blocks = (p->max_seq + KV_PAGE - 1) / KV_PAGE;
    return true;
}

static bool is_strict(const Compile *c) { return !strcmp(c->o.precision, "strict"); }

static bool pass_precision(Compile *c, Err *e) {
    return precision_run(c->program, is_strict(c), c->o.kv16 || (!is_strict(c) && !c->o.kv32), e);
}

static void count_rules(Compile *c) {
    Plan *p = &c->plan;
    p->n_rules = (int)c->rules.n;
    p->rules = arena_array(c->a, c->rules.n, sizeof *p->rules);
    for (size_t i = 0; i < c->rules.n; i++) {
        p->rules[i] = (PlanRule){.name = c->rules.at[i]->name, .hash = c->rules.at[i]->hash};
        for (size_t k = 0; k < c->log.n; k++)
            p->rules[i].uses += c->log.at[k].outcome == FUSE_DONE && !strcmp(c->log.at[k].rule, c->rules.at[i]->name);
    }
}

static bool has_templates(const Compile *c, const Rule *r) {
    for (int i = 0; i < r->n_kernel; i++) {
        size_t k = 0;
        while (k < c->templates.n && strcmp(c->templates.at[k]->kernel, r->kernel[i].name)) k++;
        if (k == c->templates.n) return false;
    }
    return true;
}

typedef struct Names Names;
struct Names {
    const char **at;
    size_t n, cap;
};

/* Rules are written for GPUs: one whose kernel the host has not is left out, and --explain says so. */
static Names rules_off(Compile *c) {
    Names off = {0};
    for (size_t i = 0; i < c->o.no_fusion.n; i++) PUSH(c->a, off, c->o.no_fusion.at[i]);
    for (size_t i = 0; is_host(c) && i < c->rules.n; i++) {
        const Rule *r = c->rules.at[i];
        if (has_templates(c, r)) continue;
        PUSH(c->a, off, r->name);
        PUSH(c->a, c->log,
             ((FuseEvent){r->name, "all", "*", FUSE_REFUSED,
                          arena_printf(c->a, "templates/host has no kernel %s", r->kernel[0].name)}));
    }
    return off;
}

static bool pass_fuse(Compile *c, Err *e) {
    Names off = rules_off(c);
    for (size_t i = 0; i < c->program->graphs.n; i++)
        if (!fuse_run(c->front, c->program->graphs.at[i], &c->rules, off.at, off.n, &c->log, e)) return false;
    count_rules(c);
    return true;
}

static bool has_hook(void *ctx, const Node *n) {
    const Compile *c = ctx;
    for (int i = 0; i < node_kernels(n); i++) {
        const char *kernel = node_kernel(n, i);
        if (!template_has_hook(&c->templates, kernel_copies(kernel) ? "elementwise" : kernel)) return false;
    }
    return true;
}

static bool pass_elementwise(Compile *c, Err *e) {
    for (size_t i = 0; i < c->o.no_fusion.n; i++)
        if (!strcmp(c->o.no_fusion.at[i], "all") || !strcmp(c->o.no_fusion.at[i], "elementwise")) return true;
    for (size_t i = 0; i < c->program->graphs.n; i++)
        if (!fuse_elementwise(c->program->graphs.at[i], has_hook, c, &c->log, e)) return false;
    return true;
}

static LowerOptions lower_options(const Compile *c) {
    return (LowerOptions){
        .precision = c->o.precision, .target = c->target, .max_batch = c->o.max_batch, .max_tokens = c->o.max_tokens};
}

static bool pass_group(Compile *c, Err *e) {
    LowerOptions o = lower_options(c);
    return lower_group(c->program, &c->templates, &o, e);
}

static bool pass_lower(Compile *c, Err *e) {
    LowerOptions o = lower_options(c);
    return lower_plan(c->program, &c->templates, c->prelude, &o, &c->plan, e);
}

/* --- jit --- */

/* Sources that lie in --override's folder replace ours. */
static bool override_sources(Compile *c, Err *e) {
    int used = 0;
    for (int i = 0; i < c->plan.n_modules; i++) {
        PlanModule *m = &c->plan.modules[i];
        const char *path = arena_printf(c->a, "%s/%s", c->o.override, m->name);
        if (access(path, F_OK)) continue;
        if (!(m->source = file_read_text(c->a, path, NULL, e))) return false;
        fprintf(stderr, "using %s\n", path);
        used++;
    }
    return used || err_set(e, "--override %s: it has none of this plan's sources; --emit writes them", c->o.override);
}

static void progress(void *ctx, int done, int total, const char *name) {
    char detail[96];
    if (!progress_due(ctx)) return;
    snprintf(detail, sizeof detail, "%d of %d kernel files  %s", done, total, name);
    progress_draw(ctx, (double)done / total, detail);
}

static const char **split(Arena *a, const char *words, int *n) {
    const char **at = arena_array(a, strlen(words) / 2 + 1, sizeof *at);
    char *s = arena_strdup(a, words);
    *n = 0;
    for (char *w = strtok(s, " "); w; w = strtok(NULL, " ")) at[(*n)++] = w;
    return at;
}

static PlanKernel *find_kernel(Plan *p, const char *symbol) {
    for (int i = 0; i < p->n_kernels; i++)
        if (!strcmp(p->kernels[i].symbol, symbol)) return &p->kernels[i];
    return NULL;
}

static bool check_kernel(Plan *p, const Target *target, const PlanModule *m, const RtcKernel *k, Err *e) {
    PlanKernel *to = find_kernel(p, k->symbol);
    if (!to) return true; /* an overridden source may hold more */
    if (k->lds > (uint32_t)target->lds)
        return err_set(e, "%s: %s uses %u bytes of LDS, %s has %d", m->name, k->symbol, k->lds, target->arch,
                       target->lds);
    to->vgprs = k->vgprs;
    to->agprs = k->agprs;
    to->sgprs = k->sgprs;
    to->lds_static = k->lds;
    to->scratch = k->scratch;
    to->vgpr_spills = k->vgpr_spills;
    to->sgpr_spills = k->sgpr_spills;
    return true;
}

static bool take_code(Compile *c, Err *e) {
    Plan *p = &c->plan;
    for (int i = 0; i < p->n_modules; i++) {
        p->modules[i].code = c->jobs[i].code;
        p->modules[i].code_size = c->jobs[i].code_size;
        for (int k = 0; k < c->jobs[i].n_kernels; k++)
            if (!check_kernel(p, c->target, &p->modules[i], &c->jobs[i].kernels[k], e)) return false;
    }
    for (int i = 0; i < p->n_kernels; i++) {
        const RtcJob *j = &c->jobs[p->kernels[i].module];
        int k = 0;
        while (k < j->n_kernels && strcmp(j->kernels[k].symbol, p->kernels[i].symbol)) k++;
        if (k == j->n_kernels)
            return err_set(e, "%s: no kernel %s in the compiled source", j->name, p->kernels[i].symbol);
    }
    return true;
}

static bool pass_jit(Compile *c, Err *e) {
    Plan *p = &c->plan;
    if (c->o.override && !override_sources(c, e)) return false;
    Err none = {""};
    if (!rtc_probe(c->a, c->target->compiler, c->o.arch, &c->compiler, &none)) {
        if (c->compiler || is_host(c))
            return *e = none, false; /* a compiler is there, but not for this arch; or no cc */
        fprintf(stderr,
                "warning: %s\nwarning: the plan carries source only; no device can run it before it is compiled\n",
                none.msg);
        return true;
    }
    int n_options;
    const char **options = split(c->a, c->target->options, &n_options);
    c->jobs = arena_array(c->a, (size_t)p->n_modules, sizeof *c->jobs);
    for (int i = 0; i < p->n_modules; i++)
        c->jobs[i] = (RtcJob){.name = p->modules[i].name,
                              .source = p->modules[i].source,
                              .arch = is_host(c) ? p->target_id : c->o.arch,
                              .options = options,
                              .n_options = n_options};
    Progress bar;
    RtcOptions o = {.workers = (int)c->o.workers, .no_cache = c->o.no_cache, .progress = progress, .ctx = &bar};
    double start = now();
    progress_begin(&bar, "compiling");
    bool ok = rtc_compile(c->a, c->target->compiler, c->jobs, p->n_modules, &o, e);
    progress_end(&bar);
    if (!ok) return false;
    c->seconds_jit = now() - start;
    return take_code(c, e);
}

/* --- the pipeline --- */

static const struct Pass {
    const char *name;
    bool (*run)(Compile *c, Err *e);
    const char *does;
} passes[] = {
    {"graph", pass_graph, "run the Lua file"},
    {"precision", pass_precision, "insert casts (fast), choose the KV cache's type"},
    {"fuse", pass_fuse, "apply the rules of lua/fusions and --fusions"},
    {"elementwise", pass_elementwise, "inline elementwise chains into the kernels that feed them"},
    {"group", pass_group, "sort tokens by expert where a kernel wants it"},
    {"lower", pass_lower, "choose and emit kernels, place buffers, list launches"},
    {"jit", pass_jit, "compile the sources"},
};

static bool wanted(const char *dump, const char *pass) { return dump && (!strcmp(dump, "all") || !strcmp(dump, pass)); }

static void print_dump(const Compile *c, const char *pass, double ms, char **last) {
    Text t = {0};
    program_dump(c->program, &t);
    bool same = *last && !strcmp(*last, t.at);
    fprintf(stderr, "-- after %s%s, %.1f ms\n", pass, same ? " (unchanged)" : "", ms);
    if (!same || strcmp(c->o.dump, "all")) fputs(t.at, stdout);
    *last = arena_strdup(c->a, t.at);
    text_free(&t);
}

bool compile_run(Compile *c, Err *e) {
    char *last = NULL;
    bool known = !c->o.dump || !strcmp(c->o.dump, "all");
    for (size_t i = 0; i < LEN(passes); i++) known |= wanted(c->o.dump, passes[i].name);
    if (!known) {
        err_set(e, "--dump %s: there is no such stage; stages:", c->o.dump);
        for (size_t i = 0; i < LEN(passes); i++)
            snprintf(e->msg + strlen(e->msg), sizeof e->msg - strlen(e->msg), " %s", passes[i].name);
        return false;
    }
    for (size_t i = 0; i < LEN(passes); i++) {
        double start = now();
        if (!passes[i].run(c, e)) return false;
        if (!program_verify(c->program, e))
            die("after pass %s: %s (see --dump %s)", passes[i].name, e->msg, passes[i].name);
        if (wanted(c->o.dump, passes[i].name)) print_dump(c, passes[i].name, (now() - start) * 1e3, &last);
    }
    return true;
}
