/* lower.c - grouping, kernel choice, buffers and launches. See lower.h.
 *
 * Memory: an intermediate lives in one scratch arena from the node that writes it to the last that reads it; offsets are
 * found by first fit, largest first, at the sizes of the largest bucket, and are the same in every bucket. */
#include "fuse.h"
#include "identity.h"
#include "ir/map.h"
#include "lower.h"

#include <stdlib.h>

/* --- group --- */

static Node *find_group(const Graph *g, const Value *ids, int64_t tile) {
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        if (n->op == OP_group && n->in[0] == ids && node_int(n, "tile") == tile) return n;
    }
    return NULL;
}

static Node *make_group(Graph *g, Value *ids, int64_t experts, int64_t tile, Err *e) {
    Node *n = find_group(g, ids, tile);
    if (n) return n;
    Attr attr[] = {{.name = "experts", .type = ATTR_INT, .i = experts}, {.name = "tile", .type = ATTR_INT, .i = tile}};
    const char *name = arena_printf(g->arena, "%s.group%lld", ids->name, (long long)tile);
    return graph_add(g, OP_group, &ids, 1, attr, 2, name, ids->loc, e);
}

static int param_index(const Template *t, const char *name) {
    for (int i = 0; i < t->n_in; i++)
        if (!strcmp(t->in[i].name, name)) return i;
    die("%s: group names no input %s", t->file, name);
}

typedef struct Wish Wish; /* how a node wants its experts grouped */
struct Wish {
    int64_t tile, experts;
    Value *ids;
};

static bool wish_of(void *ctx, const Part *p, const Binding *b, Err *e) {
    Wish *w = ctx;
    if (!b->t->group_ids) return true;
    const Const *c = binding_const(b, b->t->group_tile);
    const Value *ids = p->core ? p->core->in[param_index(b->t, b->t->group_ids)] : p->owner->in[param_index(b->t, b->t->group_ids)];
    const Value *weights = p->core ? p->core->in[param_index(b->t, "w")] : p->owner->in[param_index(b->t, "w")];
    if (!c || c->i <= 0) return err_set(e, "%s: group's tile %s is no constant", b->t->file, b->t->group_tile);
    if (w->tile && w->tile != c->i)
        return err_at(e, &p->owner->loc, "%s: its kernels want tiles of %lld and %lld", node_name(p->owner), (long long)w->tile, (long long)c->i);
    *w = (Wish){c->i, weights->type.dim[0].add, p->core ? owner_outside(p->owner, ids) : (Value *)ids};
    return w->ids || err_at(e, &p->owner->loc, "%s: its expert ids are computed inside it", node_name(p->owner));
}

static bool group_node(const Maker *m, Graph *g, Node *n, Err *e) {
    Wish wish = {0};
    if (!parts_each(m, n, wish_of, &wish, e)) return false;
    if (!wish.tile) return true;
    Node *group = make_group(g, wish.ids, wish.experts, wish.tile, e);
    if (!group) return err_wrap(e, "group for %s", node_name(n));
    if (n->n_in + 2 > MAX_IN) return err_at(e, &n->loc, "%s has %d inputs: with the order of its experts' pairs there would be %d, and a node has at most %d (leave a fusion out with --no-fusion)", node_name(n), n->n_in, n->n_in + 2, MAX_IN);
    if (n->op != OP_FUSED) fuse_wrap(g, n, "group");
    n->in[n->n_in++] = group->out[0];
    n->in[n->n_in++] = group->out[1];
    return true;
}

bool lower_group(Program *p, const Maker *m, Err *e) {
    for (size_t i = 0; i < p->graphs.n; i++) {
        Graph *g = p->graphs.at[i];
        size_t n = g->nodes.n; /* group nodes are added behind and need no grouping themselves */
        for (size_t k = 0; k < n; k++)
            if (!group_node(m, g, g->nodes.at[k], e)) return false;
        graph_sort(g);
    }
    return true;
}

/* --- the plan under construction --- */

