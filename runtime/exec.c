/* exec.c - buffers, weights, inputs, launches. See exec.h.
 * Add an input that the host provides: a row of `inputs`, and where it is written. */
#include "exec.h"

#include <math.h>
#include <stdlib.h>

enum { PIECE = 64 << 20 }; /* bytes of a weight that are staged at a time */

static bool is_pool(const PlanBuf *b) { return b->type.rank && b->type.dim[0].sym == SYM_P; }

/* --- buffers -------------------------------------------------------------------------------------------------------- */

static void *allocate(Exec *x, size_t size, const char *name, Err *e) {
    return x->dev->ops->alloc(x->dev, size, name, e);
}

static bool allocate_buf(Exec *x, int i, Err *e) {
    x->at[i] = allocate(x, x->plan->bufs[i].size, x->plan->bufs[i].name, e);
    return x->own[i] = x->at[i] != NULL;
}

static bool open_temp(Exec *x, int i, Err *e) {
    (void)e;
    x->at[i] = (char *)x->scratch + x->plan->bufs[i].offset;
    return true;
}

/* KV pools wait for exec_kv; any other state (last) begins as zeros. */
static bool open_state(Exec *x, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    return is_pool(b) || (allocate_buf(x, i, e) && x->dev->ops->fill(x->dev, 0, x->at[i], 0, b->size, e));
}

/* --- weights -------------------------------------------------------------------------------------------------------- */

