/* diff.c - what is in one plan and not in the other: nodes of the graphs, emitted sources. Layers that are alike count together.
 * See lab.h. */
#include "lab.h"
#include "ir/map.h"

#include <ctype.h>
#include <stdlib.h>

enum { WIDTH = 112 }; /* of a line that tells a node */

/* --- counted lines ------------------------------------------------------------------------------------------------------- */

typedef struct Item Item;
struct Item {
    const char *key, *says;
    int n[2]; /* in each plan */
};
typedef struct Items Items;
struct Items {
    Item *at;
    size_t n, cap;
    Map index; /* key -> place + 1 */
};

static void count(Arena *a, Items *l, const char *key, const char *says, int plan) {
    l->index.arena = a;
    size_t i = (size_t)(uintptr_t)map_get(&l->index, key);
    if (!i) {
        PUSH(a, *l, ((Item){key, says, {0, 0}}));
        map_put(&l->index, key, (void *)(uintptr_t)(i = l->n));
    }
    l->at[i - 1].n[plan]++;
}

/* "layer12.attn" and "layer 12 / attn": the same in every layer. */
static char *without_layers(Arena *a, const char *s, size_t n) {
    char *to = arena_alloc(a, n + 1), *at = to;
    for (size_t i = 0; i < n;) {
        bool number = i >= 5 && (!strncmp(s + i - 5, "layer", 5) || (i >= 6 && !strncmp(s + i - 6, "layer ", 6)));
        size_t digits = 0;
        while (number && i + digits < n && isdigit((unsigned char)s[i + digits])) digits++;
        if (digits) *at++ = '*', i += digits;
        else *at++ = s[i++];
    }
    return to;
}

const char *diff_without_layers(Arena *a, const char *s) { return without_layers(a, s, strlen(s)); }

/* --- graphs -------------------------------------------------------------------------------------------------------------- */

/* "layer*.attn.q, layer*.attn.kv = my_rule [rmsnorm linear]"; of a single op its inputs. */
static const char *node_line(Arena *a, const Node *n) {
    Text t = {0};
    for (int i = 0; i < n->n_out; i++) text_add(&t, "%s%s", i ? ", " : "", n->out[i]->name);
    text_add(&t, " = %s", n->op == OP_FUSED ? n->rule : op_info(n->op)->name);
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++)
        text_add(&t, "%s%s", i ? " " : " [", op_info(n->body->nodes.at[i]->op)->name);
    for (int i = 0; n->op != OP_FUSED && i < n->n_in; i++)
        text_add(&t, "%s%s", i ? ", " : "(", n->in[i] ? n->in[i]->name : "nil");
    text_add(&t, n->op == OP_FUSED ? "]" : ")");
    char *line = without_layers(a, t.at, t.n);
    text_free(&t);
    return strlen(line) <= WIDTH ? line : arena_printf(a, "%.*s ...", WIDTH - 4, line);
}

static bool is_node(const char *line) {
    static const char *const other[] = {"graph ", "input ", "param ", "state ", "output ", "end\n", " "};
    for (size_t i = 0; i < LEN(other); i++)
        if (!strncmp(line, other[i], strlen(other[i]))) return false;
    return *line != 0;
}

static const char *next_line(const char *s) { return s + strcspn(s, "\n") + (s[strcspn(s, "\n")] != 0); }

/* A node's part of the dump: its line and the indented ones behind it. */
static void count_nodes(Lab *lab, const Graph *g, int plan, Items *to) {
    Text t = {0};
    size_t node = 0;
    graph_dump(g, &t);
    for (const char *at = t.at, *end; *at; at = end) {
        end = next_line(at);
        if (!is_node(at)) continue;
        while (*end == ' ') end = next_line(end);
        char *chunk = without_layers(lab->a, at, (size_t)(end - at));
        count(lab->a, to, chunk, node_line(lab->a, g->nodes.at[node]), plan);
        node++;
    }
    text_free(&t);
}

/* Those that read alike count together. */
static json_t *in_one_only(Arena *a, const Items *l, int plan) {
    json_t *list = json_array();
    Map rows = {.arena = a};
    for (size_t i = 0; i < l->n; i++) {
        int more = l->at[i].n[plan] - l->at[i].n[!plan];
        json_t *row = more > 0 ? map_get(&rows, l->at[i].says) : NULL;
        if (more <= 0) continue;
        if (!row) {
            json_array_append_new(list, row = json_pack("{s:i, s:s}", "count", 0, "node", l->at[i].says));
            map_put(&rows, l->at[i].says, row);
        }
        json_object_set_new(row, "count", json_integer(json_integer_value(json_object_get(row, "count")) + more));
    }
    return list;
}

static int launches(const Plan *p, const char *graph) {
    int g = plan_graph(p, graph);
    return g < 0 ? 0 : plan_launches(&p->graphs[g], -1, -1);
}

