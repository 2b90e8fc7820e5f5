/* rules.c - see rules.h. The engine that applies one rule to one graph is fuse.c. */
#include "rules.h"

#include "ir/near.h"
#include "part.h"
#include "scope.h"

/* --- kernels -------------------------------------------------------------------------------------------------------- */

static bool has_kernel(const TemplateList *l, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i]->kernel, name)) return true;
    return false;
}

static bool unknown_kernel(Compile *c, const Rule *r, const char *kernel, const TemplateList *others, Err *e) {
    Near near = {kernel};
    for (size_t i = 0; i < c->templates.n; i++) near_try(&near, c->templates.at[i]->kernel);
    for (size_t i = 0; i < others->n; i++) near_try(&near, others->at[i]->kernel);
    for (Op op = 0; op < OP_COUNT; op++)
        if (op_code(op)->kind) near_try(&near, op_info(op)->name);
    Loc loc = front_rule_loc(c->front, r, kernel);
    return err_at(e, &loc, "fusion %s: no template is for a kernel %s%s%s%s; see docs/fusions.md, Kernels", r->name, kernel, NEAR_HINT(near));
}

/* NULL when this target and precision have a template for the kernel, else why not. false: there is none at all. */
static bool check_kernel(Compile *c, const Rule *r, const char *kernel, const char **why, Err *e) {
    const Maker m = compile_maker(c);
    const Template *other = NULL;
    *why = NULL;
    Op op;
    if (op_find(kernel, &op) && op_code(op)->kind) return true; /* generated where there is no template */
    for (size_t i = 0; i < c->templates.n; i++) {
        const Template *t = c->templates.at[i];
        if (strcmp(t->kernel, kernel)) continue;
        if (template_is_for(t, &m)) return true;
        other = t;
    }
    TemplateList others = {0}; /* a GPU's on the host, and the other way round */
    if (!other && !compile_templates(c, !is_host(c), &others, e)) return false;
    if (!other && !has_kernel(&others, kernel)) return unknown_kernel(c, r, kernel, &others, e);
    *why = arena_printf(
        c->a, "kernel %s has no template for %s, %s (%s)", kernel, c->target->arch, c->o.precision,
        other        ? arena_printf(c->a, "%s is for %s", other->file, other->arch ? other->arch : other->precision)
        : is_host(c) ? "only a .hip, for GPUs; the host's are .c"
                     : "only a .c, for the host; a GPU's are .hip");
    return true;
}

/* A recipe is one kernel, or several with '/' between. */
static bool check_recipe(Compile *c, const Rule *r, const char *recipe, const char **why, Err *e) {
    for (const char *p = recipe; *p; p += strcspn(p, "/"), p += *p == '/') {
        if (!check_kernel(c, r, arena_strndup(c->a, p, strcspn(p, "/")), why, e)) return false;
        if (*why) break;
    }
    return true;
}

/* --- off ------------------------------------------------------------------------------------------------------------ */

static bool unknown_rule(const Compile *c, const char *given, const char *name, Err *e) {
    Near near = {name};
    for (size_t i = 0; i < c->rules.n; i++) near_try(&near, c->rules.at[i]->name);
    err_set(e, "--no-fusion %s: there is no such rule%s%s%s; there are all, elementwise", given, NEAR_HINT(near));
    for (size_t i = 0; i < c->rules.n; i++) err_add(e, ", %s", c->rules.at[i]->name);
    return false;
}

bool rules_off(Compile *c, Err *e) {
    for (size_t i = 0; i < c->o.no_fusion.n; i++) {
        const char *given = c->o.no_fusion.at[i], *at = strchr(given, '@');
        FuseOff off = {.rule = arena_strndup(c->a, given, at ? (size_t)(at - given) : strlen(given)), .scope = at ? at + 1 : NULL};
        bool known = !strcmp(off.rule, "all") || !strcmp(off.rule, "elementwise");
        for (size_t k = 0; k < c->rules.n; k++) known |= !strcmp(c->rules.at[k]->name, off.rule);
        if (!known) return unknown_rule(c, given, off.rule, e);
        if (off.scope && !scope_check(off.scope, e)) return err_wrap(e, "--no-fusion %s", given);
        PUSH(c->a, c->off, off);
    }
    return true;
}