static bool check_shape(const PlanBuf *b, const ModelTensor *t, const char *path, Err *e) {
    bool same = t->rank == b->type.rank;
    for (int i = 0; same && i < t->rank; i++) same = t->shape[i] == b->type.dim[i].add;
    if (same) return true;
    Text want = {0}, have = {0};
    for (int i = 0; i < b->type.rank; i++) text_add(&want, "%s%lld", i ? "," : "", (long long)b->type.dim[i].add);
    for (int i = 0; i < t->rank; i++) text_add(&have, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    err_set(e, "%s: tensor %s is [%s], the plan expects [%s]: the plan was compiled for another model", path, b->name,
            have.at ? have.at : "", want.at ? want.at : "");
    text_free(&want);
    text_free(&have);
    return false;
}

/* One piece: rows [row, row+n) of the outermost dimension. MXFP4: blocks and scales of a piece go to two places. */
static bool upload_rows(Exec *x, const Model *m, int i, int64_t row, int64_t n, size_t row_elements, void *stage,
                        Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    const DeviceOps *ops = x->dev->ops;
    size_t bytes, row_bytes, rows = (size_t)b->type.dim[0].add;
    char *at = x->at[i];
    if (!dtype_bytes(b->type.dtype, row_elements, &row_bytes)) die("exec: a row of %s has no size", b->name);
    bytes = row_bytes * (size_t)n;
    if (!model_read(m, b->name, b->type.dtype, b->may_round, row, n, stage, bytes, e)) return false;
    if (b->type.dtype != DT_MXFP4)
        return ops->upload(x->dev, 0, at + row_bytes * (size_t)row, stage, bytes, e) && ops->sync(x->dev, 0, e);
    size_t blocks = row_elements / 2, scales = row_elements / 32;
    return ops->upload(x->dev, 0, at + blocks * (size_t)row, stage, blocks * (size_t)n, e) &&
           ops->upload(x->dev, 0, at + blocks * rows + scales * (size_t)row, (char *)stage + blocks * (size_t)n,
                       scales * (size_t)n, e) &&
           ops->sync(x->dev, 0, e);
}

static void show_loading(const Exec *x, size_t done) {
    size_t total = 0;
    if (!x->loading) return;
    for (int i = 0; i < x->plan->n_bufs; i++)
        if (x->plan->bufs[i].kind == BUF_WEIGHT) total += type_bytes(&x->plan->bufs[i].type, &x->sizes);
    x->loading->show(x->loading->ctx, done, total);
}

static bool upload_weight(Exec *x, const Model *m, int i, Err *e) {
    const Type *t = &x->plan->bufs[i].type;
    int64_t rows = t->dim[0].add;
    size_t elements = 1, row_bytes;
    for (int d = 1; d < t->rank; d++) elements *= (size_t)t->dim[d].add;
    if (!dtype_bytes(t->dtype, elements, &row_bytes))
        return err_set(e, "%s: rows of %zu elements", x->plan->bufs[i].name, elements);
    int64_t at_once = row_bytes < PIECE ? PIECE / (int64_t)(row_bytes ? row_bytes : 1) : 1;
    if (at_once > rows) at_once = rows;
    void *stage = malloc(row_bytes * (size_t)at_once + 1);
    bool ok = stage || err_set(e, "out of memory for %s", x->plan->bufs[i].name);
    for (int64_t row = 0; ok && row < rows; row += at_once) {
        show_loading(x, x->weight_bytes - row_bytes * (size_t)(rows - row)); /* weight_bytes: this one's too */
        ok = upload_rows(x, m, i, row, rows - row < at_once ? rows - row : at_once, elements, stage, e);
    }
    free(stage);
    return ok;
}

/* Where the file holds the bytes as the plan wants them and the device can use host memory, nothing is copied. */
static bool open_weight(Exec *x, const Model *m, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    ModelTensor t;
    size_t size = 0, want = type_bytes(&b->type, &x->sizes);
    if (!b->type.rank) return err_set(e, "weight %s has no dimension", b->name);
    if (!model_tensor(m, b->name, &t, e)) return err_wrap(e, "weight %s", b->name);
    if (!check_shape(b, &t, model_layout(m), e)) return false;
    x->weight_bytes += want;
    const void *mapped = x->dev->ops->adopt ? model_map(m, b->name, b->type.dtype, &size) : NULL;
    if (mapped && size == want) x->at[i] = x->dev->ops->adopt(x->dev, mapped, size, b->name);
    if (x->at[i]) return x->own[i] = true;
    return allocate_buf(x, i, e) && upload_weight(x, m, i, e);
}

/* --- inputs --------------------------------------------------------------------------------------------------------- */

static bool vector_of(const PlanBuf *b, Sym sym) {
    return b->type.dtype == DT_I32 && b->type.rank == 1 && dim_eq(b->type.dim[0], dim_sym(sym));
}

static bool open_step(Exec *x, int i, Err *e) {
    return x->plan->bufs[i].size >= 4 * STEP_WORDS ||
           err_set(e, "plan: input step has %zu bytes", x->plan->bufs[i].size);
}

static bool open_per_token(Exec *x, int i, Err *e) {
    return vector_of(&x->plan->bufs[i], SYM_T) || err_set(e, "plan: input %s is not i32[T]", x->plan->bufs[i].name);
}

static bool open_per_row(Exec *x, int i, Err *e) {
    return vector_of(&x->plan->bufs[i], SYM_S) || err_set(e, "plan: input %s is not i32[S]", x->plan->bufs[i].name);
}

static bool open_sampling(Exec *x, int i, Err *e) {
    const Type *t = &x->plan->bufs[i].type;
    bool fits = t->dtype == DT_I32 && t->rank == 2 && dim_eq(t->dim[0], dim_sym(SYM_S)) &&
                dim_eq(t->dim[1], dim_const(SAMPLING_WORDS));
    return fits || err_set(e, "plan: input sampling is not i32[S,%d]", SAMPLING_WORDS);
}

static bool open_rope(Exec *x, int i, Err *e) {
    const Plan *p = x->plan;
    const Type *t = &p->bufs[i].type;
    if (t->dtype != DT_F32 || t->rank != 3 || t->dim[0].add < p->max_seq || t->dim[1].add != p->config.head_dim / 2 ||
        t->dim[2].add != 2)
        return err_set(e, "plan: input rope is %s, not f32[positions,%lld,2] of at least %lld positions",
                       type_str(p->arena, t), (long long)p->config.head_dim / 2, (long long)p->max_seq);
    size_t n = type_bytes(t, &x->sizes);
    float *table = malloc(n);
    if (!table) return err_set(e, "out of memory for the rope table");
    model_rope_table(&p->config, t->dim[0].add, table);
    bool ok = x->dev->ops->upload(x->dev, 0, x->at[i], table, n, e) && x->dev->ops->sync(x->dev, 0, e);
    free(table);
    return ok;
}

static bool open_blocks(Exec *x, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    for (int k = 0; k < x->plan->n_kv; k++)
        if (!strcmp(x->plan->kv[k].blocks, b->name)) return x->dev->ops->fill(x->dev, 0, x->at[i], 0xff, b->size, e);
    return err_set(e, "plan: input %s is no KV group's block table", b->name);
}

static const struct {
    const char *name; /* ends in '.': a prefix */
    bool (*open)(Exec *x, int i, Err *e);
} inputs[] = {
    {"step", open_step},      {"src", open_per_token}, {"slot", open_per_token},
    {"pos", open_per_token},  {"rows", open_per_row},  {"sample_slot", open_per_row},
    {"blocks.", open_blocks}, {"rope", open_rope},     {"sampling", open_sampling},
};

static bool open_input(Exec *x, int i, Err *e) {
    const char *name = x->plan->bufs[i].name;
    for (size_t k = 0; k < LEN(inputs); k++) {
        size_t n = strlen(inputs[k].name);
        bool prefix = inputs[k].name[n - 1] == '.';
        if (prefix ? !strncmp(name, inputs[k].name, n) : !strcmp(name, inputs[k].name))
            return allocate_buf(x, i, e) && inputs[k].open(x, i, e);
    }
    return err_set(
        e,
        "the plan wants an input \"%s\", which this program does not know: graph inputs are src, slot, pos, rows, "
        "sample_slot, sampling, blocks.*, rope",
        name);
}

/* --- open and close --------------------------------------------------------------------------------------------------- */

static bool open_bufs(Exec *x, const Model *m, Err *e) {
    const Plan *p = x->plan;
    if (p->scratch && !(x->scratch = allocate(x, p->scratch, "scratch", e))) return false;
    for (int i = 0; i < p->n_bufs; i++) {
        bool ok = false;
        switch (p->bufs[i].kind) {
        case BUF_WEIGHT: ok = open_weight(x, m, i, e); break;
        case BUF_STATE: ok = open_state(x, i, e); break;
        case BUF_INPUT: ok = open_input(x, i, e); break;
        case BUF_LINK: ok = allocate_buf(x, i, e); break;
        case BUF_TEMP: ok = open_temp(x, i, e); break;
        case BUF_KINDS: break;
        }
        if (!ok) return false;
    }
    return true;
}

static bool open_kernels(Exec *x, Err *e) {
    const Plan *p = x->plan;
    const DeviceOps *ops = x->dev->ops;
    if (ops->run_node) return true;
    if (!p->n_kernels) return err_set(e, "the plan has no kernels: only --device ref runs it");
    for (int i = 0; i < p->n_modules; i++) {
        if (!p->modules[i].code)
            return err_set(e, "the plan carries no code for %s, only source: recompile where the target's compiler is",
                           p->modules[i].name);
        if (!(x->modules[i] = ops->module_load(x->dev, &p->modules[i], e))) return false;
    }
    for (int i = 0; i < p->n_kernels; i++)
        if (!(x->kernels[i] = ops->kernel(x->dev, x->modules[p->kernels[i].module], p->kernels[i].symbol, e)))
            return false;
    return true;
}

static int *resolve(const PlanGraph *g, const Graph *ir, bool outputs) {
    int per = outputs ? MAX_OUT : MAX_IN, *bufs = calloc(ir->nodes.n + 1, (size_t)per * sizeof *bufs);
    if (!bufs) die("exec: out of memory");
    for (size_t n = 0; n < ir->nodes.n; n++) {
        const Node *node = ir->nodes.at[n];
        Value *const *v = outputs ? node->out : node->in;
        for (int i = 0; i < (outputs ? node->n_out : node->n_in); i++)
            bufs[n * (size_t)per + (size_t)i] = v[i] ? plan_value(g, v[i]->name) : -1;
    }
    return bufs;
}

static void *zeros(size_t n, size_t size) {
    void *p = calloc(n + 1, size);
    if (!p) die("exec: out of memory");
    return p;
}

static Exec *make(const Plan *p, Device *d) {
    Exec *x = zeros(1, sizeof *x);
    size_t bufs = (size_t)p->n_bufs, graphs = (size_t)p->n_graphs;
    *x = (Exec){.plan = p, .dev = d};
    x->at = zeros(bufs, sizeof *x->at), x->own = zeros(bufs, sizeof *x->own), x->group = zeros(bufs, sizeof *x->group);
    x->sampling = zeros((size_t)p->max_batch * SAMPLING_WORDS, sizeof *x->sampling);
    x->pages = zeros((size_t)p->n_kv, sizeof *x->pages);
    x->modules = zeros((size_t)p->n_modules, sizeof *x->modules),
    x->kernels = zeros((size_t)p->n_kernels, sizeof *x->kernels);
    x->captured = zeros(graphs, sizeof *x->captured);
    x->ir = zeros(graphs, sizeof *x->ir), x->in = zeros(graphs, sizeof *x->in), x->out = zeros(graphs, sizeof *x->out);
    for (int i = 0; i < p->n_bufs; i++) x->group[i] = -1;
    for (int k = 0; k < p->n_kv; k++)
        for (int i = 0; i < p->kv[k].n_states; i++) x->group[p->kv[k].states[i]] = k;
    for (int g = 0; g < p->n_graphs; g++) {
        x->ir[g] = program_graph(p->program, p->graphs[g].name);
        x->in[g] = resolve(&p->graphs[g], x->ir[g], false);
        x->out[g] = resolve(&p->graphs[g], x->ir[g], true);
    }
    return x;
}

Exec *exec_open(const Plan *p, const Model *m, Device *d, Err *e) { return exec_open_shown(p, m, d, NULL, e); }

Exec *exec_open_shown(const Plan *p, const Model *m, Device *d, const ExecLoading *loading, Err *e) {
    Exec *x = make(p, d);
    x->loading = loading;
    bool ok = open_kernels(x, e) && open_bufs(x, m, e);
    x->loading = NULL;
    if (ok) return x;
    exec_close(x);
    return NULL;
}

void exec_close(Exec *x) {
    if (!x) return;
    const Plan *p = x->plan;
    const DeviceOps *ops = x->dev->ops;
    for (int g = 0; g < p->n_graphs; g++) {
        for (int b = 0; b < PLAN_MAX_BUCKETS; b++)
            if (x->captured[g][b]) ops->graph_free(x->dev, x->captured[g][b]);
        free(x->in[g]), free(x->out[g]);
    }
    for (int i = 0; i < p->n_bufs; i++)
        if (x->own[i]) ops->free(x->dev, x->at[i]);
    if (x->scratch) ops->free(x->dev, x->scratch);
    for (int i = 0; i < p->n_modules; i++)
        if (x->modules[i]) ops->module_unload(x->dev, x->modules[i]);
    free(x->at), free(x->own), free(x->group), free(x->pages), free(x->sampling), free(x->modules), free(x->kernels);
    free(x->captured), free(x->ir), free(x->in), free(x->out);
    free(x);
}

/* --- KV ------------------------------------------------------------------------------------------------------------- */

size_t exec_page_bytes(const Plan *p, int kv) {
    size_t sum = 0;
    for (int i = 0; i < p->kv[kv].n_states; i++) sum += p->bufs[p->kv[kv].states[i]].size;
    return sum;
}

bool exec_kv(Exec *x, const int64_t *pages, Err *e) {
    for (int k = 0; k < x->plan->n_kv; k++) {
        const PlanKv *kv = &x->plan->kv[k];
        x->pages[k] = pages[k];
        for (int i = 0; i < kv->n_states; i++) {
            int s = kv->states[i];
            size_t size;
            if (!size_mul(x->plan->bufs[s].size, (size_t)pages[k], &size))
                return err_set(e, "%lld KV pages overflow", (long long)pages[k]);
            if (!(x->at[s] = allocate(x, size, x->plan->bufs[s].name, e)))
                return err_wrap(e, "kv cache (try --kv-memory, -b or -n)");
            x->own[s] = true;
        }
    }
    return true;
}

void exec_page(Exec *x, int kv, int64_t page) {
    const PlanKv *k = &x->plan->kv[kv];
    for (int i = 0; x->dev->ops->forget && i < k->n_states; i++) {
        size_t size = x->plan->bufs[k->states[i]].size;
        x->dev->ops->forget(x->dev, (char *)x->at[k->states[i]] + (size_t)page * size, size);
    }
}

bool exec_blocks(Exec *x, int kv, int slot, const int32_t *row, Err *e) {
    int buf = plan_buf(x->plan, x->plan->kv[kv].blocks);
    size_t n = (size_t)x->plan->max_blocks * sizeof *row;
    return x->dev->ops->upload(x->dev, 0, (char *)x->at[buf] + (size_t)slot * n, row, n, e);
}

/* --- running -------------------------------------------------------------------------------------------------------- */

/* What the last step left in an input beyond this one's part must not be read. */
static bool write_input(Exec *x, const char *name, const int32_t *v, int64_t n, Err *e) {
    int buf = plan_buf(x->plan, name);
    if (buf < 0) return true; /* no graph reads it */
    if (x->dev->ops->forget) x->dev->ops->forget(x->dev, x->at[buf], x->plan->bufs[buf].size);
    return x->dev->ops->upload(x->dev, 0, x->at[buf], v, (size_t)n * sizeof *v, e);
}

static bool write_sizes(Exec *x, Err *e) {
    const int32_t step[STEP_WORDS] = {(int32_t)x->sizes.of[SYM_T], (int32_t)x->sizes.of[SYM_S]};
    return write_input(x, "step", step, STEP_WORDS, e);
}

bool exec_tokens(Exec *x, const int32_t *src, const int32_t *slot, const int32_t *pos, int64_t n, Err *e) {
    x->sizes.of[SYM_T] = n;
    x->sizes.of[SYM_S] = 0;
    return write_sizes(x, e) && write_input(x, "src", src, n, e) && write_input(x, "slot", slot, n, e) &&
           write_input(x, "pos", pos, n, e);
}

bool exec_sampling(Exec *x, const Sampling *each, int64_t n, Err *e) {
    const Sampling greedy = {.top_p = 1};
    for (int64_t i = 0; i < n; i++) sampling_write(each ? &each[i] : &greedy, x->sampling + i * SAMPLING_WORDS);
    return write_input(x, "sampling", x->sampling, n * SAMPLING_WORDS, e);
}

bool exec_rows(Exec *x, const int32_t *rows, const int32_t *slots, int64_t n, Err *e) {
    x->sizes.of[SYM_S] = n;
    return write_sizes(x, e) && write_input(x, "rows", rows, n, e) &&
           (!slots || (write_input(x, "sample_slot", slots, n, e) && exec_sampling(x, NULL, n, e)));
}

int64_t exec_max(const Plan *p, int graph) { return p->graphs[graph].buckets[p->graphs[graph].n_buckets - 1]; }

static int bucket_of(const Exec *x, int graph) {
    const PlanGraph *g = &x->plan->graphs[graph];
    int b = 0;
    while (b < g->n_buckets && g->buckets[b] < x->sizes.of[g->sym]) b++;
    if (b == g->n_buckets)
        die("exec: %s with %lld rows, its largest bucket is smaller", g->name, (long long)x->sizes.of[g->sym]);
    return b;
}

static void forget_buf(Exec *x, int buf) { x->dev->ops->forget(x->dev, x->at[buf], x->plan->bufs[buf].size); }

static bool reads(const Exec *x, int graph, int buf) {
    for (size_t i = 0; i < x->ir[graph]->inputs.n; i++)
        if (plan_value(&x->plan->graphs[graph], x->ir[graph]->inputs.at[i]->name) == buf) return true;
    return false;
}

void exec_begin(Exec *x, int graph) {
    const Graph *ir = x->ir[graph];
    for (size_t i = 0; x->dev->ops->forget && i < ir->outputs.n; i++) {
        int buf = plan_value(&x->plan->graphs[graph], ir->outputs.at[i]->name);
        if (buf >= 0 && x->plan->bufs[buf].kind == BUF_LINK && !reads(x, graph, buf)) forget_buf(x, buf);
    }
}

/* The node's temporaries begin to live. */
static void begin_node(Exec *x, int graph, int node) {
    const Plan *p = x->plan;
    for (int i = 0; x->dev->ops->forget && i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP && p->bufs[i].graph == graph && p->bufs[i].first == node) forget_buf(x, i);
}

/* Says which buffers the failed launch had, where: an emulator's message has addresses. */
static bool launch_failed(const Exec *x, const PlanLaunch *l, const char *node, Err *e) {
    Text t = {0};
    for (int i = 0; i < l->n_args; i++)
        if (l->args[i] >= 0)
            text_add(&t, "\n  arg %d %s %p, %zu bytes", i, x->plan->bufs[l->args[i]].name, x->at[l->args[i]],
                     x->plan->bufs[l->args[i]].size);
    err_wrap(e, "node %s, kernel %s", node, x->plan->kernels[l->kernel].symbol);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof e->msg - n, "%s", t.at ? t.at : "");
    text_free(&t);
    return false;
}