typedef struct Lower Lower;
struct Lower {
    Arena *a;
    Emitter em;
    Plan *plan;
    struct {
        PlanBuf *at;
        size_t n, cap;
    } bufs;
    Map named;   /* those that are not BUF_TEMP: name -> index + 1 */
    Map outputs; /* of all graphs, by name: an input of that name is a link */
    struct {
        const Value *v; /* of the body of the node being lowered */
        int buf;
    } handed[PART_NODES]; /* what its launches hand on to each other */
    int n_handed;
    int workspace; /* of the node being lowered: its launches' one after the other; -1: none so far */
};

static Sizes sizes_of(int64_t t, int64_t s) { return (Sizes){{[SYM_T] = t, [SYM_S] = s, [SYM_P] = 1}}; }

static int find_buf(const Lower *l, const char *name) { return (int)(intptr_t)map_get(&l->named, name) - 1; }

static void name_buf(Lower *l, const char *name, int buf) {
    if (find_buf(l, name) < 0) map_put(&l->named, name, (void *)(intptr_t)(buf + 1));
}

static int new_buf(Lower *l, BufKind kind, const Value *v) {
    Sizes s = sizes_of(l->plan->max_tokens, l->plan->max_batch);
    PlanBuf b = {.name = v->name,
                 .kind = kind,
                 .type = v->type,
                 .may_round = v->may_round,
                 .graph = -1,
                 .first = -1,
                 .last = -1};
    b.size = type_bytes(&v->type, &s);
    PUSH(l->a, l->bufs, b);
    if (kind != BUF_TEMP) name_buf(l, v->name, (int)l->bufs.n - 1);
    return (int)l->bufs.n - 1;
}

static int named_buf(Lower *l, BufKind kind, const Value *v, Err *e) {
    int i = find_buf(l, v->name);
    if (i < 0) return new_buf(l, kind, v);
    if (type_eq(&l->bufs.at[i].type, &v->type)) return i;
    return err_set(e, "%s is %s in one graph and %s in another", v->name, type_str(l->a, &l->bufs.at[i].type),
                   type_str(l->a, &v->type)),
           -1;
}

/* --- values to buffers --- */

static bool add_value(Lower *l, PlanGraph *pg, const Value *v, int buf) {
    if (buf < 0) return false;
    map_put(pg->index, v->name, &pg->values[pg->n_values]);
    pg->values[pg->n_values].name = v->name;
    pg->values[pg->n_values++].buf = buf;
    l->bufs.at[buf].may_round |= v->may_round;
    return true;
}

static bool outer_values(Lower *l, const Graph *g, PlanGraph *pg, Err *e) {
    for (size_t i = 0; i < g->inputs.n; i++) {
        const Value *v = g->inputs.at[i];
        if (!add_value(l, pg, v, named_buf(l, map_get(&l->outputs, v->name) ? BUF_LINK : BUF_INPUT, v, e))) return false;
    }
    for (size_t i = 0; i < g->params.n; i++)
        if (!add_value(l, pg, g->params.at[i], named_buf(l, BUF_WEIGHT, g->params.at[i], e))) return false;
    for (size_t i = 0; i < g->states.n; i++)
        if (!add_value(l, pg, g->states.at[i], named_buf(l, BUF_STATE, g->states.at[i], e))) return false;
    return true;
}

/* A join of what lies on the first device already: its result is its input. */
static bool is_in_place(const Node *n) {
    return n->op == OP_join && n->in[0]->kind == VALUE_NODE && !n->out[0]->is_output && !n->in[0]->is_output;
}

