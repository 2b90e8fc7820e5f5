/* interface.c - what the executor gives a plan's graphs and takes from them, by name. The compiler checks a graph against it,
 * the executor a plan; so a plan that compiles is one that runs.
 * Add an input that the executor provides: a row of `inputs` here, and in runtime/exec.c where it is written. */
#include "plan.h"

#include "ir/near.h"
#include "ir/sampling.h"

static Type vector(Sym s) { return (Type){DT_I32, 1, {dim_sym(s)}}; }

static bool is(const Type *t, Type want) { return type_eq(t, &want); }

static bool is_step(const Plan *p, const Type *t) { return (void)p, is(t, (Type){DT_I32, 1, {dim_const(STEP_WORDS)}}); }
static bool is_per_token(const Plan *p, const Type *t) { return (void)p, is(t, vector(SYM_T)); }
static bool is_per_row(const Plan *p, const Type *t) { return (void)p, is(t, vector(SYM_S)); }
static bool is_share(const Plan *p, const Type *t) { return (void)p, is(t, (Type){DT_I32, 1, {dim_const(2)}}); }
static bool is_sampling(const Plan *p, const Type *t) {
    return (void)p, is(t, (Type){DT_I32, 2, {dim_sym(SYM_S), dim_const(SAMPLING_WORDS)}});
}
static bool is_blocks(const Plan *p, const Type *t) {
    return is(t, (Type){DT_I32, 2, {dim_const(p->max_batch), dim_const(p->max_blocks)}});
}
static bool is_rope(const Plan *p, const Type *t) {
    return t->dtype == DT_F32 && t->rank == 3 && dim_is_const(t->dim[0]) && t->dim[0].add >= p->max_seq &&
           dim_eq(t->dim[1], dim_const(p->config.head_dim / 2)) && dim_eq(t->dim[2], dim_const(2));
}

static const struct {
    const char *name; /* ends in '.': a prefix */
    bool (*fits)(const Plan *p, const Type *t);
    const char *type;   /* for people */
    const char *graphs; /* where it is written before the graph runs */
} inputs[] = {
    {"step", is_step, "i32[8]", ""}, /* the compiler's own */
    {"share", is_share, "i32[2]", "step sample logits"}, /* with --ep: the device's first expert, and how many */
    {"src", is_per_token, "i32[T]", "step sample logits"},
    {"slot", is_per_token, "i32[T]", "step sample logits"},
    {"pos", is_per_token, "i32[T]", "step sample logits"},
    {"rows", is_per_row, "i32[S]", "sample logits"},
    {"sample_slot", is_per_row, "i32[S]", "sample"},
    {"sampling", is_sampling, "i32[S,8]", "sample"},
    {"blocks.", is_blocks, "i32[slots,pages of a sequence]", "step sample logits"},
    {"rope", is_rope, "f32[positions,head_dim/2,2], the model's positions at least", "step sample logits"},
};

static bool is_called(const char *name, const char *row) {
    size_t n = strlen(row);
    return row[n - 1] == '.' ? !strncmp(name, row, n) && name[n] : !strcmp(name, row);
}

bool plan_input_named(const char *name) {
    for (size_t i = 0; i < LEN(inputs); i++)
        if (is_called(name, inputs[i].name)) return true;
    return false;
}

bool plan_input(const Plan *p, const char *graph, const char *name, const Type *t, Err *e) {
    for (size_t i = 0; i < LEN(inputs); i++) {
        if (!is_called(name, inputs[i].name)) continue;
        if (graph && !strstr(inputs[i].graphs, graph))
            return err_set(e, "reads input %s, which is for %s", name,
                           *inputs[i].graphs ? inputs[i].graphs : "kernels");
        return inputs[i].fits(p, t) ||
               err_set(e, "has input %s as %s, must be %s", name, type_str(p->arena, t), inputs[i].type);
    }
    Near near = {name};
    for (size_t i = 0; i < LEN(inputs); i++)
        if (*inputs[i].graphs) near_try(&near, inputs[i].name);
    return err_set(
        e,
        "wants an input \"%s\", which this program does not know%s%s%s: graph inputs are src, slot, pos, rows, "
        "sample_slot, sampling, blocks.*, rope",
        name, NEAR_HINT(near));
}

const Value *plan_result(const Graph *g) {
    bool ids = !strcmp(g->name, "sample");
    for (size_t i = 0; i < g->outputs.n; i++) {
        const Type *t = &g->outputs.at[i]->type;
        if (t->dtype == (ids ? DT_I32 : DT_F32) && t->rank == (ids ? 1 : 2) && dim_eq(t->dim[0], dim_sym(SYM_S)))
            return g->outputs.at[i];
    }
    return NULL;
}

bool plan_pool(const Type *t) {
    bool fits = t->rank == 5 && dim_eq(t->dim[0], dim_sym(SYM_P)) && dim_eq(t->dim[3], dim_const(KV_PAGE));
    for (int d = 1; d < 5 && fits; d++) fits = dim_is_const(t->dim[d]);
    return fits;
}