static bool launch(Exec *x, int graph, const PlanLaunch *l, int bucket, Err *e) {
    const uint32_t *grid = l->grid[bucket];
    void *args[PLAN_MAX_ARGS];
    const PlanKernel *k = &x->plan->kernels[l->kernel];
    if (!grid[0] || !grid[1] || !grid[2]) return true;
    for (int i = 0; i < l->n_args; i++) args[i] = l->args[i] < 0 ? NULL : x->at[l->args[i]];
    return x->dev->ops->launch(x->dev, 0, x->kernels[l->kernel], grid, k->block, k->lds, args, l->n_args, e) ||
           launch_failed(x, l, node_name(x->ir[graph]->nodes.at[l->node]), e);
}

/* P differs from group to group: it is that of the state which the node reads. */
static bool interpret(Exec *x, int graph, int node, Err *e) {
    const Node *n = x->ir[graph]->nodes.at[node];
    const int *bi = x->in[graph] + node * MAX_IN, *bo = x->out[graph] + node * MAX_OUT;
    void *in[MAX_IN] = {0}, *out[MAX_OUT] = {0};
    x->sizes.of[SYM_P] = 0;
    for (int i = 0; i < n->n_in; i++) {
        if (bi[i] < 0) continue;
        in[i] = x->at[bi[i]];
        if (x->group[bi[i]] >= 0) x->sizes.of[SYM_P] = x->pages[x->group[bi[i]]];
    }
    for (int i = 0; i < n->n_out; i++) out[i] = x->at[bo[i]];
    return x->dev->ops->run_node(x->dev, n, in, out, &x->sizes, e);
}