static bool node_values(Lower *l, const Graph *g, int graph, PlanGraph *pg, Err *e) {
    for (size_t k = 0; k < g->nodes.n; k++) {
        const Node *n = g->nodes.at[k];
        for (int o = 0; o < n->n_out; o++) {
            const Value *v = n->out[o], *state = node_state(n, o);
            bool in_place = is_in_place(n);
            int buf = state          ? plan_value(pg, state->name)
                      : in_place     ? plan_value(pg, n->in[0]->name)
                      : v->is_output ? named_buf(l, BUF_LINK, v, e)
                                     : new_buf(l, BUF_TEMP, v);
            if (buf >= 0 && n->op == OP_repack) l->bufs.at[buf].kind = BUF_PACKED, name_buf(l, v->name, buf);
            if (!add_value(l, pg, v, buf)) return false;
            PlanBuf *b = &l->bufs.at[buf];
            if (b->kind == BUF_TEMP && !in_place) b->graph = graph, b->first = b->last = (int)k;
        }
        for (int i = 0; i < n->n_in; i++) {
            if (!n->in[i]) continue;
            PlanBuf *b = &l->bufs.at[plan_value(pg, n->in[i]->name)];
            if (b->kind == BUF_TEMP && b->last < (int)k) b->last = (int)k;
        }
    }
    return true;
}

/* --- scratch --- */

static bool together(const PlanBuf *a, const PlanBuf *b) {
    return a->hold == b->hold && a->graph == b->graph && a->first <= b->last && b->first <= a->last;
}

/* Where it begins in a list that is sorted by offset. */
static size_t sorted_at(PlanBuf **list, size_t n, size_t offset) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (list[mid]->offset < offset) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* Each at the first place that is free while it lives. */
static void place(Lower *l, PlanBuf **order, size_t n) {
    PlanBuf **placed = arena_array(l->a, n + 1, sizeof *placed); /* by offset */
    for (size_t i = 0; i < n; i++) {
        PlanBuf *self = order[i];
        size_t at = 0;
        for (size_t k = 0; k < i && placed[k]->offset < at + self->size; k++) {
            const PlanBuf *b = placed[k];
            if (together(self, b) && at < b->offset + b->size) at = (b->offset + b->size + 255) & ~(size_t)255;
        }
        size_t *arena = &l->plan->arena_of[self->hold], where = sorted_at(placed, i, at);
        self->offset = at;
        if (at + self->size > *arena) *arena = at + self->size;
        memmove(placed + where + 1, placed + where, (i - where) * sizeof *placed);
        placed[where] = self;
    }
}

static int larger_first(const void *a, const void *b) {
    const PlanBuf *x = *(PlanBuf *const *)a, *y = *(PlanBuf *const *)b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x < y ? -1 : x > y;
}

static void place_scratch(Lower *l) {
    PlanBuf **order = arena_array(l->a, l->bufs.n, sizeof *order);
    size_t n = 0;
    for (size_t i = 0; i < l->bufs.n; i++)
        if (l->bufs.at[i].kind == BUF_TEMP) order[n++] = &l->bufs.at[i];
    qsort(order, n, sizeof *order, larger_first);
    place(l, order, n);
}

/* --- launches --- */

static int module_of(Lower *l, const Kernel *k) {
    Plan *p = l->plan;
    const char *name = emit_module_name(&l->em, k);
    for (int i = 0; i < p->n_modules; i++)
        if (!strcmp(p->modules[i].name, name)) return i;
    p->modules[p->n_modules].name = name;
    return p->n_modules++;
}

static int kernel_of(Lower *l, Kernel *k) {
    Plan *p = l->plan;
    for (int i = 0; i < p->n_kernels; i++)
        if (!strcmp(p->kernels[i].symbol, k->symbol)) return i;
    p->kernels[p->n_kernels] = (PlanKernel){.symbol = k->symbol,
                                            .template_name = k->t->file,
                                            .reduction = k->reduction,
                                            .module = module_of(l, k),
                                            .block = (uint32_t)k->block,
                                            .overlaps = l->em.m->target->compiler == RTC_CUDA,
                                            .nmse = k->tolerance};
    return p->n_kernels++;
}

static bool in_range(const Range *r, int64_t rows) { return rows > r->above && rows <= r->upto; }

