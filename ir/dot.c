/* dot.c - a program for graphviz: a box a node, an edge for each value that one node makes and another reads; a frame around each
 * graph and each outermost scope. Weights and inputs are not drawn. A fused node lists the ops of its body; an output has two lines
 * around it, a state's edge is dashed. */
#include "graph.h"

static void quoted(Text *t, const char *s) {
    text_add(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') text_put(t, "\\", 1);
        text_put(t, s, 1);
    }
    text_add(t, "\"");
}

static void id(Text *t, const Graph *g, const Node *n) {
    Arena *a = arena_new();
    quoted(t, arena_printf(a, "%s/%s", g->name, node_name(n)));
    arena_free(a);
}

static const char *label(Arena *a, const Node *n) {
    const char *s = n->op == OP_FUSED ? arena_printf(a, "%s:", n->rule) : op_info(n->op)->name;
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++)
        s = arena_printf(a, "%s %s", s, op_info(n->body->nodes.at[i]->op)->name);
    return s;
}

static void node(Text *t, const Graph *g, const Node *n) {
    Arena *a = arena_new();
    bool output = false;
    for (int i = 0; i < n->n_out; i++) output |= n->out[i]->is_output;
    text_add(t, "    ");
    id(t, g, n);
    text_add(t, " [label=");
    quoted(t, label(a, n));
    text_add(t, " xlabel=");
    quoted(t, arena_printf(a, "%s: %s", node_name(n), type_str(a, &n->out[0]->type)));
    text_add(t, "%s%s]\n", n->op == OP_FUSED ? " style=bold" : "", output ? " peripheries=2" : "");
    arena_free(a);
}

static size_t outermost(const Node *n) {
    const char *end = n->loc.scope ? strstr(n->loc.scope, " / ") : NULL;
    return end ? (size_t)(end - n->loc.scope) : n->loc.scope ? strlen(n->loc.scope) : 0;
}

static bool same_scope(const Node *a, const Node *b) {
    return outermost(a) == outermost(b) && (!outermost(a) || !strncmp(a->loc.scope, b->loc.scope, outermost(a)));
}

/* Every node of the i-th's outermost scope, unless an earlier node was of it. */
static void scope(Text *t, const Graph *g, size_t i) {
    const Node *first = g->nodes.at[i];
    for (size_t k = 0; k < i && outermost(first); k++)
        if (same_scope(first, g->nodes.at[k])) return;
    if (!outermost(first)) {
        node(t, g, first);
        return;
    }
    Arena *a = arena_new();
    text_add(t, "    subgraph ");
    quoted(t, arena_printf(a, "cluster_%s_%zu", g->name, i));
    text_add(t, " { label=");
    quoted(t, arena_strndup(a, first->loc.scope, outermost(first)));
    text_add(t, "\n");
    for (size_t k = i; k < g->nodes.n; k++)
        if (same_scope(first, g->nodes.at[k])) node(t, g, g->nodes.at[k]);
    text_add(t, "    }\n");
    arena_free(a);
}

static void edges(Text *t, const Graph *g, const Node *n) {
    for (int i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        bool again = false;
        for (int k = 0; k < i; k++) again |= n->in[k] == v;
        if (!v || !v->def || again) continue;
        text_add(t, "    ");
        id(t, g, v->def);
        text_add(t, " -> ");
        id(t, g, n);
        text_add(t, node_state_in(v->def, v->index) >= 0 ? " [style=dashed]\n" : "\n");
    }
}

void program_dot(const Program *p, Text *t) {
    text_add(t, "digraph ");
    quoted(t, p->name);
    text_add(t, " {\n  node [shape=box fontsize=10]\n");
    for (size_t i = 0; i < p->graphs.n; i++) {
        const Graph *g = p->graphs.at[i];
        text_add(t, "  subgraph ");
        Arena *a = arena_new();
        quoted(t, arena_printf(a, "cluster_%s", g->name));
        arena_free(a);
        text_add(t, " { label=");
        quoted(t, g->name);
        text_add(t, "\n");
        for (size_t k = 0; k < g->nodes.n; k++) scope(t, g, k);
        for (size_t k = 0; k < g->nodes.n; k++) edges(t, g, g->nodes.at[k]);
        text_add(t, "  }\n");
    }
    text_add(t, "}\n");
}
