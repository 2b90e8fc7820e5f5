/* pipeline.c - the compiler at a glance: the passes, in order.
 * After each pass every graph is verified; --dump STAGE prints the program after it (STAGE: a pass's name, or all).
 * Add a pass: a row of `passes` and its file. */
#include "compile.h"

#include <stdlib.h>

#include "interface.h"
#include "ir/progress.h"
#include "layout.h"
#include "passes.h"
#include "rules.h"
#include "sources.h"

/* --- targets --- */

static const Target targets[] = {
#define TARGET(...) {__VA_ARGS__},
#include "targets.def"
#undef TARGET
};

const Target *target_find(const char *arch) {
    for (size_t i = 0; i < LEN(targets); i++)
        if (!strcmp(targets[i].arch, arch)) return &targets[i];
    return NULL;
}

/* The setting of a feature in ":sramecc+:xnack-": "" or ":xnack-". */
static const char *setting(Arena *a, const char *features, const char *name, size_t n) {
    for (const char *p = features; *p; p += 1 + strcspn(p + 1, ":"))
        if (!strncmp(p + 1, name, n) && strchr("+-", p[1 + n])) return arena_strndup(a, p, n + 2);
    return "";
}

/* Are they the target's, each said once, with its sign? */
static bool check_features(Arena *a, const Target *t, const char *text, const char *features, Err *e) {
    for (const char *p = features; *p;) {
        size_t m = strcspn(p + 1, ":"), n = m ? m - 1 : 0;
        const char *known = t->features, *name = arena_strndup(a, p + 1, n);
        bool found = false, again = n && strcmp(setting(a, p + 1 + m, name, n), "");
        for (; *known; known += strcspn(known, " "), known += strspn(known, " "))
            found |= n && strcspn(known, " ") == n && !strncmp(known, name, n);
        if (again) return err_set(e, "--arch %s: %s is said twice", text, name);
        if (!found || !strchr("+-", p[m]))
            return err_set(e, "--arch %s: \"%.*s\" is no feature of %s%s%s", text, (int)m, p + 1, t->arch,
                           *t->features ? "; each ends in + or -: " : ", which has none", t->features);
        p += 1 + m;
    }
    return true;
}

bool target_parse(Arena *a, const char *text, const Target **t, const char **arch, Err *e) {
    static const char triple[] = "amdgcn-amd-amdhsa--";
    const char *s = strncmp(text, triple, strlen(triple)) ? text : text + strlen(triple);
    size_t n = strcspn(s, ":");
    *arch = arena_strndup(a, s, n);
    if (!(*t = target_find(*arch)))
        return err_set(e, "--arch %s is not implemented yet; it is one of: %s", text, target_list(a));
    if (!check_features(a, *t, text, s + n, e)) return false;
    for (const char *f = (*t)->features; *f; f += strcspn(f, " "), f += strspn(f, " "))
        *arch = arena_printf(a, "%s%s", *arch, setting(a, s + n, f, strcspn(f, " ")));
    return true;
}

const char *target_list(Arena *a) {
    const char *s = targets[0].arch;
    for (size_t i = 1; i < LEN(targets); i++) s = arena_printf(a, "%s, %s", s, targets[i].arch);
    return s;
}

bool compile_templates(const Compile *c, bool host, TemplateList *list, Err *e) {
    const char *ending = host ? ".c" : ".hip";
    if (!templates_load(c->a, list, arena_printf(c->a, "%s/templates%s", c->home, host ? "/host" : ""), ending, e))
        return false;
    for (size_t i = 0; i < c->o.templates.n; i++)
        if (!templates_load(c->a, list, c->o.templates.at[i], ending, e)) return false;
    return true;
}

/* --- passes --- */

static bool is_dump(const char *path) {
    size_t n = strlen(path);
    return n > 3 && !strcmp(path + n - 3, ".ir");
}

/* A dump (--dump graph, or a part of it) in place of a Lua file. It states no configuration, and its inputs need not be the
 * executor's: then --self-test is all that can run it. */