static bool fill_grid(Lower *l, const Kernel *k, const PlanGraph *pg, PlanLaunch *launch, const Range *r, Err *e) {
    for (int b = 0; b < pg->n_buckets; b++) {
        int64_t rows = pg->buckets[b];
        if (!in_range(r, rows)) continue; /* another choice serves this bucket: stays 0 */
        for (int d = 0; d < 3; d++) {
            int64_t x = 1;
            if (!binding_eval(&k->binding, k->t->grid[d], rows, &x, e))
                return err_wrap(e, "%s: grid", k->t->file);
            if (x < 1 || x > (d ? 65535 : INT32_MAX))
                return err_set(e, "%s: grid dimension %d is %lld", k->symbol, d, (long long)x);
            if (!d && x % k->cluster) return err_set(e, "%s: grid %lld is no multiple of its clusters of %lld blocks", k->symbol, (long long)x, (long long)k->cluster);
            launch->grid[b][d] = (uint32_t)x;
        }
        int64_t lds = 0;
        if (k->t->lds && !binding_eval(&k->binding, k->t->lds, rows, &lds, e)) return err_wrap(e, "%s: lds", k->t->file);
        if (lds < 0 || lds > l->em.m->target->lds_all) return err_set(e, "%s: %lld bytes of shared memory, %s has %d", k->symbol, (long long)lds, l->em.m->target->arch, l->em.m->target->lds_all);
        launch->lds[b] = (uint32_t)lds;
        PlanKernel *pk = &l->plan->kernels[launch->kernel];
        if (pk->lds < launch->lds[b]) pk->lds = launch->lds[b];
    }
    return true;
}

/* The buffer of a kernel's argument: a value of the graph, or one that a launch of this node hands on to a later one. */
static int arg_buf(Lower *l, const PlanGraph *pg, int graph, int node, const Node *n, const Value *v) {
    if (!v) return -1;
    if (owner_index(n, v) == SIZE_MAX || n->op != OP_FUSED) return plan_value(pg, v->name);
    for (int i = 0; i < l->n_handed; i++)
        if (l->handed[i].v == v) return l->handed[i].buf;
    int buf = new_buf(l, BUF_TEMP, v);
    l->bufs.at[buf].graph = graph;
    l->bufs.at[buf].first = l->bufs.at[buf].last = node;
    l->handed[l->n_handed].v = v;
    return l->handed[l->n_handed++].buf = buf;
}

/* The most that expr is for a bucket of the range. */
static bool most_of(const Kernel *k, const char *expr, const PlanGraph *pg, const Range *r, int64_t *most, Err *e) {
    *most = 0;
    for (int b = 0; b < pg->n_buckets; b++) {
        int64_t x;
        if (!in_range(r, pg->buckets[b])) continue;
        if (!binding_eval(&k->binding, expr, pg->buckets[b], &x, e)) return err_wrap(e, "%s: workspace or counters", k->t->file);
        if (x < 0 || x >= 1ll << 40) return err_set(e, "%s: \"%s\" is %lld", k->symbol, expr, (long long)x);
        if (x > *most) *most = x;
    }
    return true;
}

/* Makes buffer *buf, of i32, at least so long; there is none of none. */
static void grow(Lower *l, BufKind kind, const char *name, int64_t words, int *buf) {
    Value v = {.name = name, .type = {DT_I32, 1, {dim_const(words)}}};
    if (*buf < 0 && words) *buf = new_buf(l, kind, &v);
    if (*buf < 0 || l->bufs.at[*buf].type.dim[0].add >= words) return;
    l->bufs.at[*buf].type = v.type;
    l->bufs.at[*buf].size = (size_t)words * 4;
}

/* Workspace: a temporary of the node. Counters: one buffer for all launches, which run one after the other. */
static bool asked_memory(Lower *l, const Kernel *k, ArgRole role, int graph, int node, const Node *n, const Range *r, int *buf, Err *e) {
    int64_t most;
    const char *expr = role == ARG_WORKSPACE ? k->t->workspace : k->t->counters;
    if (!most_of(k, expr, &l->plan->graphs[graph], r, &most, e)) return false;
    if (role == ARG_COUNTERS) {
        *buf = find_buf(l, PLAN_COUNTERS);
        return grow(l, BUF_STATE, PLAN_COUNTERS, most, buf), true;
    }
    grow(l, BUF_TEMP, arena_printf(l->a, "%s.workspace", node_name(n)), (most + 3) / 4, &l->workspace);
    if (l->workspace >= 0) l->bufs.at[l->workspace].graph = graph, l->bufs.at[l->workspace].first = l->bufs.at[l->workspace].last = node;
    return *buf = l->workspace, true;
}