static bool launch_node(Exec *x, int graph, int node, Err *e) {
    const PlanGraph *g = &x->plan->graphs[graph];
    int bucket = bucket_of(x, graph), lo = 0, hi = g->n_launches;
    while (lo < hi) { /* launches are in the order of their nodes */
        int mid = (lo + hi) / 2;
        if (g->launches[mid].node < node) lo = mid + 1;
        else hi = mid;
    }
    for (; lo < g->n_launches && g->launches[lo].node == node; lo++)
        if (!launch(x, graph, &g->launches[lo], bucket, e)) return false;
    return true;
}

bool exec_node(Exec *x, int graph, int node, Err *e) {
    begin_node(x, graph, node);
    return x->dev->ops->run_node ? interpret(x, graph, node, e) : launch_node(x, graph, node, e);
}

static bool run_nodes(Exec *x, int graph, Err *e) {
    exec_begin(x, graph);
    for (size_t n = 0; n < x->ir[graph]->nodes.n; n++)
        if (!exec_node(x, graph, (int)n, e)) return false;
    return true;
}

static bool run_captured(Exec *x, int graph, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    void **at = &x->captured[graph][bucket_of(x, graph)];
    if (!*at) {
        if (!ops->capture_begin(x->dev, 0, e) || !run_nodes(x, graph, e)) return false;
        if (!(*at = ops->capture_end(x->dev, 0, e))) return false;
    }
    return ops->replay(x->dev, 0, *at, e);
}