static json_t *graph_json(Lab *lab, const char *name) {
    Items nodes = {0};
    int n[2] = {0};
    for (int i = 0; i < 2; i++) {
        const Graph *g = program_graph(lab->plan[i].plan->program, name);
        if (g) count_nodes(lab, g, i, &nodes), n[i] = (int)g->nodes.n;
    }
    return json_pack("{s:s, s:[i,i], s:[i,i], s:o, s:o}", "graph", name, "nodes", n[0], n[1], "launches",
                     launches(lab->plan[0].plan, name), launches(lab->plan[1].plan, name), "removed",
                     in_one_only(lab->a, &nodes, 0), "added", in_one_only(lab->a, &nodes, 1));
}

void diff_graphs(Lab *lab) {
    json_t *list = json_array();
    const Program *a = lab->plan[0].plan->program, *b = lab->plan[1].plan->program;
    for (size_t i = 0; i < a->graphs.n; i++) json_array_append_new(list, graph_json(lab, a->graphs.at[i]->name));
    for (size_t i = 0; i < b->graphs.n; i++)
        if (!program_graph(a, b->graphs.at[i]->name))
            json_array_append_new(list, graph_json(lab, b->graphs.at[i]->name));
    json_object_set_new(lab->page, "graphs", list);
}

/* --- sources ------------------------------------------------------------------------------------------------------------- */

static const PlanModule *module(const Plan *p, const char *name) {
    for (int i = 0; i < p->n_modules; i++)
        if (!strcmp(p->modules[i].name, name)) return &p->modules[i];
    return NULL;
}

static void count_lines(Lab *lab, const char *text, int plan, Items *to) {
    for (const char *at = text; *at; at = next_line(at))
        count(lab->a, to, arena_strndup(lab->a, at, strcspn(at, "\n")), "", plan);
}

/* How many lines are in one only; NULL: nothing differs. */
static json_t *source_json(Lab *lab, const char *name) {
    const PlanModule *m[2] = {module(lab->plan[0].plan, name), module(lab->plan[1].plan, name)};
    if (m[0] && m[1] && !strcmp(m[0]->source, m[1]->source)) return NULL;
    Items lines = {0};
    int removed = 0, added = 0;
    for (int i = 0; i < 2; i++)
        if (m[i]) count_lines(lab, m[!i] ? m[i]->source : plan_own_text(lab->plan[i].plan, m[i]), i, &lines);
    for (size_t i = 0; i < lines.n; i++) {
        int d = lines.at[i].n[1] - lines.at[i].n[0];
        *(d > 0 ? &added : &removed) += abs(d);
    }
    return json_pack("{s:s, s:s, s:i, s:i}", "name", name, "state",
                     !m[0]   ? "added"
                     : !m[1] ? "removed"
                             : "changed",
                     "lines_removed", removed, "lines_added", added);
}

void diff_sources(Lab *lab) {
    json_t *list = json_array();
    const Plan *a = lab->plan[0].plan, *b = lab->plan[1].plan;
    for (int i = 0; i < a->n_modules + b->n_modules; i++) {
        const char *name = i < a->n_modules ? a->modules[i].name : b->modules[i - a->n_modules].name;
        json_t *j = i < a->n_modules || !module(a, name) ? source_json(lab, name) : NULL;
        if (j) json_array_append_new(list, j);
    }
    json_object_set_new(lab->page, "sources", list);
}

bool diff_none(const Lab *lab) {
    size_t i;
    json_t *g;
    bool none = !json_array_size(json_object_get(lab->page, "sources"));
    json_array_foreach(json_object_get(lab->page, "graphs"), i, g) none =
        none && !json_array_size(json_object_get(g, "removed")) && !json_array_size(json_object_get(g, "added"));
    return none;
}

/* --- one kernel ---------------------------------------------------------------------------------------------------------- */

/* Of a HIP module the kernel's part (emit.c: "#line 1" with its symbol begins it, the next one's ends it); of a C module all. */
static const char *kernel_text(Arena *a, const Plan *p, const char *symbol) {
    int k = 0;
    while (k < p->n_kernels && strcmp(p->kernels[k].symbol, symbol)) k++;
    if (k == p->n_kernels) return NULL;
    const char *source = p->modules[p->kernels[k].module].source, *mark = arena_printf(a, "\n#line 1 \"%s\"\n", symbol), *at = strstr(source, mark);
    if (!at) return source;
    const char *end = strstr(at + strlen(mark), "\n#line 1 \"");
    return end ? arena_strndup(a, at, (size_t)(end - at)) : at;
}

bool diff_kernel(const Lab *lab, const char *symbol) {
    const char *a = kernel_text(lab->a, lab->plan[0].plan, symbol), *b = kernel_text(lab->a, lab->plan[1].plan, symbol);
    return !a || !b || strcmp(a, b);
}