static bool launch_part(Lower *l, int graph, int node, const Node *n, const Part *p, const PartList *all, const Range *r, Text *reduction, Err *e) {
    PlanGraph *pg = &l->plan->graphs[graph];
    KernelArg args[PLAN_MAX_ARGS];
    int n_args;
    Kernel *k = emit_kernel(&l->em, p, all, args, &n_args, e);
    if (!k) return false;
    identity_add(l->a, k, n, args, n_args);
    if (*k->reduction) text_add(reduction, "%s%s", reduction->n ? "; " : "", k->reduction);
    PlanLaunch *launch = &pg->launches[pg->n_launches++];
    *launch = (PlanLaunch){.kernel = kernel_of(l, k), .node = node, .n_args = n_args + 1};
    launch->grid = arena_array(l->a, (size_t)pg->n_buckets, sizeof *launch->grid);
    launch->lds = arena_array(l->a, (size_t)pg->n_buckets, sizeof *launch->lds);
    launch->args[0] = find_buf(l, "step");
    for (int i = 0; i < n_args; i++) {
        int *buf = &launch->args[i + 1];
        if (args[i].role != ARG_VALUE) {
            if (!asked_memory(l, k, args[i].role, graph, node, n, r, buf, e)) return false;
        } else *buf = args[i].packed ? find_buf(l, args[i].packed) : arg_buf(l, pg, graph, node, n, args[i].value);
    }
    return fill_grid(l, k, pg, launch, r, e);
}

/* What a node's recipes compute must not depend on how many tokens there are. */
static bool same_reduction(Lower *l, const Node *n, const char **first, Text *now, Err *e) {
    const char *text = now->at ? now->at : "";
    if (!*first) *first = arena_strdup(l->a, text);
    bool same = !strcmp(*first, text);
    if (!same) err_at(e, &n->loc, "%s: its recipes reduce differently (\"%s\", \"%s\"): results would depend on the batch", node_name(n), *first, text);
    text_free(now);
    return same;
}

static bool has_bucket(const PlanGraph *pg, const Range *r) {
    for (int b = 0; b < pg->n_buckets; b++)
        if (in_range(r, pg->buckets[b])) return true;
    return false;
}

/* The launches from `now` on do the same as those from `before` on, for other buckets: then they are one. */
static void merge(PlanGraph *pg, int before, int now) {
    int n = pg->n_launches - now;
    bool same = n == now - before;
    for (int i = 0; same && i < n; i++) {
        const PlanLaunch *a = &pg->launches[before + i], *b = &pg->launches[now + i];
        same = a->kernel == b->kernel && a->n_args == b->n_args && !memcmp(a->args, b->args, sizeof a->args);
    }
    for (int i = 0; same && i < n; i++)
        for (int b = 0; b < pg->n_buckets; b++)
            if (pg->launches[now + i].grid[b][0]) {
                memcpy(pg->launches[before + i].grid[b], pg->launches[now + i].grid[b], sizeof *pg->launches->grid);
                pg->launches[before + i].lds[b] = pg->launches[now + i].lds[b];
            }
    if (same) pg->n_launches = now;
}

static bool launch_node(Lower *l, int graph, int node, const Node *n, Err *e) {
    const Maker *m = l->em.m;
    PlanGraph *pg = &l->plan->graphs[graph];
    const char *reduction = NULL;
    int before = pg->n_launches, ranges = 0;
    l->n_handed = 0, l->workspace = -1;
    for (Range r = {0, 0, 0}; range_next(m, n, &r);) {
        PartList parts;
        Text now = {0};
        int first = pg->n_launches;
        if (!has_bucket(pg, &r)) continue;
        if (++ranges > MAX_RANGES) return err_at(e, &n->loc, "%s: its kernels cut the tokens of a step into more than %d ranges", node_name(n), MAX_RANGES);
        if (!parts_make(m, n, &r, &parts, e)) return false;
        for (size_t i = 0; i < parts.n; i++)
            if (!launch_part(l, graph, node, n, parts.at[i], &parts, &r, &now, e)) return text_free(&now), false;
        if (!same_reduction(l, n, &reduction, &now, e)) return false;
        merge(pg, before, first);
        before = pg->n_launches - (int)parts.n;
    }
    return true;
}