static bool is_somewhere(const Program *p, Arena *a, const char *scope) {
    for (size_t g = 0; g < p->graphs.n; g++)
        for (size_t i = 0; i < p->graphs.at[g]->nodes.n; i++)
            if (scope_within(loc_path(a, &p->graphs.at[g]->nodes.at[i]->loc), scope)) return true;
    return false;
}

static bool check_scopes(const Compile *c, Err *e) {
    for (size_t i = 0; i < c->off.n; i++) {
        const FuseOff *o = &c->off.at[i];
        if (o->scope && !is_somewhere(c->program, c->a, o->scope))
            return err_set(e, "--no-fusion %s@%s: no op lies in %s; there are %s", o->rule, o->scope, o->scope, scope_list(c->a, c->program));
    }
    return true;
}

void rules_off_unused(const Compile *c) {
    for (size_t i = 0; i < c->off.n; i++) {
        const FuseOff *o = &c->off.at[i];
        if (o->scope && !o->kept && !fuse_is_off(&c->off, o->rule))
            fprintf(stderr, "warning: --no-fusion %s@%s changes nothing: without it nothing is fused there by that name\n", o->rule, o->scope);
    }
}

static void warn(const Rule *r, const char *what) {
    Text t = {0};
    text_add(&t, "warning: %s:%d: rule %s %s; see docs/fusions.md, Reading the outcome\n", r->loc.file, r->loc.line, r->name, what);
    fputs(printable(t.at, true), stderr);
    text_free(&t);
}

/* Those whose kernel this target has not. */
static bool leave_out(Compile *c, Err *e) {
    for (size_t i = 0; i < c->rules.n; i++) {
        const Rule *r = c->rules.at[i];
        const char *why = NULL;
        for (int k = 0; k < r->n_kernel && !why && !fuse_is_off(&c->off, r->name); k++)
            if (!check_recipe(c, r, r->kernel[k].name, &why, e)) return false;
        if (!why) continue;
        PUSH(c->a, c->off, (FuseOff){.rule = r->name});
        PUSH(c->a, c->log, ((FuseEvent){r->name, "all", "*", FUSE_REFUSED, why}));
        if (r->given) warn(r, arena_printf(c->a, "is left out: %s", why));
    }
    return true;
}

/* --- what became of them ---------------------------------------------------------------------------------------------- */

static int count(const FuseLog *log, const char *rule, FuseOutcome outcome, const FuseEvent **first) {
    int n = 0;
    *first = NULL;
    for (size_t i = 0; i < log->n; i++)
        if (log->at[i].outcome == outcome && !strcmp(log->at[i].rule, rule) && !n++) *first = &log->at[i];
    return n;
}

const FuseEvent *rules_nearest(const FuseLog *log, const char *rule) {
    const FuseEvent *v, *nearest = NULL;
    if (count(log, rule, FUSE_DONE, &v) || count(log, rule, FUSE_REFUSED, &v)) return NULL;
    for (size_t i = 0; i < log->n; i++) {
        v = &log->at[i];
        if (!strcmp(v->rule, rule) && (!nearest || v->score > nearest->score)) nearest = v;
    }
    return nearest;
}

/* A rule of the user's that is on and was applied nowhere. */
static void warn_unused(Compile *c, const Rule *r) {
    const FuseEvent *v, *nearest = rules_nearest(&c->log, r->name);
    int n = count(&c->log, r->name, FUSE_REFUSED, &v);
    if (n)
        warn(r, arena_printf(c->a, "was refused wherever it fits (%d place%s), first in %s at %s: %s", n,
                             n == 1 ? "" : "s", v->graph, v->node, v->why));
    else if (nearest) warn(r, arena_printf(c->a, "fits nowhere; nearest in %s: %s", nearest->graph, nearest->why));
}

static void count_rules(Compile *c) {
    Plan *p = &c->plan;
    p->n_rules = (int)c->rules.n;
    p->rules = arena_array(c->a, c->rules.n, sizeof *p->rules);
    for (size_t i = 0; i < c->rules.n; i++) {
        const Rule *r = c->rules.at[i];
        const FuseEvent *v;
        p->rules[i] = (PlanRule){.name = r->name, .hash = r->hash, .uses = count(&c->log, r->name, FUSE_DONE, &v)};
        if (r->given && !p->rules[i].uses && !fuse_is_off(&c->off, r->name)) warn_unused(c, r);
    }
}