bool exec_graph(Exec *x, int graph, Err *e) {
    return x->dev->ops->capture_begin ? run_captured(x, graph, e) : run_nodes(x, graph, e);
}

/* The node that samples, -1 when none does by itself. */
static int sampling_node(const Exec *x, int graph) {
    const Graph *ir = x->ir[graph];
    for (size_t n = 0; n < ir->nodes.n; n++)
        if (ir->nodes.at[n]->op == OP_sample) return (int)n;
    return -1;
}

static bool exclude(Exec *x, int graph, int node, const int32_t *ids, size_t n, Err *e) {
    static const float never = -INFINITY;
    const Type *t = &x->ir[graph]->nodes.at[node]->in[0]->type;
    char *logits = x->at[x->in[graph][node * MAX_IN]];
    for (int64_t row = 0; row < x->sizes.of[SYM_S]; row++)
        for (size_t i = 0; i < n; i++)
            if (!x->dev->ops->upload(x->dev, 0, logits + sizeof never * (size_t)(row * t->dim[1].add + ids[i]), &never, sizeof never, e))
                return false;
    return true;
}

/* Node by node, for what is written between two of them; so the device draws as ever, and who excludes nothing pays nothing. */
bool exec_graph_without(Exec *x, int graph, const int32_t *ids, size_t n, Err *e) {
    int sample = n ? sampling_node(x, graph) : -1;
    if (!n) return exec_graph(x, graph, e);
    if (sample < 0)
        return err_set(e, "a fusion took up op sample, so that no token can be suppressed: recompile with --no-fusion for it");
    exec_begin(x, graph);
    for (int i = 0; i < (int)x->ir[graph]->nodes.n; i++)
        if ((i == sample && !exclude(x, graph, i, ids, n, e)) || !exec_node(x, graph, i, e)) return false;
    return true;
}