static void fill_buckets(PlanGraph *pg, int64_t max) {
    int64_t b = 1;
    while (b < max && pg->n_buckets < PLAN_MAX_BUCKETS - 1) {
        pg->buckets[pg->n_buckets++] = b;
        b = b < 64 ? b * 2 : b < 256 ? b + 64 : b + 256;
    }
    pg->buckets[pg->n_buckets++] = max;
}

/* Pairs are grouped only in the buckets where a kernel reads the result. */
static void trim_groups(PlanGraph *pg, const Graph *g) {
    for (int k = 0; k < pg->n_launches; k++) {
        PlanLaunch *l = &pg->launches[k];
        const Node *n = g->nodes.at[l->node];
        int perm = n->op == OP_group ? plan_value(pg, n->out[0]->name) : -1;
        for (int b = 0; perm >= 0 && b < pg->n_buckets; b++) {
            bool read = false;
            for (int i = 0; i < pg->n_launches; i++)
                for (int a = 0; i != k && a < pg->launches[i].n_args; a++) read |= pg->launches[i].args[a] == perm && pg->launches[i].grid[b][0];
            if (!read) memset(l->grid[b], 0, sizeof l->grid[b]);
        }
    }
}

static bool lower_graph(Lower *l, const Program *p, int index, Err *e) {
    const Graph *g = p->graphs.at[index];
    PlanGraph *pg = &l->plan->graphs[index];
    pg->name = g->name;
    pg->sym = strcmp(g->name, "step") ? SYM_S : SYM_T;
    fill_buckets(pg, !strcmp(g->name, "prepare") ? 1 : pg->sym == SYM_T ? l->plan->max_tokens : l->plan->max_batch);
    size_t values = g->inputs.n + g->params.n + g->states.n + g->nodes.n * MAX_OUT;
    pg->values = arena_array(l->a, values, sizeof *pg->values);
    pg->index = map_new(l->a);
    size_t ops = 0;
    for (size_t k = 0; k < g->nodes.n; k++) ops += owner_nodes(g->nodes.at[k]);
    pg->launches = arena_array(l->a, ops * MAX_RANGES, sizeof *pg->launches);
    if (!outer_values(l, g, pg, e) || !node_values(l, g, index, pg, e)) return false;
    for (size_t k = 0; k < g->nodes.n; k++)
        if (!is_in_place(g->nodes.at[k]) && !launch_node(l, index, (int)k, g->nodes.at[k], e)) return false;
    trim_groups(pg, g);
    return true;
}

/* --- KV groups --- */

enum { MAX_TABLES = 8 };

static bool add_kv(Lower *l, const char *blocks, int64_t window, int state, Err *e) {
    Plan *p = l->plan;
    int i = 0;
    while (i < p->n_kv && strcmp(p->kv[i].blocks, blocks)) i++;
    if (i == MAX_TABLES) return err_set(e, "more than %d block tables", MAX_TABLES);
    PlanKv *kv = &p->kv[i];
    if (i == p->n_kv) {
        p->n_kv++;
        *kv = (PlanKv){.blocks = blocks, .window = window, .states = arena_array(l->a, MODEL_MAX_LAYERS, sizeof(int))};
    }
    if (!window || (kv->window && window > kv->window))
        kv->window = window; /* the widest decides what may be released */
    for (int k = 0; k < kv->n_states; k++)
        if (kv->states[k] == state) return true; /* several read one cache */
    if (kv->n_states == MODEL_MAX_LAYERS) return err_set(e, "%s: more than %d caches are found through it", blocks, MODEL_MAX_LAYERS);
    kv->states[kv->n_states++] = state;
    return true;
}