static bool load_dump(Compile *c, Err *e) {
    const char *text = file_read_text(c->a, c->o.graph, NULL, e);
    if (!text || !(c->program = program_load(c->a, text, c->o.graph, e)) || !program_verify(c->program, e)) return false;
    for (size_t i = 0; i < c->program->graphs.n; i++)
        if (c->program->graphs.at[i]->nodes.n > MAX_NODES) return err_set(e, "%s: more than %d nodes in a graph", c->o.graph, MAX_NODES);
    if (!c->model) return err_set(e, "%s: a dump states no config: --model names a checkpoint that does", c->o.graph);
    c->plan.config = *model_config(c->model);
    if (c->o.max_seq) c->plan.config.max_seq = c->o.max_seq;
    return true;
}

static bool run_lua(Compile *c, Err *e) {
    c->program = front_program(c->front, c->o.graph, e);
    if (!c->program) return false;
    if (!front_config(c->front)) return err_set(e, "%s: its program{} gives no config", c->o.graph);
    c->plan.config = *front_config(c->front);
    return true;
}

static bool pass_graph(Compile *c, Err *e) {
    Plan *p = &c->plan;
    bool dump = is_dump(c->o.graph);
    if (!(dump ? load_dump(c, e) : run_lua(c, e))) return false;
    p->model_name = c->program->name;
    p->max_seq = p->config.max_seq;
    p->max_blocks = (p->max_seq + KV_PAGE - 1) / KV_PAGE;
    return dump || interface_check(c, e);
}

static bool is_strict(const Compile *c) { return !strcmp(c->o.precision, "strict"); }

static const Program *copy_of(const Program *p) {
    Program *q = program_new(p->arena, p->name);
    for (size_t i = 0; i < p->graphs.n; i++) PUSH(p->arena, q->graphs, graph_clone(p->arena, p->graphs.at[i]));
    return q;
}

static bool pass_precision(Compile *c, Err *e) {
    if (!precision_run(c->program, is_strict(c), c->o.kv16 || (!is_strict(c) && !c->o.kv32), e)) return false;
    if (c->o.report && !strcmp(c->o.report, "html")) c->before = copy_of(c->program);
    return true;
}

static bool pass_ep(Compile *c, Err *e) {
    c->plan.devices = c->o.ep;
    return ep_run(c->program, c->o.ep, c->plan.config.experts, e);
}

Maker compile_maker(Compile *c) { return (Maker){c->a, &c->templates, c->o.precision, c->target, &c->tuning}; }

static bool takes_chain(void *ctx, const Node *n) {
    Maker m = compile_maker(ctx);
    return parts_take_chain(&m, n);
}

static bool pass_elementwise(Compile *c, Err *e) {
    for (size_t i = 0; i < c->program->graphs.n && !fuse_is_off(&c->off, "elementwise"); i++)
        if (!fuse_elementwise(c->program->graphs.at[i], takes_chain, c, &c->off, &c->log, e)) return false;
    rules_off_unused(c);
    return true;
}

static bool pass_group(Compile *c, Err *e) {
    Maker m = compile_maker(c);
    return lower_group(c->program, &m, e);
}

static bool pass_layout(Compile *c, Err *e) {
    Maker m = compile_maker(c);
    return layout_run(c->program, &m, e);
}

static bool pass_lower(Compile *c, Err *e) {
    Maker m = compile_maker(c);
    c->lowered = lower_plan(c->program, &m, &c->prelude, &c->plan, e);
    tuning_note(&c->tuning, &c->plan);
    return c->lowered && plan_check(&c->plan, e);
}

/* --- jit --- */

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

