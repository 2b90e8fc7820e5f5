/* emit.c - write a kernel's source. See emit.h.
 *
 * Each specialisation is a namespace: its constants, struct Args (the pointers), the generated hooks, the template's text under
 * #line; behind it the thin __global__ wrapper.
 *
 * For the host the same in C: no namespaces, so each kernel is a module of its own, and a constant is an enum. */
#include "hooks.h"
#include "layout.h"

#include "identity.h"
#include "tuning.h"

#include <inttypes.h>

#include "plan/plan.h"

static bool is_c(const Emitter *em) { return em->m->target->compiler == RTC_HOST; }

/* --- graph helpers --- */

Value *body_input(const Node *n, size_t i) {
    for (int k = 0; k < n->n_body_in; k++)
        if (n->in[k] && i-- == 0) return n->in[k];
    die("body_input: %s has no such input", node_name(n));
}

Value *node_state(const Node *n, int out) {
    int i = node_state_in(n, out);
    return i < 0 ? NULL : n->in[i];
}

/* --- one kernel --- */

static void emit_int(Text *t, const Emitter *em, const char *name, int64_t i) {
    bool wide = i > INT32_MAX || i < INT32_MIN;
    if (!is_c(em)) text_add(t, "constexpr %s %s = %" PRId64 ";\n", wide ? "long" : "int", name, i);
    else if (wide) text_add(t, "static const long %s = %" PRId64 ";\n", name, i);
    else text_add(t, "enum { %s = %" PRId64 " };\n", name, i);
}

static void emit_consts(Text *t, const Emitter *em, const Binding *b) {
    for (size_t i = 0; i < b->consts.n; i++) {
        const Const *c = &b->consts.at[i];
        if (c->of_target) continue; /* WAVE is defined before the prelude */
        if (c->is_float) text_add(t, "%s double %s = %.17g;\n", is_c(em) ? "static const" : "constexpr", c->name, c->f);
        else emit_int(t, em, c->name, c->i);
    }
}

KernelArg *arg_push(KernelArg *args, int *n, KernelArg arg) {
    if (*n == PLAN_MAX_ARGS - 1) die("emit: a kernel with more than %d arguments, the last %s", PLAN_MAX_ARGS - 1, arg.name);
    args[*n] = arg;
    return &args[(*n)++];
}

static KernelArg *add_arg(KernelArg *args, int *n, const char *name, Value *v, DType dtype, bool written) {
    return arg_push(args, n, (KernelArg){.name = name, .value = v, .dtype = v ? v->type.dtype : dtype, .written = written});
}

static void add_memory(KernelArg *args, int *n, ArgRole role, const char *name) {
    arg_push(args, n, (KernelArg){.name = name, .role = role, .dtype = DT_I32, .written = true});
}

static const char *arg_ctype(const KernelArg *arg) {
    return arg->role == ARG_WORKSPACE ? "char" : dtype_ctype(arg->dtype);
}

/* What the template itself names: its operands that lie in memory, the results that do not go through its hook. */
static void template_args(Arena *a, const Template *t, const Part *p, const PartList *all, KernelArg *args, int *k) {
    const Node *o = p->owner, *n = p->core;
    for (int i = 0; i < t->n_in; i++) {
        Value *v = n ? (i < n->n_in ? n->in[i] : NULL) : i < o->n_kernel_in ? o->in[i] : NULL;
        bool there = v && (!n || part_origin(p, all, v) == FROM_OUTSIDE), written = false;
        DType dtype = v ? v->type.dtype : t->in[i].types[0];
        if (there && n) v = owner_memory(o, v);
        for (int i_out = 0; there && i_out < o->n_out; i_out++) written |= node_state(o, i_out) == v;
        KernelArg *arg = add_arg(args, k, t->in[i].name, there ? v : NULL, dtype, written);
        if (t->layout == i + 1) arg->packed = layout_name(a, p, v);
    }
    for (int i = t->behind ? 1 : 0; i < t->n_out; i++) {
        Value *v = n ? owner_memory(o, n->out[i]) : o->out[i];
        bool state = v->def && v->def == o && node_state(o, v->index);
        if (!state) add_arg(args, k, t->out[i].name, v, v->type.dtype, true);
    }
    if (t->workspace) add_memory(args, k, ARG_WORKSPACE, "workspace");
    if (t->counters) add_memory(args, k, ARG_COUNTERS, "counters");
    if (!t->group_perm) return;
    add_arg(args, k, t->group_perm, o->in[o->n_in - 2], DT_I32, false);
    add_arg(args, k, t->group_tiles, o->in[o->n_in - 1], DT_I32, false);
}

static void emit_hooks(Text *text, const Emitter *em, const Template *t, const Part *p, const PartList *all, KernelArg *args, int *n_args) {
    Hooks h = {em->m->a, p, all, is_c(em), args, n_args};
    for (int i = 0; p->core && i < t->n_in; i++)
        if (t->front >> i & 1) hooks_front(&h, text, i, t->in[i].name);
    if (p->source && t->behind) hooks_behind(&h, text, t);
    if (!p->source) hooks_each(&h, text);
}

