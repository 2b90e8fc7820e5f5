/* exec.c - buffers, weights, inputs, launches. See exec.h.
 * Add an input that the host provides: a row in plan/interface.c, one of `inputs`, and where it is written.
 *
 * Inputs of a step lie behind one another on the device, so one copy brings them; it takes along the bytes between those
 * that changed where they are few. (A copy costs 2 µs, 64 KB more of it 1 to 3; a launch waits for all.) */
#include "exec.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    PIECE = 64 << 20, /* bytes of a weight that are staged at a time */
    NEAR = 64 << 10,  /* bytes between two changes that one copy spans */
    INPUT_ALIGN = 256
};

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
    const PlanBuf *b = &x->plan->bufs[i];
    (void)e;
    x->at[i] = (char *)x->arena[b->hold] + b->offset;
    return true;
}

static bool open_arenas(Exec *x, Err *e) {
    static const char *const names[BUF_HOLDS] = {"scratch", "scratch of each device", "scratch of all devices"};
    const size_t *size = x->plan->arena_of;
    for (int i = 0; i < BUF_HOLDS; i++) {
        if (!size[i] || (x->rank && i == HOLD_FIRST)) continue;
        x->arena[i] = i != HOLD_COMMON ? allocate(x, size[i], names[i], e)
                      : x->rank        ? x->first->arena[i]
                                       : x->dev->ops->alloc_common(x->dev, x->others, x->n_other, size[i], names[i], &x->through, e);
        if (!x->arena[i]) return false;
    }
    return true;
}

static void close_arenas(Exec *x) {
    for (int i = 0; i < BUF_HOLDS; i++)
        if (!x->arena[i] || (x->rank && i == HOLD_COMMON)) continue;
        else if (i == HOLD_COMMON) x->dev->ops->free_common(x->dev, x->others, x->n_other, x->arena[i]);
        else x->dev->ops->free(x->dev, x->arena[i]);
}

/* KV pools wait for exec_kv; any other state (last) begins as zeros. */
static bool open_state(Exec *x, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    return is_pool(b) || (allocate_buf(x, i, e) && x->dev->ops->fill(x->dev, 0, x->at[i], 0, b->size, e));
}

/* GPUs of a group load at once. Devices that are the host's own threads would gain nothing. */
static bool load_at_once(const Exec *x) { return x->dev->ops->event != NULL; }

/* --- weights -------------------------------------------------------------------------------------------------------- */

/* Of the weight in the file. */
static int64_t file_dim(const PlanBuf *b, int i) { return !i && b->share ? b->share : b->type.dim[i].add; }