static bool check_kernel(Plan *p, const Target *target, const RtcJob *j, const RtcKernel *k, Err *e) {
    PlanKernel *to = find_kernel(p, k->symbol);
    if (!to) return true; /* an overridden source may hold more */
    if (k->lds > (uint32_t)target->lds)
        return err_set(e, "%s: %s uses %u bytes of LDS, %s has %d", j->name, k->symbol, k->lds, target->arch,
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
        p->modules[i].lines = c->jobs[i].lines;
        for (int k = 0; k < c->jobs[i].n_kernels; k++)
            if (!check_kernel(p, c->target, &c->jobs[i], &c->jobs[i].kernels[k], e)) return false;
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
    Edited *edited = arena_array(c->a, (size_t)p->n_modules, sizeof *edited);
    if (c->o.override && !sources_override(c->a, p, c->o.override, edited, e)) return false;
    int n_options;
    const char **options = split(c->a, c->target->options, &n_options);
    c->jobs = arena_array(c->a, (size_t)p->n_modules, sizeof *c->jobs);
    for (int i = 0; i < p->n_modules; i++)
        c->jobs[i] = (RtcJob){.name = edited[i].path ? edited[i].path : p->modules[i].name,
                              .source = edited[i].path ? edited[i].source : p->modules[i].source,
                              .known_as = p->modules[i].source,
                              .arch = is_host(c) ? p->target_id : c->o.arch,
                              .options = options,
                              .n_options = n_options};
    Progress bar;
    RtcOptions o = {.workers = (int)c->o.workers, .no_cache = c->o.no_cache, .progress = progress, .ctx = &bar, .version = &c->compiler};
    double start = seconds_now();
    progress_begin(&bar, "compiling");
    Err why = {""};
    bool ok = rtc_compile(c->a, c->target->compiler, c->jobs, p->n_modules, &o, &why);
    progress_end(&bar);
    if (!ok && !c->compiler && !is_host(c)) {
        fprintf(stderr, "warning: %s\nwarning: the plan carries source only: nothing but --device ref can run it\n", why.msg);
        return true;
    }
    if (!ok) return *e = why, false; /* for host where there is no cc, too */
    c->seconds_jit = seconds_now() - start;
    return take_code(c, e);
}

/* --- the pipeline --- */

static const struct Pass {
    const char *name;
    bool (*run)(Compile *c, Err *e);
    const char *does;
} passes[] = {
    {"graph", pass_graph, "run the Lua file, or load a dump"},
    {"precision", pass_precision, "insert casts (fast), choose the KV cache's type"},
    {"ep", pass_ep, "deal the experts out over the devices of --ep"},
    {"fuse", rules_apply, "apply the rules of lua/fusions and --fusions"},
    {"elementwise", pass_elementwise, "inline elementwise chains into the kernels that feed them"},
    {"group", pass_group, "sort tokens by expert where a kernel wants it"},
    {"layout", pass_layout, "repack weights as kernels want them: graph prepare"},
    {"lower", pass_lower, "choose and emit kernels, place buffers, list launches"},
    {"jit", pass_jit, "compile the sources"},
};

static bool wanted(const char *dump, const char *pass) { return dump && (!strcmp(dump, "all") || !strcmp(dump, pass)); }

static bool print_dump(const Compile *c, const char *pass, double ms, char **last, Err *e) {
    Text t = {0};
    (c->o.dot ? program_dot : program_dump)(c->program, &t);
    bool same = *last && !strcmp(*last, t.at);
    fprintf(stderr, "-- after %s%s, %.1f ms\n", pass, same ? " (unchanged)" : "", ms);
    if (!same || strcmp(c->o.dump, "all")) fputs(t.at, stdout);
    *last = arena_strdup(c->a, t.at);
    text_free(&t);
    return cli_stdout(e);
}

bool compile_run(Compile *c, Err *e) {
    char *last = NULL;
    bool known = !c->o.dump || !strcmp(c->o.dump, "all");
    for (size_t i = 0; i < LEN(passes); i++) known |= wanted(c->o.dump, passes[i].name);
    if (!known) {
        err_set(e, "--dump %s: there is no such stage; stages:", c->o.dump);
        for (size_t i = 0; i < LEN(passes); i++)
            err_add(e, " %s", passes[i].name);
        return false;
    }
    for (size_t i = 0; i < LEN(passes); i++) {
        double start = seconds_now();
        if (!passes[i].run(c, e)) return false;
        if (!program_verify(c->program, e))
            die("after pass %s: %s (see --dump %s)", passes[i].name, e->msg, passes[i].name);
        if (wanted(c->o.dump, passes[i].name) && !print_dump(c, passes[i].name, (seconds_now() - start) * 1e3, &last, e))
            return false;
    }
    return true;
}