static void emit_args(Text *t, const Emitter *em, const KernelArg *args, int n, Sym rows) {
    text_add(t, "%sstruct Args {\n    const int *step;\n", is_c(em) ? "typedef struct Args Args;\n" : "");
    for (int i = 0; i < n; i++)
        text_add(t, "    %s%s *%s;\n", args[i].written ? "" : "const ", arg_ctype(&args[i]), args[i].name);
    text_add(t, "};\n");
    if (rows)
        text_add(t, "DEVICE int row_count(const Args %sa) { return a.step[%d]; }\n", is_c(em) ? "" : "&",
                 rows == SYM_T ? 0 : 1);
    else text_add(t, "DEVICE int row_count(const Args %sa) { return 1; }\n", is_c(em) ? "" : "&");
}

/* Of block at[0], at[1]; p: the launch's arguments, step first. */
static void emit_c_wrapper(Text *t, const Kernel *k, int n) {
    text_add(t,
             "\n__attribute__((visibility(\"default\"))) void %s(void *const *p, const int *at, Room *room) {\n    "
             "run((Args){p[0]",
             k->symbol);
    for (int i = 0; i < n; i++) text_add(t, ", p[%d]", i + 1);
    text_add(t, "}, at[0], at[1], room);\n}\n");
}

static void emit_wrapper(Text *t, const Emitter *em, const Kernel *k, const KernelArg *args, int n) {
    /* ptxas aims at several blocks an SM, and spills, unless it is told that one will do */
    text_add(t, "extern \"C\" __global__ ");
    if (k->cluster > 1) text_add(t, "__cluster_dims__(%" PRId64 ", 1, 1) ", k->cluster);
    text_add(t, "__launch_bounds__(%" PRId64 "%s) void %s(const int *__restrict__ step", k->block,
             em->m->target->compiler == RTC_CUDA ? ", 1" : "", k->symbol);
    for (int i = 0; i < n; i++)
        text_add(t, ", %s%s *__restrict__ %s", args[i].written ? "" : "const ", arg_ctype(&args[i]), args[i].name);
    text_add(t, ") {\n%s    %s_::run({step", k->t->overlaps ? "" : "    overlap_wait();\n    overlap_next();\n", k->symbol);
    for (int i = 0; i < n; i++) text_add(t, ", %s", args[i].name);
    text_add(t, "});\n}\n");
}

/* What the kernel computes: its template's name, or the names of the ops that it is generated from. */
static void name_part(Text *t, const Part *p) {
    if (p->source) {
        text_add(t, "%s", p->kernel);
        return;
    }
    for (size_t i = 0, n = 0; i < owner_nodes(p->owner); i++)
        if (p->behind[i] && n < 4) text_add(t, "%s%s", n++ ? "_" : "", op_info(owner_node(p->owner, i)->op)->name);
}

/* "linear_K64_N128": the kernel and its constant dimensions; a number behind it where that is not enough. */
static const char *symbol_of(Emitter *em, const Binding *b, const Part *part) {
    Text t = {0};
    name_part(&t, part);
    if (!part->source) text_add(&t, "_N%" PRId64, part_columns(part));
    for (int pass = 0; pass < 2; pass++) {
        const Param *p = pass ? b->t->out : b->t->in;
        for (int i = 0; i < (pass ? b->t->n_out : b->t->n_in); i++)
            for (int d = 0; d < p[i].rank; d++) {
                const Const *c = binding_const(b, p[i].dim[d]);
                Text name = {0};
                if (c) text_add(&name, "_%s%" PRId64, c->name, c->i);
                if (c && !strstr(t.at, name.at)) text_add(&t, "%s", name.at);
                text_free(&name);
            }
    }
    int same = 0;
    for (size_t i = 0; i < em->kernels.n; i++) {
        const char *s = em->kernels.at[i]->symbol;
        same += !strncmp(s, t.at, t.n) && (!s[t.n] || s[t.n] == 'v');
    }
    if (same) text_add(&t, "v%d", same + 1);
    char *s = arena_strndup(em->m->a, t.at, t.n);
    text_free(&t);
    return s;
}

/* All that is summed: by the template, by a row's statistic in front of it, over ranks behind it. */
static const char *reduction(Emitter *em, const Part *p, const PartList *all, const Binding *b) {
    bool row = !p->source && part_statistic(p, all, NULL) != NULL;
    for (int i = 0; p->core && i < p->core->n_in; i++) row |= p->core->in[i] && part_statistic(p, all, p->core->in[i]) != NULL;
    const char *own = binding_reduction(em->m->a, b), *rows = is_c(em) ? "f64, a row in 16 lanes" : "a row in 4 parts, each by a wave";
    return arena_printf(em->m->a, "%s%s%s%s%s", row ? rows : "", row && *own ? "; " : "", own, (row || *own) && part_sums(p) ? "; " : "",
                        part_sums(p) ? "f64, in rank order" : "");
}