static bool check_shape(const PlanBuf *b, const ModelTensor *t, const char *path, Err *e) {
    bool same = t->rank == b->type.rank;
    for (int i = 0; same && i < t->rank; i++) same = t->shape[i] == file_dim(b, i);
    if (same) return true;
    Text want = {0}, have = {0};
    for (int i = 0; i < b->type.rank; i++) text_add(&want, "%s%lld", i ? "," : "", (long long)file_dim(b, i));
    for (int i = 0; i < t->rank; i++) text_add(&have, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    err_set(e, "%s: tensor %s is [%s], the plan expects [%s]: the plan was compiled for another model", path, b->name,
            have.at ? have.at : "", want.at ? want.at : "");
    text_free(&want);
    text_free(&have);
    return false;
}

/* The rows of the outermost dimension, in the file, that this device has. */
static int64_t first_row(const Exec *x, const PlanBuf *b, int64_t *n) {
    *n = b->type.dim[0].add;
    return b->share ? plan_share(x->plan, b->share, x->rank, n) : 0;
}

/* One piece: rows [row, row+n) of the file's, which begin at `first` here. MXFP4: blocks and scales of a piece go to two places. */
static bool upload_rows(Exec *x, const Model *m, int i, int64_t first, int64_t row, int64_t n, size_t row_elements, void *stage,
                        Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    const DeviceOps *ops = x->dev->ops;
    size_t bytes, row_bytes, rows = (size_t)b->type.dim[0].add;
    char *at = x->at[i];
    if (!dtype_bytes(b->type.dtype, row_elements, &row_bytes)) die("exec: a row of %s has no size", b->name);
    bytes = row_bytes * (size_t)n;
    if (!model_read(m, b->name, b->type.dtype, b->may_round, row, n, stage, bytes, e)) return false;
    row -= first;
    if (b->type.dtype != DT_MXFP4)
        return ops->upload(x->dev, 0, at + row_bytes * (size_t)row, stage, bytes, e) && ops->sync(x->dev, 0, e);
    size_t blocks = row_elements / 2, scales = row_elements / 32;
    return ops->upload(x->dev, 0, at + blocks * (size_t)row, stage, blocks * (size_t)n, e) &&
           ops->upload(x->dev, 0, at + blocks * rows + scales * (size_t)row, (char *)stage + blocks * (size_t)n,
                       scales * (size_t)n, e) &&
           ops->sync(x->dev, 0, e);
}

/* Of the weights of devices first … end - 1. */
static size_t weights_of(const Exec *x, int first, int end) {
    size_t sum = 0;
    for (int d = first; d < end; d++)
        for (int i = 0; i < x->plan->n_bufs; i++) {
            const PlanBuf *b = &x->plan->bufs[i];
            if (b->kind == BUF_WEIGHT && plan_holds(b, d)) sum += type_bytes(&b->type, &x->sizes);
        }
    return sum;
}

/* Devices that load at once have about as much each: the first tells of its own. */
static void show_loading(const Exec *x, size_t done) {
    const bool at_once = x->n_other && load_at_once(x);
    if (!x->loading) return;
    if (at_once) x->loading->show(x->loading->ctx, done, weights_of(x, 0, 1));
    else x->loading->show(x->loading->ctx, weights_of(x, 0, x->rank) + done, weights_of(x, 0, (int)x->plan->devices));
}

static bool upload_weight(Exec *x, const Model *m, int i, Err *e) {
    const Type *t = &x->plan->bufs[i].type;
    int64_t rows, first = first_row(x, &x->plan->bufs[i], &rows);
    size_t elements = 1, row_bytes;
    for (int d = 1; d < t->rank; d++) elements *= (size_t)t->dim[d].add;
    if (!dtype_bytes(t->dtype, elements, &row_bytes))
        return err_set(e, "%s: rows of %zu elements", x->plan->bufs[i].name, elements);
    int64_t at_once = row_bytes < PIECE ? PIECE / (int64_t)(row_bytes ? row_bytes : 1) : 1;
    if (at_once > rows) at_once = rows;
    void *stage = malloc(row_bytes * (size_t)at_once + 1);
    bool ok = stage || err_set(e, "out of memory: %zu bytes for %s", row_bytes * (size_t)at_once, x->plan->bufs[i].name);
    if (ok && rows < t->dim[0].add) /* room for a share that is one larger: prepare reads it */
        ok = x->dev->ops->fill(x->dev, 0, x->at[i], 0, type_bytes(t, &x->sizes), e);
    for (int64_t row = 0; ok && row < rows; row += at_once) {
        show_loading(x, x->weight_bytes - row_bytes * (size_t)(rows - row)); /* weight_bytes: this one's too */
        ok = upload_rows(x, m, i, first, first + row, rows - row < at_once ? rows - row : at_once, elements, stage, e);
    }
    free(stage);
    return ok;
}

/* Where the file holds the bytes as the plan wants them and the device can use host memory, nothing is copied. */
static bool open_weight(Exec *x, const Model *m, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    ModelTensor t;
    size_t size = 0, want = type_bytes(&b->type, &x->sizes);
    if (!model_tensor(m, b->name, &t, e)) return err_wrap(e, "weight %s", b->name);
    if (!check_shape(b, &t, model_layout(m), e)) return false;
    x->weight_bytes += want;
    const void *mapped = x->dev->ops->adopt && !b->share ? model_map(m, b->name, b->type.dtype, &size) : NULL;
    if (mapped && size == want) x->at[i] = x->dev->ops->adopt(x->dev, mapped, size, b->name);
    if (x->at[i]) return x->own[i] = true;
    return allocate_buf(x, i, e) && upload_weight(x, m, i, e);
}

/* As the other device has it, be it nothing: a weight that no step reads has gone. */
static bool copy_buf(Exec *x, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    size_t n = type_bytes(&b->type, &x->sizes);
    if (!x->from->at[i]) return true;
    if (!x->at[i] && !allocate_buf(x, i, e)) return false;
    return x->dev->ops->copy_from(x->dev, 0, x->at[i], x->from->dev, x->from->at[i], n, e) || err_wrap(e, "%s", b->name);
}

static bool copy_weight(Exec *x, int i, Err *e) {
    x->weight_bytes += type_bytes(&x->plan->bufs[i].type, &x->sizes);
    return copy_buf(x, i, e);
}

/* --- weights in other layouts: graph "prepare" ------------------------------------------------------------------------ */

/* Another device has not every layout of a weight. */
static bool has_all(const Exec *x, const PlanLaunch *l) {
    for (int i = 1; i < l->n_args; i++)
        if (l->args[i] >= 0 && !x->at[l->args[i]]) return false;
    return true;
}

/* Repacks weight i, which is there, into whatever layouts kernels want; then the weight itself goes unless one of them reads it. */
static bool prepare_weight(Exec *x, int i, Err *e) {
    int g = x->dev->ops->run_node ? -1 : plan_graph(x->plan, "prepare");
    for (int k = g < 0 ? -1 : x->repack[i]; k >= 0; k = x->repack_next[k]) {
        const PlanLaunch *l = &x->plan->graphs[g].launches[k];
        if (has_all(x, l) && !exec_launch(x, g, l, l->args, e))
            return err_wrap(e, "preparing %s", x->plan->bufs[i].name);
    }
    if (g < 0 || x->read[i]) return true;
    if (!x->dev->ops->sync(x->dev, 0, e)) return err_wrap(e, "preparing %s", x->plan->bufs[i].name);
    x->dev->ops->free(x->dev, x->at[i]);
    x->at[i] = NULL;
    x->own[i] = false;
    return true;
}

/* --- inputs --------------------------------------------------------------------------------------------------------- */

static bool open_rope(Exec *x, int i, Err *e) {
    const Plan *p = x->plan;
    const Type *t = &p->bufs[i].type;
    size_t n = type_bytes(t, &x->sizes);
    float *table = malloc(n);
    if (!table) return err_set(e, "out of memory: %zu bytes for the rope table", n);
    model_rope_table(&p->config, t->dim[0].add, table);
    bool ok = x->dev->ops->upload(x->dev, 0, x->at[i], table, n, e) && x->dev->ops->sync(x->dev, 0, e);
    free(table);
    return ok;
}

static void tell(Exec *x, int buf, size_t at, const void *v, size_t n);

static void open_blocks(Exec *x, int i) {
    const PlanBuf *b = &x->plan->bufs[i];
    for (int k = 0; k < x->plan->n_kv; k++) {
        if (strcmp(x->plan->kv[k].blocks, b->name)) continue;
        x->table[k] = i;
        memset(x->told + x->told_at[i], 0xff, b->size);
        tell(x, i, 0, x->told + x->told_at[i], b->size);
        return;
    }
    die("exec: %s is no KV group's block table", b->name); /* plan/verify.c */
}

/* Which experts are this device's. */
static bool open_share(Exec *x, int i, Err *e) {
    int64_t n, first = plan_share(x->plan, x->plan->config.experts, x->rank, &n);
    const int32_t share[2] = {(int32_t)first, (int32_t)n};
    return x->dev->ops->upload(x->dev, 0, x->at[i], share, sizeof share, e) && x->dev->ops->sync(x->dev, 0, e);
}

typedef enum Input {
    IN_STEP,
    IN_ROWS,
    IN_SAMPLE_SLOT,
    IN_SAMPLING,
    IN_SRC,
    IN_SLOT,
    IN_POS,
    IN_BLOCKS,
    IN_ROPE,
    IN_SHARE,
    INPUTS
} Input;
static const char *const inputs[INPUTS] = {
    /* a name that ends in '.' is a prefix; the order of those that change is their order in memory: what is small and changes in
     * each step first */
    [IN_STEP] = "step",         [IN_ROWS] = "rows",      [IN_SAMPLE_SLOT] = "sample_slot",
    [IN_SAMPLING] = "sampling", [IN_SRC] = "src",        [IN_SLOT] = "slot",
    [IN_POS] = "pos",           [IN_BLOCKS] = "blocks.", [IN_ROPE] = "rope", [IN_SHARE] = "share", /* written once */
};

static Input input_of(const PlanBuf *b) {
    int k = 0;
    for (; b->kind == BUF_INPUT && k < INPUTS; k++) {
        size_t n = strlen(inputs[k]);
        bool prefix = inputs[k][n - 1] == '.';
        if (prefix ? !strncmp(b->name, inputs[k], n) : !strcmp(b->name, inputs[k])) return (Input)k;
    }
    return INPUTS;
}

/* Lays out what changes with each step; one span a buffer and table row can be waiting. */
static bool open_told(Exec *x, Err *e) {
    const Plan *p = x->plan;
    for (int k = 0; k < IN_ROPE; k++)
        for (int i = 0; i < p->n_bufs; i++) {
            if (input_of(&p->bufs[i]) != (Input)k || !plan_holds(&p->bufs[i], x->rank)) continue;
            x->told_at[i] = x->told_size;
            if (!size_add(x->told_size, p->bufs[i].size, &x->told_size) ||
                !size_add(x->told_size, INPUT_ALIGN, &x->told_size))
                return err_set(e, "plan: input %s is too large", p->bufs[i].name);
            x->told_size = x->told_size / INPUT_ALIGN * INPUT_ALIGN;
            x->cap_spans += 1 + (k == IN_BLOCKS ? (int)p->max_batch : 0);
        }
    x->told = calloc(x->told_size + 1, 1);
    x->span = calloc((size_t)x->cap_spans + 1, sizeof *x->span);
    if (!x->told || !x->span) return err_set(e, "out of memory: %zu bytes for the steps' inputs", x->told_size);
    if (x->dev->ops->forget) return true;
    return (x->packed = allocate(x, x->told_size, "inputs", e)) != NULL;
}

static bool open_input(Exec *x, int i, Err *e) {
    const PlanBuf *b = &x->plan->bufs[i];
    Input k = input_of(b);
    Err why;
    if (!plan_input(x->plan, NULL, b->name, &b->type, &why)) return err_set(e, "the plan %s", why.msg);
    if (k == INPUTS) die("exec: nothing writes input %s", b->name);
    x->input[k] = i;
    if (x->packed && k < IN_ROPE) x->at[i] = x->packed + x->told_at[i];
    else if (!allocate_buf(x, i, e)) return false;
    if (k == IN_SHARE) return open_share(x, i, e);
    if (k == IN_ROPE && x->from) return copy_buf(x, i, e);
    if (k == IN_BLOCKS) open_blocks(x, i);
    return k != IN_ROPE || open_rope(x, i, e);
}

/* Into the list, which ascends, unless it reaches into the one before it there. */
static void tell(Exec *x, int buf, size_t at, const void *v, size_t n) {
    size_t from = x->told_at[buf] + at, to = from + n;
    int i = x->n_spans;
    memmove(x->told + from, v, n);
    while (i && x->span[i - 1].from > from) i--;
    if (i && x->span[i - 1].buf == buf && x->span[i - 1].to >= from) {
        if (x->span[i - 1].to < to) x->span[i - 1].to = to;
        return;
    }
    if (x->n_spans == x->cap_spans) die("exec: more inputs changed than there are");
    memmove(x->span + i + 1, x->span + i, (size_t)(x->n_spans - i) * sizeof *x->span);
    x->span[i] = (InputSpan){buf, from, to};
    x->n_spans++;
}

/* What changed goes to the device. */
static bool send_inputs(Exec *x, Err *e) {
    for (int i = 0; i < x->n_spans;) {
        InputSpan s = x->span[i++];
        for (; x->packed && i < x->n_spans && x->span[i].from <= s.to + NEAR; i++)
            if (x->span[i].to > s.to) s.to = x->span[i].to;
        char *at = (char *)x->at[s.buf] + (s.from - x->told_at[s.buf]);
        if (!x->dev->ops->upload(x->dev, 0, at, x->told + s.from, s.to - s.from, e))
            return err_wrap(e, "input %s", x->plan->bufs[s.buf].name);
    }
    x->n_spans = 0;
    return true;
}

/* --- open and close --------------------------------------------------------------------------------------------------- */

static bool open_bufs(Exec *x, const Model *m, Err *e) {
    const Plan *p = x->plan;
    if (!open_told(x, e)) return false;
    for (int i = 0; i < p->n_bufs; i++) /* before the weights, which go into them as they come */
        if (p->bufs[i].kind == BUF_PACKED && plan_holds(&p->bufs[i], x->rank) && !x->dev->ops->run_node && !allocate_buf(x, i, e))
            return false;
    for (int i = 0; i < p->n_bufs; i++) {
        bool ok = false;
        if (!plan_holds(&p->bufs[i], x->rank) && p->bufs[i].hold != HOLD_COMMON) continue;
        switch (p->bufs[i].kind) {
        case BUF_WEIGHT: ok = x->from ? copy_weight(x, i, e) : open_weight(x, m, i, e) && prepare_weight(x, i, e); break;
        case BUF_PACKED: ok = !x->from || copy_buf(x, i, e); break;
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
        if (!(x->kernels[i] = ops->kernel(x->dev, x->modules[p->kernels[i].module], &p->kernels[i], e))) return false;
    return true;
}

static bool open_marks(Exec *x, Err *e) {
    for (int i = 0; x->dev->ops->event && i < EXEC_MARKS; i++)
        if (!(x->mark[i] = x->dev->ops->event(x->dev, e))) return false;
    if (!x->dev->ops->await) return true;
    if (!(x->given = x->dev->ops->event(x->dev, e)) || !(x->taken = x->dev->ops->event(x->dev, e))) return false;
    return x->plan->devices == 1 || (x->ready = x->dev->ops->event(x->dev, e));
}

static void *zeros(size_t n, size_t size) {
    void *p = calloc(n + 1, size);
    if (!p) out_of_memory(n * size, "an exec");
    return p;
}

static int *resolve(const PlanGraph *g, const Graph *ir, bool outputs) {
    int per = outputs ? MAX_OUT : MAX_IN, *bufs = zeros(ir->nodes.n, (size_t)per * sizeof *bufs);
    for (size_t n = 0; n < ir->nodes.n; n++) {
        const Node *node = ir->nodes.at[n];
        Value *const *v = outputs ? node->out : node->in;
        for (int i = 0; i < (outputs ? node->n_out : node->n_in); i++)
            bufs[n * (size_t)per + (size_t)i] = v[i] ? plan_value(g, v[i]->name) : -1;
    }
    return bufs;
}

/* The graph's temporaries by the node that they begin to live at: those of node n are born[g][born_from[g][n] … born_from[g][n + 1]). */
static void list_born(Exec *x, int g) {
    const Plan *p = x->plan;
    size_t nodes = x->ir[g]->nodes.n;
    int *from = x->born_from[g] = zeros(nodes + 2, sizeof *from), *list = x->born[g] = zeros((size_t)p->n_bufs, sizeof *list);
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP && p->bufs[i].graph == g) from[p->bufs[i].first + 2]++;
    for (size_t n = 1; n < nodes + 2; n++) from[n] += from[n - 1];
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP && p->bufs[i].graph == g) list[from[p->bufs[i].first + 1]++] = i;
}

/* Links that the graph computes anew: its outputs, unless it reads them too. */
static void list_fresh(Exec *x, int g) {
    const Graph *ir = x->ir[g];
    bool *read = zeros((size_t)x->plan->n_bufs, sizeof *read);
    x->fresh[g] = zeros(ir->outputs.n, sizeof **x->fresh);
    for (size_t i = 0; i < ir->inputs.n; i++) read[plan_value(&x->plan->graphs[g], ir->inputs.at[i]->name)] = true;
    for (size_t i = 0; i < ir->outputs.n; i++) {
        int buf = plan_value(&x->plan->graphs[g], ir->outputs.at[i]->name);
        if (x->plan->bufs[buf].kind == BUF_LINK && !read[buf]) x->fresh[g][x->n_fresh[g]++] = buf;
    }
    free(read);
}

/* What a step's kernels read of weights as the file has them; and of each weight the launches that repack it. */
static void list_repacks(Exec *x) {
    const Plan *p = x->plan;
    int prepare = plan_graph(p, "prepare"), n = prepare < 0 ? 0 : p->graphs[prepare].n_launches;
    x->read = zeros((size_t)p->n_bufs, sizeof *x->read), x->repack = zeros((size_t)p->n_bufs, sizeof *x->repack);
    x->repack_next = zeros((size_t)n, sizeof *x->repack_next);
    for (int i = 0; i < p->n_bufs; i++) x->repack[i] = -1;
    for (int g = 0; g < p->n_graphs; g++)
        for (int l = 0; g != prepare && l < p->graphs[g].n_launches; l++)
            for (int a = 0; a < p->graphs[g].launches[l].n_args; a++)
                if (p->graphs[g].launches[l].args[a] >= 0) x->read[p->graphs[g].launches[l].args[a]] = true;
    for (int l = n; l-- > 0;) {
        int weight = x->in[prepare][p->graphs[prepare].launches[l].node * MAX_IN];
        x->repack_next[l] = x->repack[weight], x->repack[weight] = l;
    }
}

/* A graph's segments: on each device and on the first in turn. */
static void cut(Exec *x, int graph) {
    size_t n = x->ir[graph]->nodes.n;
    bool *everywhere = zeros(n, sizeof *everywhere);
    Segment *s = x->segment[graph] = zeros(n, sizeof *s);
    graph_everywhere(x->ir[graph], everywhere);
    for (size_t i = 0; i < n; i++) {
        if (!i || everywhere[i] != everywhere[i - 1]) s[x->n_segments[graph]++] = (Segment){(int)i, (int)i, everywhere[i]};
        s[x->n_segments[graph] - 1].end = (int)i + 1;
    }
    x->captured[graph] = zeros((size_t)x->n_segments[graph] * PLAN_MAX_BUCKETS, sizeof **x->captured);
    free(everywhere);
}

static Exec *make(const Plan *p, Device *d) {
    Exec *x = zeros(1, sizeof *x);
    size_t bufs = (size_t)p->n_bufs, graphs = (size_t)p->n_graphs;
    *x = (Exec){.plan = p, .dev = d, .taking = -1};
    x->at = zeros(bufs, sizeof *x->at), x->own = zeros(bufs, sizeof *x->own), x->group = zeros(bufs, sizeof *x->group);
    x->input = zeros(INPUTS, sizeof *x->input), x->table = zeros((size_t)p->n_kv, sizeof *x->table);
    x->told_at = zeros(bufs, sizeof *x->told_at);
    for (int i = 0; i < INPUTS; i++) x->input[i] = -1;
    for (int k = 0; k < p->n_kv; k++) x->table[k] = -1;
    x->pages = zeros((size_t)p->n_kv, sizeof *x->pages);
    x->modules = zeros((size_t)p->n_modules, sizeof *x->modules),
    x->kernels = zeros((size_t)p->n_kernels, sizeof *x->kernels);
    x->born = zeros(graphs, sizeof *x->born), x->born_from = zeros(graphs, sizeof *x->born_from);
    x->fresh = zeros(graphs, sizeof *x->fresh), x->n_fresh = zeros(graphs, sizeof *x->n_fresh);
    x->captured = zeros(graphs, sizeof *x->captured), x->segment = zeros(graphs, sizeof *x->segment);
    x->n_segments = zeros(graphs, sizeof *x->n_segments);
    x->ir = zeros(graphs, sizeof *x->ir), x->in = zeros(graphs, sizeof *x->in), x->out = zeros(graphs, sizeof *x->out);
    for (int i = 0; i < p->n_bufs; i++) x->group[i] = -1;
    for (int k = 0; k < p->n_kv; k++)
        for (int i = 0; i < p->kv[k].n_states; i++) x->group[p->kv[k].states[i]] = k;
    for (int g = 0; g < p->n_graphs; g++) {
        x->ir[g] = program_graph(p->program, p->graphs[g].name);
        x->in[g] = resolve(&p->graphs[g], x->ir[g], false);
        x->out[g] = resolve(&p->graphs[g], x->ir[g], true);
        list_born(x, g), list_fresh(x, g);
        cut(x, g);
    }
    list_repacks(x);
    return x;
}

/* What was queued is done when this returns, so that others may copy it. */
static bool open_all(Exec *x, const Model *m, Err *e) {
    return open_kernels(x, e) && open_bufs(x, m, e) && open_marks(x, e) && x->dev->ops->sync(x->dev, 0, e);
}

/* An Exec for each device; the first one's memory is there before the others, which use it. */
static Exec *make_group(const Plan *p, const Exec *from, Device *const *d, const ExecLoading *loading) {
    Exec *x = make(p, d[0]);
    x->n_other = (int)p->devices - 1;
    x->other = zeros((size_t)x->n_other, sizeof *x->other), x->others = zeros((size_t)x->n_other, sizeof *x->others);
    for (int i = 0; i <= x->n_other; i++) {
        Exec *o = i ? x->other[i - 1] = make(p, x->others[i - 1] = d[i]) : x;
        o->rank = i, o->first = i ? x : NULL;
        o->loading = loading, o->from = !from ? NULL : i ? from->other[i - 1] : from;
        o->ranges = ranges_open();
    }
    return x;
}

Exec *exec_member(Exec *x, int i) { return i ? x->other[i - 1] : x; }

typedef struct Opening Opening; /* of a device, by a thread of its own */
struct Opening {
    Exec *x;
    const Model *m;
    Err e;
    bool ok, started;
    pthread_t thread;
};

static void *open_one(void *arg) {
    Opening *o = arg;
    o->ok = open_all(o->x, o->m, &o->e);
    return NULL;
}

/* Each reads its share of the weights while the others do; the first, here. */
static bool open_at_once(Exec *x, const Model *m, Err *e) {
    Opening *all = zeros((size_t)x->n_other + 1, sizeof *all);
    bool ok = true;
    for (int i = 0; i <= x->n_other; i++) all[i] = (Opening){.x = exec_member(x, i), .m = m};
    for (int i = 1; i <= x->n_other; i++) all[i].x->loading = NULL, all[i].started = !pthread_create(&all[i].thread, NULL, open_one, &all[i]);
    open_one(&all[0]);
    for (int i = 1; i <= x->n_other; i++) {
        if (all[i].started) pthread_join(all[i].thread, NULL);
        else open_one(&all[i]);
    }
    for (int i = 0; i <= x->n_other && ok; i++)
        if (!(ok = all[i].ok)) *e = all[i].e;
    free(all);
    return ok;
}

static bool open_members(Exec *x, const Model *m, Err *e) {
    for (int i = 0; i <= x->n_other; i++)
        if (!open_arenas(exec_member(x, i), e)) return false;
    if (x->n_other && load_at_once(x)) return open_at_once(x, m, e);
    for (int i = 0; i <= x->n_other; i++)
        if (!open_all(exec_member(x, i), m, e)) return false;
    return true;
}

static Exec *open_group(const Plan *p, const Model *m, const Exec *from, Device *const *d, const ExecLoading *loading, Err *e) {
    Exec *x = make_group(p, from, d, loading);
    bool ok = true;
    if (x->n_other && !d[0]->ops->alloc_common) ok = err_set(e, "device %s runs no plan for several devices", d[0]->ops->name);
    ok = ok && open_members(x, m, e);
    for (int i = 0; i <= x->n_other; i++) exec_member(x, i)->loading = NULL, exec_member(x, i)->from = NULL;
    if (ok) return x;
    exec_close(x);
    return NULL;
}

Exec *exec_open(const Plan *p, const Model *m, Device *const *d, const ExecLoading *loading, Err *e) {
    return open_group(p, m, NULL, d, loading, e);
}

Exec *exec_open_from(const Exec *from, Device *const *d, Err *e) { return open_group(from->plan, NULL, from, d, NULL, e); }

void exec_close(Exec *x) {
    if (!x) return;
    const Plan *p = x->plan;
    const DeviceOps *ops = x->dev->ops;
    for (int i = 0; i < x->n_other; i++) exec_close(x->other[i]);
    for (int g = 0; g < p->n_graphs; g++) {
        for (int i = 0; i < x->n_segments[g] * PLAN_MAX_BUCKETS; i++)
            if (x->captured[g][i]) ops->graph_free(x->dev, x->captured[g][i]);
        free(x->in[g]), free(x->out[g]), free(x->born[g]), free(x->born_from[g]), free(x->fresh[g]), free(x->segment[g]), free(x->captured[g]);
    }
    for (int i = 0; i < p->n_bufs; i++)
        if (x->own[i]) ops->free(x->dev, x->at[i]);
    close_arenas(x);
    if (x->packed) ops->free(x->dev, x->packed);
    for (int i = 0; i < EXEC_MARKS; i++)
        if (x->mark[i]) ops->event_free(x->dev, x->mark[i]);
    if (x->ready) ops->event_free(x->dev, x->ready);
    if (x->given) ops->event_free(x->dev, x->given);
    if (x->taken) ops->event_free(x->dev, x->taken);
    for (int i = 0; i < p->n_modules; i++)
        if (x->modules[i]) ops->module_unload(x->dev, x->modules[i]);
    free(x->at), free(x->own), free(x->group), free(x->pages), free(x->modules), free(x->kernels);
    free(x->captured), free(x->segment), free(x->n_segments), free(x->other), free(x->others), free(x->ir), free(x->in), free(x->out);
    free(x->born), free(x->born_from), free(x->fresh), free(x->n_fresh);
    free(x->read), free(x->repack), free(x->repack_next);
    free(x->input), free(x->table), free(x->told), free(x->told_at), free(x->span);
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

bool exec_kv_zero(Exec *x, Err *e) {
    for (int i = 0; i < x->plan->n_bufs; i++)
        if (x->group[i] >= 0 &&
            !x->dev->ops->fill(x->dev, 0, x->at[i], 0, x->plan->bufs[i].size * (size_t)x->pages[x->group[i]], e))
            return false;
    return x->keeps = true;
}

void exec_page(Exec *x, int kv, int64_t page) {
    const PlanKv *k = &x->plan->kv[kv];
    for (int i = 0; x->dev->ops->forget && !x->keeps && i < k->n_states; i++) {
        size_t size = x->plan->bufs[k->states[i]].size;
        x->dev->ops->forget(x->dev, (char *)x->at[k->states[i]] + (size_t)page * size, size);
    }
}

void exec_blocks(Exec *x, int kv, int slot, const int32_t *row) {
    int buf = x->table[kv];
    size_t n = (size_t)x->plan->max_blocks, first = 0, last = n, at = (size_t)slot * n * sizeof *row;
    const int32_t *old = (const int32_t *)(x->told + x->told_at[buf] + at);
    while (first < n && old[first] == row[first]) first++;
    while (last > first && old[last - 1] == row[last - 1]) last--;
    if (first < last) tell(x, buf, at + first * sizeof *row, row + first, (last - first) * sizeof *row);
}

/* --- running -------------------------------------------------------------------------------------------------------- */

/* All of an input: what the last step left in it beyond this one's part must not be read. */
static void write_input(Exec *x, Input input, const int32_t *v, int64_t n) {
    int buf = x->input[input];
    if (buf < 0) return; /* no graph reads it */
    if (x->dev->ops->forget) x->dev->ops->forget(x->dev, x->at[buf], x->plan->bufs[buf].size);
    tell(x, buf, 0, v, (size_t)n * sizeof *v);
}

static void write_step(Exec *x) {
    const int32_t step[STEP_WORDS] = {(int32_t)x->sizes.of[SYM_T], (int32_t)x->sizes.of[SYM_S], (int32_t)x->n_decode};
    write_input(x, IN_STEP, step, STEP_WORDS);
    for (int i = 0; i < x->n_other; i++) {
        x->other[i]->sizes = x->sizes;
        write_input(x->other[i], IN_STEP, step, STEP_WORDS);
    }
}

void exec_tokens(Exec *x, const int32_t *src, const int32_t *slot, const int32_t *pos, int64_t n, int64_t n_decode) {
    x->sizes.of[SYM_T] = n, x->sizes.of[SYM_S] = 0, x->n_decode = n_decode;
    write_step(x);
    write_input(x, IN_SRC, src, n), write_input(x, IN_SLOT, slot, n), write_input(x, IN_POS, pos, n);
}

void exec_sampling(Exec *x, const Sampling *each, int64_t n) {
    const Sampling greedy = {.top_p = 1};
    int32_t words[SAMPLING_WORDS];
    int buf = x->input[IN_SAMPLING];
    if (buf < 0) return;
    if (x->dev->ops->forget) x->dev->ops->forget(x->dev, x->at[buf], x->plan->bufs[buf].size);
    for (int64_t i = 0; i < n; i++) {
        sampling_write(each ? &each[i] : &greedy, words);
        tell(x, buf, (size_t)i * sizeof words, words, sizeof words);
    }
}

void exec_rows(Exec *x, const int32_t *rows, const int32_t *slots, int64_t n) {
    x->sizes.of[SYM_S] = n;
    write_step(x);
    write_input(x, IN_ROWS, rows, n);
    if (slots) write_input(x, IN_SAMPLE_SLOT, slots, n), exec_sampling(x, NULL, n);
}

int64_t exec_max(const Plan *p, int graph) { return p->graphs[graph].buckets[p->graphs[graph].n_buckets - 1]; }

int exec_bucket(const Exec *x, int graph) {
    const PlanGraph *g = &x->plan->graphs[graph];
    int b = 0;
    while (b < g->n_buckets && g->buckets[b] < x->sizes.of[g->sym]) b++;
    if (b == g->n_buckets)
        die("exec: %s with %lld rows, its largest bucket is smaller", g->name, (long long)x->sizes.of[g->sym]);
    return b;
}

static void forget_buf(Exec *x, int buf) { x->dev->ops->forget(x->dev, x->at[buf], x->plan->bufs[buf].size); }

void exec_begin(Exec *x, int graph) {
    for (int i = 0; x->dev->ops->forget && i < x->n_fresh[graph]; i++) forget_buf(x, x->fresh[graph][i]);
}

bool exec_everywhere(const Exec *x, int graph, int node) {
    int k = 0;
    while (x->segment[graph][k].end <= node) k++;
    return x->segment[graph][k].everywhere;
}

/* Did begin_common see to it? What nodes of the first device make is theirs. */
static bool is_begun(const Exec *x, int graph, int buf) {
    return x->plan->bufs[buf].hold == HOLD_COMMON && exec_everywhere(x, graph, x->plan->bufs[buf].first);
}

/* The node's temporaries begin to live. */
static void begin_node(Exec *x, int graph, int node) {
    const int *from = x->born_from[graph];
    for (int i = from[node]; x->dev->ops->forget && i < from[node + 1]; i++)
        if (!is_begun(x, graph, x->born[graph][i])) forget_buf(x, x->born[graph][i]);
}

/* Says which buffers the failed launch had, where: an emulator's message has addresses. */
static bool launch_failed(const Exec *x, const PlanLaunch *l, const char *node, Err *e) {
    Text t = {0};
    for (int i = 0; i < l->n_args; i++)
        if (l->args[i] >= 0)
            text_add(&t, "\n  arg %d %s %p, %zu bytes", i, x->plan->bufs[l->args[i]].name, x->at[l->args[i]],
                     x->plan->bufs[l->args[i]].size);
    err_wrap(e, "node %s, kernel %s", node, x->plan->kernels[l->kernel].symbol);
    err_add(e, "%s", t.at ? t.at : "");
    text_free(&t);
    return false;
}

bool exec_launch(Exec *x, int graph, const PlanLaunch *l, const int *bufs, Err *e) {
    int bucket = exec_bucket(x, graph);
    const uint32_t *grid = l->grid[bucket];
    void *args[PLAN_MAX_ARGS];
    const PlanKernel *k = &x->plan->kernels[l->kernel];
    if (!grid[0] || !grid[1] || !grid[2]) return true;
    for (int i = 0; i < l->n_args; i++) args[i] = bufs[i] < 0 ? NULL : x->at[bufs[i]];
    return x->dev->ops->launch(x->dev, 0, x->kernels[l->kernel], grid, k->block, l->lds[bucket], args, l->n_args, e) ||
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
    for (int l = plan_launch(g, node); l < g->n_launches && g->launches[l].node == node; l++)
        if (!exec_launch(x, graph, &g->launches[l], g->launches[l].args, e)) return false;
    return true;
}

static bool run_node(Exec *x, int graph, int node, Err *e) {
    begin_node(x, graph, node);
    if (x->ranges.push) x->ranges.push(node_name(x->ir[graph]->nodes.at[node]));
    bool ok = x->dev->ops->run_node ? interpret(x, graph, node, e) : launch_node(x, graph, node, e);
    if (x->ranges.push) x->ranges.pop();
    return ok;
}

static bool send_all(Exec *x, Err *e) {
    for (int i = 0; i < x->n_other; i++)
        if (!send_inputs(x->other[i], e)) return false;
    return send_inputs(x, e);
}

static bool run_nodes(Exec *x, int graph, const Segment *s, Err *e) {
    for (int n = s->first; n < s->end; n++)
        if (!run_node(x, graph, n, e)) return false;
    return true;
}

/* captured: where the replayable graph of these nodes is kept; NULL: they are launched one by one. */
static bool run_segment(Exec *x, int graph, const Segment *s, void **captured, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    if (!captured) return run_nodes(x, graph, s, e);
    if (!*captured) {
        if (!ops->capture_begin(x->dev, 0, e) || !run_nodes(x, graph, s, e)) return false;
        if (!(*captured = ops->capture_end(x->dev, 0, e))) return false;
    }
    return ops->replay(x->dev, 0, *captured, e);
}

/* Temporaries that all devices use begin to live before any of them begins. */
static void begin_common(Exec *x, int graph, const Segment *s) {
    const Plan *p = x->plan;
    for (int i = 0; x->dev->ops->forget && i < p->n_bufs; i++) {
        const PlanBuf *b = &p->bufs[i];
        if (b->kind == BUF_TEMP && b->hold == HOLD_COMMON && b->graph == graph && b->first >= s->first && b->first < s->end) forget_buf(x, i);
    }
}

static void **captured_at(const Exec *x, int graph, int segment) {
    if (!x->dev->ops->capture_begin) return NULL;
    return &x->captured[graph][segment * PLAN_MAX_BUCKETS + exec_bucket(x, graph)];
}

static bool tell_watch(Exec *x, ExecPoint point, Err *e) {
    const Exec *first = x->first ? x->first : x;
    return !first->watch || first->watch(first->watch_ctx, x, point, e);
}

/* segment -1: not captured. */
static bool run_watched(Exec *x, int graph, int segment, const Segment *s, Err *e) {
    return tell_watch(x, EXEC_BEGINS, e) && run_segment(x, graph, s, segment < 0 ? NULL : captured_at(x, graph, segment), e) &&
           tell_watch(x, EXEC_DONE, e);
}

/* The others begin when the first has come so far, and it goes on when they are done; the host waits for nobody. segment -1: not
 * captured. */
static bool run_everywhere(Exec *x, int graph, int segment, const Segment *s, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    begin_common(x, graph, s);
    if (x->ready && !ops->record(x->dev, 0, x->ready, e)) return false;
    for (int i = 0; i < x->n_other; i++) {
        Exec *o = x->other[i];
        if ((x->ready && !ops->await(o->dev, 0, x->ready, e)) || !run_watched(o, graph, segment, s, e) ||
            (x->ready && !ops->record(o->dev, 0, o->ready, e)))
            return false;
    }
    if (!run_watched(x, graph, segment, s, e)) return false;
    for (int i = 0; i < x->n_other && x->ready; i++)
        if (!ops->await(x->dev, 0, x->other[i]->ready, e)) return false;
    return tell_watch(x, EXEC_JOINED, e);
}

static bool graph_has(const PlanGraph *g, int buf) {
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].buf == buf) return true;
    return false;
}

