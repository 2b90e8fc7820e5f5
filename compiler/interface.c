/* interface.c - see interface.h. What the executor gives and takes is plan/interface.c, what weights there are model/. */
#include "interface.h"

#include "ir/near.h"

/* --- graphs ----------------------------------------------------------------------------------------------------------- */

static const Loc *loc_of(const Value *v) { return v->def ? &v->def->loc : &v->loc; }

static bool check_graphs(const Compile *c, Err *e) {
    static const char *const known[] = {"step", "sample", "logits"};
    for (size_t i = 0; i < c->program->graphs.n; i++) {
        const Graph *g = c->program->graphs.at[i];
        Near near = {g->name};
        bool found = false;
        for (size_t k = 0; k < LEN(known); k++) near_try(&near, known[k]), found |= !strcmp(known[k], g->name);
        if (!found)
            return err_at(e, loc_of(g->outputs.at[0]), "nobody runs a graph %s%s%s%s; there are step, sample, logits",
                          g->name, NEAR_HINT(near));
    }
    const Loc loc = front_program_loc(c->front);
    return program_graph(c->program, "step") || err_at(e, &loc, "program: there is no graph step");
}

/* --- inputs and outputs ----------------------------------------------------------------------------------------------- */

static bool is_output(const Graph *g, const char *name) {
    for (size_t i = 0; g && i < g->outputs.n; i++)
        if (!strcmp(g->outputs.at[i]->name, name)) return true;
    return false;
}

/* An output of step that no head reads; NULL: there is none. */
static const Value *unread_output(const Program *p, const Graph *step) {
    for (size_t i = 0; i < step->outputs.n; i++) {
        bool read = false;
        for (size_t k = 0; k < p->graphs.n; k++)
            for (size_t n = 0; n < p->graphs.at[k]->inputs.n; n++)
                read |= !strcmp(p->graphs.at[k]->inputs.at[n]->name, step->outputs.at[i]->name);
        if (!read) return step->outputs.at[i];
    }
    return NULL;
}

static bool check_input(const Compile *c, const Graph *g, const Value *v, Err *e) {
    const Graph *step = program_graph(c->program, "step");
    Err why;
    if (g != step && is_output(step, v->name)) return true; /* its type was compared: program_verify */
    if (plan_input(&c->plan, g->name, v->name, &v->type, &why)) return true;
    const Value *other = g == step ? NULL : unread_output(c->program, step);
    if (other)
        return err_at(e, loc_of(other), "output %s of graph step is read by no graph; %s reads an input %s (%s:%d)",
                      other->name, g->name, v->name, v->loc.file, v->loc.line);
    return err_at(e, &v->loc, "graph %s %s", g->name, why.msg);
}

static bool check_result(const Compile *c, const Graph *g, Err *e) {
    bool ids = !strcmp(g->name, "sample");
    const Value *v = plan_result(g);
    if (!strcmp(g->name, "step")) return true;
    if (!v)
        return err_at(e, loc_of(g->outputs.at[0]), "graph %s must have an output %s", g->name,
                      ids ? "i32[S], the sampled ids" : "f32[S,vocabulary], the logits");
    if (!ids && !dim_eq(v->type.dim[1], dim_const(c->plan.config.vocab)))
        return err_at(e, loc_of(v), "graph logits gives %s, config.vocab is %lld", type_str(c->a, &v->type),
                      (long long)c->plan.config.vocab);
    return true;
}

/* --- state ------------------------------------------------------------------------------------------------------------ */

/* The state that v is, or was before it was written. */
static const Value *first_state(const Value *v) {
    while (v->kind == VALUE_NODE) {
        int in = node_state_in(v->def, v->index);
        if (in < 0) return v;
        v = v->def->in[in];
    }
    return v;
}

/* The block table by which attention finds the pool's pages; NULL: no attention reads it. */
static const Value *table_of(const Graph *g, const Value *pool) {
    for (size_t i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.at[i];
        if (n->op == OP_attention && first_state(n->in[1]) == pool) return n->in[5];
    }
    return NULL;
}

static bool check_state(const Graph *g, const Value *v, Err *e) {
    bool pages = false;
    for (int d = 0; d < v->type.rank; d++) {
        pages |= v->type.dim[d].sym == SYM_P;
        if (v->type.dim[d].sym == SYM_T || v->type.dim[d].sym == SYM_S)
            return err_at(e, &v->loc, "state %s lives longer than a step: its size must not be T or S", v->name);
    }
    if (!pages) return true;
    if (!plan_pool(&v->type))
        return err_at(e, &v->loc, "state %s counts pages (P), so it must be a pool [P,2,kv_heads,%d,head_dim]", v->name,
                      KV_PAGE);
    return table_of(g, v) || err_at(e, &v->loc, "state %s: no attention reads it, so nobody knows its pages", v->name);
}