static double tolerance(const Emitter *em, const Template *t, const Part *p, const PartList *all) {
    if (!strcmp(em->m->precision, "strict")) return t->tol_strict;
    double most = t->tol_fast;
    for (int i = 0; i < t->n_wider; i++) {
        bool applies = t->wider[i].arch ? !strcmp(t->wider[i].arch, em->m->target->arch) : part_composes(p, all, t->wider[i].op);
        if (applies && t->wider[i].tol > most) most = t->wider[i].tol;
    }
    return most;
}

Kernel *emit_kernel(Emitter *em, const Part *p, const PartList *all, KernelArg *args, int *n_args, Err *e) {
    Kernel *k = arena_alloc(em->m->a, sizeof *k);
    if (!template_bind(em->m, p, all, &k->binding, e)) return NULL;
    const Template *t = k->t = k->binding.t;
    if (!binding_eval(&k->binding, t->block, -1, &k->block, e)) return err_wrap(e, "%s", t->file), NULL;
    if (k->block < 1 || k->block > 1024)
        return err_set(e, "%s: error: block %s is %" PRId64 ", must be 1 to 1024", t->path, t->block, k->block), NULL;
    k->cluster = 1;
    if (t->cluster && !binding_eval(&k->binding, t->cluster, -1, &k->cluster, e)) return err_wrap(e, "%s", t->file), NULL;
    if (k->cluster < 1 || k->cluster > 8 || (k->cluster > 1 && em->m->target->compiler != RTC_CUDA))
        return err_set(e, "%s: error: cluster %s is %" PRId64 ", must be 1 to 8, and 1 on %s", t->path, t->cluster, k->cluster, em->m->target->arch), NULL;
    if (t->with && !strstr(em->m->target->prelude, arena_printf(em->m->a, " %s:", t->with)))
        return err_set(e, "%s: error: with %s: %s has nothing of this name (targets.def)", t->path, t->with, em->m->target->arch), NULL;
    k->reduction = reduction(em, p, all, &k->binding);
    k->tolerance = tolerance(em, t, p, all);
    *n_args = 0;
    template_args(em->m->a, t, p, all, args, n_args);
    Text hooks = {0}, text = {0};
    emit_hooks(&hooks, em, t, p, all, args, n_args);
    emit_consts(&text, em, &k->binding);
    text_add(&text, "\n");
    emit_args(&text, em, args, *n_args, k->binding.rows);
    text_add(&text, "\n");
    text_put(&text, hooks.at, hooks.n);
    text_add(&text, "#line %d \"%s\"\n%s", t->body_line, t->body_file, t->body);
    k->inside = arena_strndup(em->m->a, text.at, text.n);
    text_free(&text);
    text_free(&hooks);

    for (size_t i = 0; i < em->kernels.n; i++)
        if (em->kernels.at[i]->t == t && !strcmp(em->kernels.at[i]->inside, k->inside)) return em->kernels.at[i];
    k->symbol = symbol_of(em, &k->binding, p);
    if (is_c(em)) {
        text_add(&text, "%s", k->inside);
        emit_c_wrapper(&text, k, *n_args);
    } else {
        text_add(&text, "namespace %s_ {\n%s}\n", k->symbol, k->inside);
        emit_wrapper(&text, em, k, args, *n_args);
    }
    k->text = arena_strndup(em->m->a, text.at, text.n);
    text_free(&text);
    PUSH(em->m->a, em->kernels, k);
    if (k->binding.tune) tuning_see(em->m->tuning, k->symbol, &k->binding);
    return k;
}

const char *emit_module_name(const Emitter *em, const Kernel *k) {
    return is_c(em) ? arena_printf(em->m->a, "%s.c", k->symbol) : k->t->file;
}

static bool is_with(const Emitter *em, const char *module, const char *part) {
    for (size_t i = 0; i < em->kernels.n; i++) {
        const Kernel *k = em->kernels.at[i];
        if (k->t->with && !strcmp(k->t->with, part) && !strcmp(emit_module_name(em, k), module)) return true;
    }
    return false;
}

const char *emit_module(const Emitter *em, const char *module, const Prelude *prelude) {
    Text text = {0};
    text_add(
        &text,
        "// %s for %s, --precision %s. Made by gptoss-compile; to experiment: --emit DIR, edit, --override DIR.\n",
        module, em->m->target->arch, em->m->precision);
    for (size_t i = 0; i < em->kernels.n; i++)
        if (!strcmp(emit_module_name(em, em->kernels.at[i]), module)) identity_line(&text, em, em->kernels.at[i]);
    text_add(&text, "%s", prelude->text);
    for (int i = 0; i < prelude->n_parts; i++)
        if (is_with(em, module, prelude->part[i].name)) text_add(&text, "%s", prelude->part[i].text);
    for (size_t i = 0; i < em->kernels.n; i++) {
        const Kernel *k = em->kernels.at[i];
        if (!strcmp(emit_module_name(em, k), module)) text_add(&text, "\n#line 1 \"%s\"\n%s", k->symbol, k->text);
    }
    char *s = arena_strndup(em->m->a, text.at, text.n);
    text_free(&text);
    return s;
}