static bool find_kv(Lower *l, const Graph *g, const PlanGraph *pg, Err *e) {
    for (size_t k = 0; k < g->nodes.n; k++) {
        const Node *n = g->nodes.at[k], *at = node_of_op(n, OP_attention);
        if (!at) continue;
        const Value *state = owner_outside(n, at->in[1]), *blocks = owner_outside(n, at->in[5]);
        if (!add_kv(l, blocks->name, node_int(at, "window"), plan_value(pg, state->name), e)) return false;
    }
    return true;
}

/* --- several devices --- */

typedef struct Uses Uses; /* of a buffer: by nodes that run on each device, by those of the first; as experts' w or b */
struct Uses {
    bool each, first, dealt;
};

static void note_use(Uses *u, int buf, bool each) {
    if (buf < 0) return;
    if (each) u[buf].each = true;
    else u[buf].first = true;
}

static bool note_node(const Plan *p, const PlanGraph *pg, const Node *n, bool each, Uses *u, Err *e) {
    if (each && node_of_op(n, OP_join))
        return err_at(e, &n->loc, "--ep: a rule has put what runs on each device and what joins it into one node, %s: leave one out with --no-fusion", node_name(n));
    for (int i = 0; i < n->n_in; i++) note_use(u, n->in[i] ? plan_value(pg, n->in[i]->name) : -1, each);
    for (size_t i = 0; each && i < owner_nodes(n); i++)
        for (int k = 1; k < 3 && owner_node(n, i)->op == OP_expert_linear; k++)
            u[plan_value(pg, owner_outside(n, owner_node(n, i)->in[k])->name)].dealt = true;
    for (int i = 0; i < n->n_out; i++) {
        note_use(u, plan_value(pg, n->out[i]->name), each);
        if (each && node_state_in(n, i) >= 0)
            return err_at(e, &n->loc, "--ep: %s writes state %s, which is on the first device, from each", node_name(n), p->bufs[plan_value(pg, n->out[i]->name)].name);
    }
    return true;
}

/* A weight that each device has repacked must be there, too. */
static void note_prepare(const Plan *p, Uses *u) {
    int g = plan_graph(p, "prepare");
    for (int k = 0; g >= 0 && k < p->graphs[g].n_launches; k++) {
        const PlanLaunch *l = &p->graphs[g].launches[k];
        bool each = false;
        for (int i = 1; i < l->n_args; i++) each |= l->args[i] >= 0 && p->bufs[l->args[i]].kind == BUF_PACKED && u[l->args[i]].each;
        for (int i = 0; i < l->n_args; i++) note_use(u, l->args[i], each);
    }
}

static bool find_uses(Lower *l, const Program *prog, Uses *u, Err *e) {
    const Plan *p = l->plan;
    for (int g = 0; g < p->n_graphs; g++) {
        const PlanGraph *pg = &p->graphs[g];
        const Graph *ir = prog->graphs.at[g];
        if (!strcmp(pg->name, "prepare")) continue;
        bool *each = arena_array(l->a, ir->nodes.n + 1, sizeof *each);
        graph_everywhere(ir, each);
        for (size_t k = 0; k < ir->nodes.n; k++)
            if (!note_node(p, pg, ir->nodes.at[k], each[k], u, e)) return false;
        for (int k = 0; k < pg->n_launches; k++)
            for (int i = 0; i < pg->launches[k].n_args; i++) note_use(u, pg->launches[k].args[i], each[pg->launches[k].node]);
    }
    return note_prepare(p, u), true;
}

/* What the executor gives each device, or what a device makes for itself. */
static bool each_has(const PlanBuf *b) {
    if (b->kind == BUF_INPUT) return !strcmp(b->name, "step") || !strcmp(b->name, "share");
    return b->kind == BUF_WEIGHT || b->kind == BUF_PACKED || b->kind == BUF_TEMP || !strcmp(b->name, PLAN_COUNTERS);
}