/* The steps go on behind the copy that is under way. */
static bool await_taken(Exec *x, Err *e) {
    x->taking = -1;
    return x->dev->ops->await(x->dev, 0, x->taken, e);
}

static bool begin(Exec *x, int graph, Err *e) {
    x->follows = false;
    if (x->taking >= 0 && graph_has(&x->plan->graphs[graph], x->taking) && !await_taken(x, e)) return false;
    return send_all(x, e);
}

bool exec_node(Exec *x, int graph, int node, Err *e) {
    const Segment one = {node, node + 1, exec_everywhere(x, graph, node)};
    return begin(x, graph, e) && (one.everywhere ? run_everywhere(x, graph, -1, &one, e) : run_watched(x, graph, -1, &one, e));
}

bool exec_graph(Exec *x, int graph, Err *e) {
    if (!begin(x, graph, e)) return false;
    exec_begin(x, graph);
    for (int k = 0; k < x->n_segments[graph]; k++) {
        const Segment *s = &x->segment[graph][k];
        if (s->everywhere ? !run_everywhere(x, graph, k, s, e) : !run_watched(x, graph, k, s, e)) return false;
    }
    return true;
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
            if (!x->dev->ops->upload(x->dev, 0, logits + sizeof never * (size_t)(row * t->dim[1].add + ids[i]), &never,
                                     sizeof never, e))
                return false;
    return true;
}