/* A node that finds a pool's pages by another table than attention does. */
static bool check_table(const Graph *g, const Node *n, Err *e) {
    if (n->op != OP_kv_write && n->op != OP_attention) return true;
    const Value *pool = first_state(n->in[n->op == OP_attention]), *table = table_of(g, pool);
    if (!table || table == n->in[5]) return true;
    return err_at(e, &n->loc, "%s finds the pages of %s by %s, an attention by %s", op_info(n->op)->name, pool->name,
                  n->in[5]->name, table->name);
}

static bool is_table(const Graph *g, const Value *v) {
    for (size_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i]->op == OP_attention && g->nodes.at[i]->in[5] == v) return true;
    return false;
}

/* --- weights ---------------------------------------------------------------------------------------------------------- */

static bool same_shape(const Type *t, const ModelTensor *m) {
    bool same = t->rank == m->rank;
    for (int i = 0; i < t->rank && same; i++) same = dim_eq(t->dim[i], dim_const(m->shape[i]));
    return same;
}

static const char *shape_text(Arena *a, const ModelTensor *m) {
    Type t = {.dtype = DT_F32, .rank = m->rank};
    for (int i = 0; i < m->rank; i++) t.dim[i] = dim_const(m->shape[i]);
    return type_str(a, &t) + strlen("f32");
}

static bool check_param(const Compile *c, const Value *v, Err *e) {
    ModelTensor want;
    Err why;
    bool known = c->model ? model_tensor(c->model, v->name, &want, &why)
                          : model_canonical(&c->plan.config, v->name, &want, &why);
    if (!known) return err_at(e, &v->loc, "param %s: %s", v->name, why.msg);
    if (!same_shape(&v->type, &want))
        return err_at(e, &v->loc, "param %s is %s, %s has %s", v->name, type_str(c->a, &v->type),
                      c->model ? "the checkpoint" : "a model of this configuration", shape_text(c->a, &want));
    if (v->type.dtype == DT_I32) return err_at(e, &v->loc, "param %s is i32: no weight is", v->name);
    if (v->type.dtype == DT_MXFP4 && want.dtype != DT_MXFP4)
        return err_at(e, &v->loc, "param %s is mxfp4, %s has it as %s: nothing is made mxfp4", v->name,
                      c->model ? "the checkpoint" : "a model of this configuration", dtype_name(want.dtype));
    return true;
}

/* --- the configuration against the checkpoint ------------------------------------------------------------------------- */

static bool check_config(const Compile *c, Err *e) {
    const ModelConfig *p = &c->plan.config, *m = c->model ? model_config(c->model) : p;
    const struct {
        const char *name;
        int64_t plan, model;
        bool less; /* may be less than the checkpoint's */
    } row[] = {
        {"vocab", p->vocab, m->vocab},          {"hidden", p->hidden, m->hidden},
        {"experts", p->experts, m->experts},    {"intermediate", p->intermediate, m->intermediate},
        {"head_dim", p->head_dim, m->head_dim}, {"heads", p->heads, m->heads},
        {"kv_heads", p->kv_heads, m->kv_heads}, {"layers", p->layers, m->layers, true},
    };
    const Loc loc = front_program_loc(c->front);
    for (size_t i = 0; i < LEN(row); i++)
        if (row[i].less ? row[i].plan > row[i].model : row[i].plan != row[i].model)
            return err_at(e, &loc, "program: config.%s is %lld, the checkpoint has %lld", row[i].name,
                          (long long)row[i].plan, (long long)row[i].model);
    return true;
}

/* --- all -------------------------------------------------------------------------------------------------------------- */

static bool check_graph(const Compile *c, const Graph *g, Err *e) {
    for (size_t i = 0; i < g->inputs.n; i++) {
        const Value *v = g->inputs.at[i];
        if (!check_input(c, g, v, e)) return false;
        if (!strncmp(v->name, "blocks.", 7) && !is_table(g, v))
            return err_at(e, &v->loc, "input %s is no attention's block table", v->name);
    }
    for (size_t i = 0; i < g->states.n; i++)
        if (!check_state(g, g->states.at[i], e)) return false;
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!check_table(g, g->nodes.at[i], e)) return false;
    for (size_t i = 0; i < g->params.n; i++)
        if (!check_param(c, g->params.at[i], e)) return false;
    return check_result(c, g, e);
}

bool interface_check(const Compile *c, Err *e) {
    if (!check_config(c, e) || !check_graphs(c, e)) return false;
    for (size_t i = 0; i < c->program->graphs.n; i++)
        if (!check_graph(c, c->program->graphs.at[i], e)) return false;
    return true;
}