bool exec_read(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    return (ops->download(x->dev, 0, dst, (char *)x->at[buf] + at, n, e) && ops->sync(x->dev, 0, e)) ||
           err_wrap(e, "reading %s", x->plan->bufs[buf].name);
}

bool exec_write(Exec *x, int buf, size_t at, const void *src, size_t n, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    return (ops->upload(x->dev, 0, (char *)x->at[buf] + at, src, n, e) && ops->sync(x->dev, 0, e)) ||
           err_wrap(e, "writing %s", x->plan->bufs[buf].name);
}

/* --- looking for NaN -------------------------------------------------------------------------------------------------- */

static bool all_finite(DType d, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float f = d == DT_BF16 ? f32_of_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
        if (!isfinite(f)) return false;
    }
    return true;
}

static const char *scan_node(Exec *x, int graph, int node, Err *e) {
    const Node *n = x->ir[graph]->nodes.at[node];
    for (int i = 0; i < n->n_out; i++) {
        const Type *t = &n->out[i]->type;
        int buf = x->out[graph][node * MAX_OUT + i];
        if ((t->dtype != DT_F32 && t->dtype != DT_BF16) || x->plan->bufs[buf].kind == BUF_STATE) continue;
        size_t size = type_bytes(t, &x->sizes);
        void *data = malloc(size + 1);
        bool bad = data && exec_read(x, buf, 0, data, size, e) &&
                   !all_finite(t->dtype, data, (size_t)type_count(t, &x->sizes));
        free(data);
        if (bad) return n->out[i]->name;
    }
    return NULL;
}

const char *exec_nonfinite(Exec *x, int graph, Err *e) {
    exec_begin(x, graph);
    for (size_t n = 0; n < x->ir[graph]->nodes.n; n++) {
        const char *name = exec_node(x, graph, (int)n, e) ? scan_node(x, graph, (int)n, e) : NULL;
        if (name) return name;
    }
    return NULL;
}