/* Node by node, for what is written between two of them; so the device draws as ever, and who excludes nothing pays nothing. */
bool exec_graph_without(Exec *x, int graph, const int32_t *ids, size_t n, Err *e) {
    int sample = n ? sampling_node(x, graph) : -1;
    if (!n) return exec_graph(x, graph, e);
    if (sample < 0)
        return err_set(
            e, "a fusion took up op sample, so that no token can be suppressed: recompile with --no-fusion for it");
    exec_begin(x, graph);
    for (int i = 0; i < (int)x->ir[graph]->nodes.n; i++)
        if ((i == sample && !exclude(x, graph, i, ids, n, e)) || !exec_node(x, graph, i, e)) return false;
    return true;
}

static bool download(Exec *x, int stream, int buf, size_t at, void *dst, size_t n, Err *e) {
    return x->dev->ops->download(x->dev, stream, dst, (char *)x->at[buf] + at, n, e) || err_wrap(e, "reading %s", x->plan->bufs[buf].name);
}

/* The stream of what is fetched, which then begins behind all that the steps' stream, 0, was given; 0 where there is no other. */
static bool fetch_stream(Exec *x, int *stream, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    *stream = x->given ? 1 : 0;
    if (!x->given || x->follows) return true;
    return x->follows = ops->record(x->dev, 0, x->given, e) && ops->await(x->dev, *stream, x->given, e);
}