static Rule *rule_named(const Compile *c, const char *name) {
    for (size_t k = 0; name && k < c->rules.n; k++)
        if (!strcmp(c->rules.at[k]->name, name)) return c->rules.at[k];
    return NULL;
}

static bool bad_choice(const Compile *c, Err *e, const char *what) {
    return err_set(e, "%s:%lld: %s", c->tuning.path, (long long)json_integer_value(json_object_get(c->tuning.fusions, "line")), what);
}

/* Those that a measurement left out. */
static bool leave_out_tuned(Compile *c, Err *e) {
    const json_t *off = json_object_get(json_object_get(c->tuning.fusions, "choice"), "off");
    for (size_t i = 0; i < json_array_size(off); i++) {
        const char *rule = json_string_value(json_array_get(off, i));
        if (!rule_named(c, rule)) return bad_choice(c, e, arena_printf(c->a, "there is no rule %s", rule ? rule : "of that kind"));
        PUSH(c->a, c->off, (FuseOff){.rule = rule});
    }
    return true;
}

/* The rule's recipe with other bounds: each alternative but the last up to so many rows; no more than the one before it: not at all. */
static bool take_bounds(Compile *c, Rule *r, const json_t *bounds, Err *e) {
    KernelChoice taken[LEN(r->kernel)];
    int n = 0, given = (int)json_array_size(bounds);
    int64_t last = 0;
    if (given != r->n_kernel - 1) return bad_choice(c, e, arena_printf(c->a, "rule %s has %d alternatives, not %d", r->name, r->n_kernel, given + 1));
    for (int i = 0; i < r->n_kernel && last < INT64_MAX; i++) {
        const json_t *bound = json_array_get(bounds, (size_t)i);
        int64_t upto = i < given ? json_integer_value(bound) : INT64_MAX;
        if (i < given && (!json_is_integer(bound) || upto < last)) return bad_choice(c, e, arena_printf(c->a, "the bounds of rule %s do not ascend", r->name));
        if (upto >= TUNE_ALWAYS) upto = INT64_MAX;
        if (upto > last) taken[n++] = (KernelChoice){upto, r->kernel[i].name};
        last = upto;
    }
    memcpy(r->kernel, taken, (size_t)n * sizeof *taken);
    r->n_kernel = n;
    return true;
}

/* What was measured for "the rules that are on, for a model of this shape". */
static bool take_tuned(Compile *c, Err *e) {
    c->tuning.fusions = tuning_fusions(&c->tuning, rules_version(c), rules_shape(c));
    const char *name;
    json_t *bounds;
    json_object_foreach(json_object_get(json_object_get(c->tuning.fusions, "choice"), "recipes"), name, bounds) {
        Rule *r = rule_named(c, name);
        if (!r) return bad_choice(c, e, arena_printf(c->a, "there is no rule %s", name));
        if (!take_bounds(c, r, bounds, e)) return false;
    }
    return leave_out_tuned(c, e);
}

const char *rules_version(const Compile *c) {
    Text t = {0};
    for (size_t i = 0; i < c->rules.n; i++) text_add(&t, "%s %016llx\n", c->rules.at[i]->name, (unsigned long long)c->rules.at[i]->hash);
    for (size_t i = 0; i < c->o.no_fusion.n; i++) text_add(&t, "not %s\n", c->o.no_fusion.at[i]);
    const char *s = arena_printf(c->a, "%016llx", (unsigned long long)hash64(t.at, t.n));
    text_free(&t);
    return s;
}

const char *rules_shape(const Compile *c) {
    const ModelConfig *m = &c->plan.config;
    return arena_printf(c->a, "layers=%lld hidden=%lld intermediate=%lld experts=%lld topk=%lld heads=%lld kv_heads=%lld head_dim=%lld vocab=%lld", (long long)m->layers,
                        (long long)m->hidden, (long long)m->intermediate, (long long)m->experts, (long long)m->topk, (long long)m->heads, (long long)m->kv_heads,
                        (long long)m->head_dim, (long long)m->vocab);
}

bool rules_apply(Compile *c, Err *e) {
    if (!take_tuned(c, e)) return false;
    if (!check_scopes(c, e) || !leave_out(c, e)) return false;
    for (size_t i = 0; i < c->program->graphs.n; i++)
        if (!fuse_run(c->front, c->program->graphs.at[i], &c->rules, &c->off, &c->log, e)) return false;
    count_rules(c);
    return true;
}