/* While devices run side by side, one may be at the first node and another at the last: what is common lives from end to end. */
static void widen(Lower *l, const Graph *g, PlanBuf *b) {
    bool *each = arena_array(l->a, g->nodes.n + 1, sizeof *each);
    graph_everywhere(g, each);
    while (each[b->first] && b->first && each[b->first - 1]) b->first--;
    while (each[b->last] && each[b->last + 1]) b->last++;
}

static bool hold_buf(const Plan *p, PlanBuf *b, const Uses *u, Err *e) {
    if (!u->each) return true;
    if (!each_has(b)) return err_set(e, "--ep: the experts' part reads or writes %s (%s), which is on the first device only", b->name, buf_kind_name(b->kind));
    b->hold = b->kind == BUF_TEMP && u->first ? HOLD_COMMON : HOLD_EACH;
    if (u->dealt) b->share = p->config.experts;
    return true;
}

/* Which device has what; all is on the first where there is one. */
static bool hold_bufs(Lower *l, const Program *prog, Err *e) {
    Uses *u = arena_array(l->a, l->bufs.n + 1, sizeof *u);
    if (l->plan->devices == 1) return true;
    if (!find_uses(l, prog, u, e)) return false;
    for (size_t i = 0; i < l->bufs.n; i++) {
        PlanBuf *b = &l->bufs.at[i];
        if (!hold_buf(l->plan, b, &u[i], e)) return false;
        if (b->hold == HOLD_COMMON) widen(l, prog->graphs.at[b->graph], b);
    }
    return true;
}

/* --- all --- */

static int find_graph_index(const Program *p, const char *name) {
    for (size_t i = 0; i < p->graphs.n; i++)
        if (!strcmp(p->graphs.at[i]->name, name)) return (int)i;
    return -1;
}

bool lower_plan(Program *p, const Maker *m, const Prelude *prelude, Plan *plan, Err *e) {
    Lower l = {.a = plan->arena, .em.m = m, .plan = plan, .named.arena = plan->arena, .outputs.arena = plan->arena};
    size_t nodes = 0;
    for (size_t i = 0; i < p->graphs.n; i++)
        for (size_t k = 0; k < p->graphs.at[i]->nodes.n; k++) nodes += owner_nodes(p->graphs.at[i]->nodes.at[k]);
    for (size_t i = 0; i < p->graphs.n; i++)
        for (size_t k = 0; k < p->graphs.at[i]->outputs.n; k++) map_put(&l.outputs, p->graphs.at[i]->outputs.at[k]->name, p->graphs.at[i]->outputs.at[k]);
    plan->program = p;
    plan->n_graphs = (int)p->graphs.n;
    plan->graphs = arena_array(l.a, p->graphs.n, sizeof *plan->graphs);
    plan->kernels = arena_array(l.a, nodes * MAX_RANGES, sizeof *plan->kernels);
    plan->modules = arena_array(l.a, nodes * MAX_RANGES, sizeof *plan->modules);
    plan->kv = arena_array(l.a, MAX_TABLES, sizeof *plan->kv);
    Value step = {.name = "step", .type = {DT_I32, 1, {dim_const(STEP_WORDS)}}};
    new_buf(&l, BUF_INPUT, &step);
    int prepare = find_graph_index(p, "prepare"); /* first: its results are the other graphs' weights */
    if (prepare >= 0 && !lower_graph(&l, p, prepare, e)) return false;
    for (size_t i = 0; i < p->graphs.n; i++)
        if (((int)i != prepare && !lower_graph(&l, p, (int)i, e)) || !find_kv(&l, p->graphs.at[i], &plan->graphs[i], e)) return false;
    plan->bufs = l.bufs.at;
    plan->n_bufs = (int)l.bufs.n;
    if (!hold_bufs(&l, p, e)) return false;
    place_scratch(&l);
    for (int i = 0; i < plan->n_modules; i++)
        plan->modules[i].source = emit_module(&l.em, plan->modules[i].name, prelude);
    return true;
}