bool exec_fetch(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e) {
    int stream;
    if (x->taking >= 0 && x->taking != buf && !await_taken(x, e)) return false; /* one is remembered */
    if (!fetch_stream(x, &stream, e) || !download(x, stream, buf, at, dst, n, e)) return false;
    if (!x->given) return true;
    x->taking = buf;
    return x->dev->ops->record(x->dev, stream, x->taken, e);
}

bool exec_mark(Exec *x, int mark, Err *e) {
    int stream;
    return !x->mark[mark] || (fetch_stream(x, &stream, e) && x->dev->ops->record(x->dev, stream, x->mark[mark], e));
}

bool exec_wait(Exec *x, int mark, Err *e) { return !x->mark[mark] || x->dev->ops->wait(x->dev, x->mark[mark], e); }

bool exec_read(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e) {
    return download(x, 0, buf, at, dst, n, e) &&
           (x->dev->ops->sync(x->dev, 0, e) || err_wrap(e, "reading %s", x->plan->bufs[buf].name));
}

bool exec_write(Exec *x, int buf, size_t at, const void *src, size_t n, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    return (ops->upload(x->dev, 0, (char *)x->at[buf] + at, src, n, e) && ops->sync(x->dev, 0, e)) ||
           err_wrap(e, "writing %s", x->plan->bufs[buf].name);
}

