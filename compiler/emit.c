/* emit.c - write a kernel's source. See emit.h.
 *
 * Each specialisation is a namespace: its constants, struct Args (the pointers), the generated hook, the template's text
 * under #line; behind it the thin __global__ wrapper. Elementwise chains become the body of
 *     out(a, t, n, v): the kernel's first result for row t, column n is v
 * so that a template never stores its first result itself. An elementwise op alone is the template "elementwise" (a copy)
 * with that op as its chain.
 *
 * For the host the same in C: no namespaces, so each kernel is a module of its own, and a constant is an enum. */
#include "emit.h"

#include "identity.h"

#include <ctype.h>
#include <inttypes.h>

static bool is_c(const Emitter *em) { return em->target->compiler == RTC_HOST; }

/* --- graph helpers --- */

Value *body_input(const Node *n, size_t i) {
    for (int k = 0; k < n->n_body_in; k++)
        if (n->in[k] && i-- == 0) return n->in[k];
    die("body_input: %s has no such input", node_name(n));
}

static Value *outside(const Node *n, const Value *v) {
    for (size_t i = 0; i < n->body->inputs.n; i++)
        if (n->body->inputs.at[i] == v) return body_input(n, i);
    return NULL;
}

Value *node_state(const Node *n, int out) {
    int i = node_state_in(n, out);
    return i < 0 ? NULL : n->in[i];
}

/* --- elementwise chains --- */

static bool is_elementwise(const Node *n) { return op_info(n->op)->flags & OPF_ELEMENTWISE; }

typedef struct Chain Chain; /* from the template's own result to the node's first output */
struct Chain {
    const Value *from;
    const Node *node[32];
    int n;
};

/* Does v depend on `from` through elementwise ops? Collects the path, last node first. */
static bool path(Chain *c, const Value *v) {
    if (v == c->from) return true;
    if (!v->def || !is_elementwise(v->def) || c->n == (int)LEN(c->node)) return false;
    c->node[c->n++] = v->def;
    for (int i = 0; i < v->def->n_in; i++) {
        int mark = c->n;
        if (path(c, v->def->in[i])) return true;
        c->n = mark;
    }
    c->n--;
    return false;
}

static Chain chain_of(const Node *n, bool copies) {
    Chain c = {0};
    const Value *to = n->op == OP_FUSED ? n->body->outputs.at[0] : n->out[0];
    if (copies) c.from = n->op == OP_FUSED ? n->body->inputs.at[0] : n->in[0];
    else c.from = n->op == OP_FUSED ? n->hook : to;
    if (!path(&c, to)) die("emit: no elementwise chain to %s", node_name(n));
    return c;
}

/* A value that the chain reads beside the running one, as an argument of the kernel. */
static const char *chain_arg(Arena *a, const Node *n, const Value *v, KernelArg *args, int *n_args) {
    Value *out = n->op == OP_FUSED ? outside(n, v) : (Value *)v;
    if (!out) die("emit: the chain of %s reads an interior value", node_name(n));
    int k = 0;
    for (int i = 0; i < *n_args; i++) {
        k += args[i].name[0] == 'h' && isdigit((unsigned char)args[i].name[1]);
        if (args[i].value == out && !args[i].written) return args[i].name;
    }
    args[*n_args] = (KernelArg){arena_printf(a, "h%d", k), out, out->type.dtype, false};
    return args[(*n_args)++].name;
}

static void operand(Text *t, Arena *a, const Node *n, const Value *v, const Value *running, KernelArg *args,
                    int *n_args) {
    if (v == running) text_add(t, "v");
    else text_add(t, "load(a.%s, %s)", chain_arg(a, n, v, args, n_args), v->type.rank == 1 ? "n" : "at");
}

/* The text of each elementwise op: CODE in ops.def. */
static const char *const code[OP_COUNT] = {
#define OP(...)
#define CODE(name, text) [OP_##name] = text,
#include "ir/ops.def"
#undef OP
};

/* What $name in an op's text stands for: an input, or an attribute. */
static void code_word(Text *t, Arena *a, const Node *n, const Node *op, const char *word, const Value *running,
                      KernelArg *args, int *n_args) {
    const char *names = op_info(op->op)->in_names;
    for (int i = 0; i < op->n_in; i++, names += strcspn(names, " "), names += strspn(names, " "))
        if (strcspn(names, " ") == strlen(word) && !strncmp(names, word, strlen(word))) {
            operand(t, a, n, op->in[i], running, args, n_args);
            return;
        }
    const Attr *attr = node_attr(op, word);
    if (!attr) die("emit: CODE(%s): no input or attribute %s", op_info(op->op)->name, word);
    if (attr->type == ATTR_STR) text_add(t, "%s", attr->s);
    else if (attr->type == ATTR_INT) text_add(t, "%" PRId64, attr->i);
    else text_add(t, "%.17g", attr->f);
}

