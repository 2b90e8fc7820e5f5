/* identity.c - see identity.h. */
#include "identity.h"

#include <inttypes.h>

/* --- what a node computes, without names: equal texts compute the same -------------------------------------------- */

static void put_type(Text *t, Arena *a, const Value *v) { text_add(t, " %s", v ? type_str(a, &v->type) : "none"); }

static void put_attrs(Text *t, const Node *n) {
    for (int i = 0; i < n->n_attr; i++) {
        const Attr *at = &n->attr[i];
        if (at->type == ATTR_STR) text_add(t, " %s=%s", at->name, at->s);
        else if (at->type == ATTR_INT) text_add(t, " %s=%" PRId64, at->name, at->i);
        else text_add(t, " %s=%.17g", at->name, at->f);
    }
}

/* A value of the body by where it comes from: "i2" the third input, "n3.1" the second result of the fourth node. */
static void put_source(Text *t, const Graph *body, const Value *v) {
    for (size_t i = 0; i < body->inputs.n; i++)
        if (body->inputs.at[i] == v) text_add(t, " i%zu", i);
    for (size_t i = 0; i < body->nodes.n; i++)
        if (v && body->nodes.at[i] == v->def) text_add(t, " n%zu.%d", i, v->index);
    if (!v) text_add(t, " none");
}

static void put_body(Text *t, Arena *a, const Graph *body) {
    for (size_t i = 0; i < body->inputs.n; i++) put_type(t, a, body->inputs.at[i]);
    for (size_t i = 0; i < body->nodes.n; i++) {
        const Node *n = body->nodes.at[i];
        text_add(t, "\n%s", op_info(n->op)->name);
        put_attrs(t, n);
        for (int k = 0; k < n->n_in; k++) put_source(t, body, n->in[k]);
    }
    text_add(t, "\ngives");
    for (size_t i = 0; i < body->outputs.n; i++) put_source(t, body, body->outputs.at[i]);
}

static uint64_t hash_of(Arena *a, const Node *n) {
    Text t = {0};
    text_add(&t, "%s", op_info(n->op)->name);
    put_attrs(&t, n);
    for (int i = 0; i < n->n_in; i++) put_type(&t, a, n->in[i]);
    for (int i = 0; i < n->n_out; i++) put_type(&t, a, n->out[i]);
    if (n->op == OP_FUSED) put_body(&t, a, n->body);
    uint64_t h = hash64(t.at, t.n);
    text_free(&t);
    return h;
}

/* --- identity.h ----------------------------------------------------------------------------------------------------- */

static const char *args_text(Arena *a, const KernelArg *args, int n) {
    const char *s = "";
    for (int i = 0; i < n; i++)
        s = arena_printf(a, "%s%s%s %s%s", s, i ? ", " : "", args[i].name, dtype_name(args[i].dtype),
                         args[i].written ? " (written)" : "");
    return s;
}

static const char *ops_text(Arena *a, const Node *n) {
    Text t = {0};
    for (size_t i = 0; i < owner_nodes(n); i++) {
        text_add(&t, "%s%s", i ? ", " : "", op_info(owner_node(n, i)->op)->name);
        put_attrs(&t, owner_node(n, i));
    }
    const char *s = arena_strdup(a, t.at);
    text_free(&t);
    return s;
}

void identity_add(Arena *a, Kernel *k, const Node *n, const KernelArg *args, int n_args) {
    uint64_t h = hash_of(a, n);
    if (!k->args) k->args = args_text(a, args, n_args), k->ops = ops_text(a, n);
    for (size_t i = 0; i < k->computes.n; i++)
        if (k->computes.at[i] == h) return;
    PUSH(a, k->computes, h);
}

void identity_line(Text *t, const Emitter *em, const Kernel *k) {
    text_add(t, "// identity %s for %s, %s:", k->symbol, em->m->target->arch, em->m->precision);
    for (size_t i = 0; i < k->binding.consts.n; i++) {
        const Const *c = &k->binding.consts.at[i];
        if (c->of_target) continue;
        if (c->is_float) text_add(t, " %s=%.17g", c->name, c->f);
        else text_add(t, " %s=%" PRId64, c->name, c->i);
    }
    text_add(t, "; %s; %s; computes %016" PRIx64 "\n", k->args, k->ops,
             hash64(k->computes.at, k->computes.n * sizeof *k->computes.at));
}