/* --- looking for NaN -------------------------------------------------------------------------------------------------- */

static float element(DType d, const void *data, int64_t i) {
    return d == DT_BF16 ? f32_of_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

/* True: it is enough. */
static bool scan_rows(const Value *v, const Sizes *sizes, const void *data, ExecTell *tell, void *ctx) {
    Dim d = v->type.rank ? v->type.dim[0] : dim_const(1);
    const bool counts = d.sym != SYM_NONE && d.mul == 1 && !d.add; /* else a row is the whole */
    const int64_t n = type_count(&v->type, sizes), width = counts && sizes->of[d.sym] ? n / sizes->of[d.sym] : n;
    for (int64_t i = 0; i < n; i++) {
        float x = element(v->type.dtype, data, i);
        if (isfinite(x)) continue;
        if (tell(ctx, &(NonFinite){v->name, counts ? d.sym : SYM_NONE, counts ? i / width : 0, x})) return true;
        i += width - 1 - i % width; /* on with the next row */
    }
    return false;
}

static bool scan_node(Exec *x, int graph, int node, ExecTell *tell, void *ctx) {
    Err e;
    const Node *n = x->ir[graph]->nodes.at[node];
    for (int i = 0; i < n->n_out; i++) {
        const Type *t = &n->out[i]->type;
        int buf = x->out[graph][node * MAX_OUT + i];
        if ((t->dtype != DT_F32 && t->dtype != DT_BF16) || x->plan->bufs[buf].kind == BUF_STATE || x->plan->bufs[buf].hold == HOLD_EACH) continue;
        size_t size = type_bytes(t, &x->sizes);
        void *data = malloc(size + 1);
        bool enough = data && exec_read(x, buf, 0, data, size, &e) && scan_rows(n->out[i], &x->sizes, data, tell, ctx);
        free(data);
        if (enough) return true;
    }
    return false;
}

void exec_nonfinite(Exec *x, int graph, ExecTell *tell, void *ctx) {
    Err e;
    exec_begin(x, graph);
    for (size_t n = 0; n < x->ir[graph]->nodes.n; n++) /* what each device has a part of is looked at where it is joined */
        if (exec_node(x, graph, (int)n, &e) && scan_node(x, graph, (int)n, tell, ctx)) return;
}
