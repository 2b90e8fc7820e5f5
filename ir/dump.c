/* dump.c - a program as text: stable (no pointers, times, paths), and read back by load.c to an equal program.
 *
 *   program tiny
 *
 *   graph step
 *   input src: i32[T]
 *   param embed: bf16[512,64] may_round
 *   state layer0.kv: f32[P,2,2,64,16]
 *   layer0.attn.q: f32[T,64] = slice(layer0.attn.qkv) {offset=0, width=64}  @ layer 0 / attn
 *   layer0.mlp.w: f32[T,2], layer0.mlp.ids: i32[T,2] = topk(layer0.mlp.router) {k=2}  @ layer 0 / mlp
 *   layer0.attn.qkv: f32[T,128] = FUSED(x, g, nil; extra; perm, tiles)  @ layer 0 / attn
 *     rule rmsnorm_qkv
 *     kernel linear T<=64
 *     kernel linear/add
 *     hook layer0.attn.qkv
 *     body rmsnorm_qkv
 *       … as a graph …
 *     end
 *   output hidden
 *   end
 *
 * FUSED's inputs: what the kernel takes; what only the body reads; what lowering added. nil: an optional input that is
 * absent. Attributes: integers plain, floats with a point, exponent or name (inf, nan), strings quoted. A rule's pattern
 * has the type "?". @ gives the scope; lines and files are not kept (they are paths). Indentation has no meaning. */
#include <math.h>
#include <stdlib.h>

#include "graph.h"

static void type(Text *t, const Value *v) {
    Arena *a = arena_new();
    text_add(t, "%s: %s", v->name, type_str(a, &v->type));
    arena_free(a);
}

/* The shortest text that reads back as the same double, and as a float at all. */
static void number(Text *t, double f) {
    char s[40] = "nan";
    for (int digits = 1; digits <= 17 && f == f; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, f);
        if (strtod(s, NULL) == f) break;
    }
    text_add(t, "%s%s", s, s[strcspn(s, ".enif")] ? "" : ".0");
}

static void quoted(Text *t, const char *s) {
    text_add(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') text_add(t, "\\%c", *s);
        else if ((unsigned char)*s < 32) text_add(t, "\\x%02x", *s);
        else text_put(t, s, 1);
    }
    text_add(t, "\"");
}

void node_dump_attrs(const Node *n, Text *t) {
    if (!n->n_attr) return;
    text_add(t, " {");
    for (int i = 0; i < n->n_attr; i++) {
        const Attr *a = &n->attr[i];
        text_add(t, "%s%s=", i ? ", " : "", a->name);
        switch (a->type) {
        case ATTR_INT: text_add(t, "%lld", (long long)a->i); break;
        case ATTR_FLOAT: number(t, a->f); break;
        case ATTR_STR: quoted(t, a->s); break;
        }
    }
    text_add(t, "}");
}

static void inputs(Text *t, const Node *n) {
    for (int i = 0; i < n->n_in; i++) {
        const char *sep = i ? ", " : "";
        if (n->op == OP_FUSED && i == n->n_kernel_in) sep = "; ";
        if (n->op == OP_FUSED && i == n->n_body_in) sep = n->n_kernel_in == n->n_body_in ? "; ; " : "; ";
        text_add(t, "%s%s", sep, n->in[i] ? n->in[i]->name : "nil");
    }
}

static void graph(Text *t, const Graph *g, int depth);

static void fused(Text *t, const Node *n, int depth) {
    int w = depth * 2 + 2;
    text_add(t, "%*srule %s\n", w, "", n->rule);
    for (int i = 0; i < n->n_kernel; i++) {
        text_add(t, "%*skernel %s", w, "", n->kernel[i].name);
        if (n->kernel[i].max_t != INT64_MAX) text_add(t, " T<=%lld", (long long)n->kernel[i].max_t);
        text_add(t, "\n");
    }
    if (n->hook) text_add(t, "%*shook %s\n", w, "", n->hook->name);
    text_add(t, "%*sbody %s\n", w, "", n->body->name);
    graph(t, n->body, depth + 2);
    text_add(t, "%*send\n", w, "");
}

static void node(Text *t, const Node *n, int depth) {
    text_add(t, "%*s", depth * 2, "");
    for (int i = 0; i < n->n_out; i++) {
        if (i) text_add(t, ", ");
        type(t, n->out[i]);
    }
    text_add(t, " = %s(", op_info(n->op)->name);
    inputs(t, n);
    text_add(t, ")");
    node_dump_attrs(n, t);
    if (n->loc.scope && *n->loc.scope) text_add(t, "  @ %s", n->loc.scope);
    text_add(t, "\n");
    if (n->op == OP_FUSED) fused(t, n, depth);
}

static void list(Text *t, const ValueList *l, const char *what, int depth) {
    for (size_t i = 0; i < l->n; i++) {
        text_add(t, "%*s%s ", depth * 2, "", what);
        type(t, l->at[i]);
        text_add(t, "%s\n", l->at[i]->may_round ? " may_round" : "");
    }
}

static void graph(Text *t, const Graph *g, int depth) {
    list(t, &g->inputs, "input", depth);
    list(t, &g->params, "param", depth);
    list(t, &g->states, "state", depth);
    for (size_t i = 0; i < g->nodes.n; i++) node(t, g->nodes.at[i], depth);
    for (size_t i = 0; i < g->outputs.n; i++) text_add(t, "%*soutput %s\n", depth * 2, "", g->outputs.at[i]->name);
}

void graph_dump(const Graph *g, Text *t) {
    text_add(t, "graph %s\n", g->name);
    graph(t, g, 0);
    text_add(t, "end\n");
}

void program_dump(const Program *p, Text *t) {
    text_add(t, "program %s\n", p->name);
    for (size_t i = 0; i < p->graphs.n; i++) {
        text_add(t, "\n");
        graph_dump(p->graphs.at[i], t);
    }
}