static void chain_op(Text *t, Arena *a, const Node *n, const Node *op, const Value *running, KernelArg *args,
                     int *n_args) {
    const char *p = code[op->op];
    if (!p) die("emit: elementwise op %s has no CODE in ops.def", op_info(op->op)->name);
    text_add(t, "    v = ");
    while (*p) {
        char word[32];
        size_t w = 0;
        if (*p != '$') {
            text_put(t, p++, 1);
            continue;
        }
        for (p++; isalnum((unsigned char)*p) && w + 1 < sizeof word;) word[w++] = *p++;
        word[w] = 0;
        code_word(t, a, n, op, word, running, args, n_args);
    }
    text_add(t, "; // %s\n", op_info(op->op)->name);
}

static void emit_hook(Text *t, const Emitter *em, const Node *n, const Chain *c, KernelArg *args, int *n_args,
                      const char *result) {
    Arena *a = em->a;
    text_add(
        t,
        "// Row t, column n of the kernel's result is v.\nDEVICE void out(const Args %sa, int t, int n, float v) {\n"
        "    const long at = (long)t * OUT_COLUMNS + n;\n",
        is_c(em) ? "" : "&");
    const Value *running = c->from;
    for (int i = c->n - 1; i >= 0; i--) {
        chain_op(t, a, n, c->node[i], running, args, n_args);
        running = c->node[i]->out[0];
    }
    text_add(t, "    store(a.%s, at, v);\n}\n\n", result);
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

static int template_args(const Template *t, const Node *n, bool copies, KernelArg *args) {
    int n_in = copies ? 1 : n->op == OP_FUSED ? n->n_kernel_in : n->n_in, k = 0;
    for (int i = 0; i < t->n_in; i++) {
        Value *v = i < n_in ? n->in[i] : NULL;
        args[k] = (KernelArg){t->in[i].name, v, v ? v->type.dtype : t->in[i].types[0], false};
        for (int o = 0; o < n->n_out; o++) args[k].written |= v && node_state(n, o) == v;
        k++;
    }
    for (int i = 0; i < t->n_out; i++)
        if (!node_state(n, i)) args[k++] = (KernelArg){t->out[i].name, n->out[i], n->out[i]->type.dtype, true};
    if (t->group_perm) {
        args[k++] = (KernelArg){t->group_perm, n->in[n->n_in - 2], DT_I32, false};
        args[k++] = (KernelArg){t->group_tiles, n->in[n->n_in - 1], DT_I32, false};
    }
    return k;
}

static void emit_args(Text *t, const Emitter *em, const KernelArg *args, int n, Sym rows) {
    text_add(t, "%sstruct Args {\n    const int *step;\n", is_c(em) ? "typedef struct Args Args;\n" : "");
    for (int i = 0; i < n; i++)
        text_add(t, "    %s%s *%s;\n", args[i].written ? "" : "const ", dtype_ctype(args[i].dtype), args[i].name);
    text_add(t, "};\n");
    if (rows)
        text_add(t, "DEVICE int row_count(const Args %sa) { return a.step[%d]; }\n", is_c(em) ? "" : "&",
                 rows == SYM_T ? 0 : 1);
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

static void emit_wrapper(Text *t, const Kernel *k, const KernelArg *args, int n) {
    text_add(t, "extern \"C\" __global__ __launch_bounds__(%" PRId64 ") void %s(const int *__restrict__ step", k->block,
             k->symbol);
    for (int i = 0; i < n; i++)
        text_add(t, ", %s%s *__restrict__ %s", args[i].written ? "" : "const ", dtype_ctype(args[i].dtype),
                 args[i].name);
    text_add(t, ") {\n    %s_::run({step", k->symbol);
    for (int i = 0; i < n; i++) text_add(t, ", %s", args[i].name);
    text_add(t, "});\n}\n");
}

static int64_t columns(const Type *t) { return t->rank ? t->dim[t->rank - 1].add : 1; }

/* "linear_K64_N128": the kernel and its constant dimensions; a number behind it where that is not enough. */
static const char *symbol_of(Emitter *em, const Binding *b) {
    Text t = {0};
    text_add(&t, "%s", b->t->kernel);
    for (int pass = 0; pass < 2; pass++) {
        const Param *p = pass ? b->t->out : b->t->in;
        for (int i = 0; i < (pass ? b->t->n_out : b->t->n_in); i++)
            for (int d = 0; d < p[i].rank; d++) {
                const Const *c = binding_const(b, p[i].dim[d]);
                Text part = {0};
                if (c) text_add(&part, "_%s%" PRId64, c->name, c->i);
                if (c && !strstr(t.at, part.at)) text_add(&t, "%s", part.at);
                text_free(&part);
            }
    }
    int same = 0;
    for (size_t i = 0; i < em->kernels.n; i++) {
        const char *s = em->kernels.at[i]->symbol;
        same += !strncmp(s, t.at, t.n) && (!s[t.n] || s[t.n] == 'v');
    }
    if (same) text_add(&t, "v%d", same + 1);
    char *s = arena_strndup(em->a, t.at, t.n);
    text_free(&t);
    return s;
}

Kernel *emit_kernel(Emitter *em, const Node *n, const char *kernel, KernelArg *args, int *n_args, Err *e) {
    bool copies = kernel_copies(kernel);
    Node view =
        *n; /* for an elementwise kernel: a node whose only input and result is in[0], to bind the copying template */
    Value result = copies ? *n->in[0] : *n->out[0];
    if (copies) {
        view.op = OP_FUSED;
        view.body = graph_new(em->a, "copy");
        view.n_in = view.n_kernel_in = view.n_body_in = 1;
        view.hook = &result;
    }
    Kernel *k = arena_alloc(em->a, sizeof *k);
    if (copies)
        kernel = result.type.rank == 1 && result.type.dim[0].sym == SYM_NONE ? "elementwise_row" : "elementwise";
    if (!template_bind(em->a, em->templates, kernel, &view, em->precision, em->target, &k->binding, e)) return NULL;
    const Template *t = k->t = k->binding.t;
    if (!binding_eval(&k->binding, t->block, -1, &k->block, e)) return err_wrap(e, "%s", t->file), NULL;
    if (k->block < 1 || k->block > 1024)
        return err_set(e, "%s: error: block %s is %" PRId64 ", must be 1 to 1024", t->path, t->block, k->block), NULL;
    k->reduction = binding_reduction(em->a, &k->binding);

    Chain chain = chain_of(n, copies);
    if (chain.n && !t->hook)
        return err_at(e, &n->loc, "%s has no hook for the chain behind %s", t->file, node_name(n)), NULL;
    *n_args = template_args(t, n, copies, args);
    Text hook = {0}, text = {0};
    if (t->hook) emit_hook(&hook, em, n, &chain, args, n_args, t->out[0].name);
    emit_consts(&text, em, &k->binding);
    if (t->hook) emit_int(&text, em, "OUT_COLUMNS", columns(&n->out[0]->type));
    text_add(&text, "\n");
    emit_args(&text, em, args, *n_args, k->binding.rows);
    text_add(&text, "\n");
    text_put(&text, hook.at, hook.n);
    text_add(&text, "#line %d \"%s\"\n%s", t->body_line, t->file, t->body);
    k->inside = arena_strndup(em->a, text.at, text.n);
    text_free(&text);
    text_free(&hook);

    for (size_t i = 0; i < em->kernels.n; i++)
        if (em->kernels.at[i]->t == t && !strcmp(em->kernels.at[i]->inside, k->inside)) return em->kernels.at[i];
    k->symbol = symbol_of(em, &k->binding);
    if (is_c(em)) {
        text_add(&text, "%s", k->inside);
        emit_c_wrapper(&text, k, *n_args);
    } else {
        text_add(&text, "namespace %s_ {\n%s}\n", k->symbol, k->inside);
        emit_wrapper(&text, k, args, *n_args);
    }
    k->text = arena_strndup(em->a, text.at, text.n);
    text_free(&text);
    PUSH(em->a, em->kernels, k);
    return k;
}

const char *emit_module_name(const Emitter *em, const Kernel *k) {
    return is_c(em) ? arena_printf(em->a, "%s.c", k->symbol) : k->t->file;
}

const char *emit_module(const Emitter *em, const char *module, const char *prelude) {
    Text text = {0};
    text_add(
        &text,
        "// %s for %s, --precision %s. Made by gptoss-compile; to experiment: --emit DIR, edit, --override DIR.\n",
        module, em->target->arch, em->precision);
    for (size_t i = 0; i < em->kernels.n; i++)
        if (!strcmp(emit_module_name(em, em->kernels.at[i]), module)) identity_line(&text, em, em->kernels.at[i]);
    text_add(&text, "%s", prelude);
    for (size_t i = 0; i < em->kernels.n; i++) {
        const Kernel *k = em->kernels.at[i];
        if (!strcmp(emit_module_name(em, k), module)) text_add(&text, "\n#line 1 \"%s\"\n%s", k->symbol, k->text);
    }
    char *s = arena_strndup(em->a, text.at, text.n);
    text_free(&text);
    return s;
}
