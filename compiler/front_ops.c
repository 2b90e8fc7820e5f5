/* front_ops.c - what a graph file works with: values, dimensions, ops, scopes, program { … }.
 *
 * Op functions are bound generically from ops.def: name(inputs…, {attribute = value, name = "…"}). The same functions build
 * a rule's pattern, whose values have no types. A new op needs nothing here. */
#include "front_impl.h"

#include <stdlib.h>

#define VALUE "graph"
#define DIM "dimension"
#define PROGRAM "program"

typedef struct ValueBox ValueBox;
struct ValueBox {
    Value *v;
    Graph *g;
};

/* --- dimensions: T, S, P and 32 + 4 * T --------------------------------------------------------------------------- */

static void push_dim(lua_State *L, Dim d) {
    if (dim_is_const(d)) {
        lua_pushinteger(L, d.add);
        return;
    }
    *(Dim *)lua_newuserdatauv(L, sizeof d, 0) = d;
    luaL_setmetatable(L, DIM);
}

static bool test_dim(lua_State *L, int i, Dim *d) {
    const Dim *box = luaL_testudata(L, i, DIM);
    int ok = 0;
    if (box) return *d = *box, true;
    if (lua_type(L, i) == LUA_TNUMBER) *d = dim_const(lua_tointegerx(L, i, &ok));
    return ok;
}

static int dim_bad(lua_State *L, const char *op) { return front_error(L, op, "a dimension is number + number * symbol"); }

static int l_dim_add(lua_State *L) {
    Dim a, b;
    if (!test_dim(L, 1, &a) || !test_dim(L, 2, &b) || (a.sym && b.sym)) return dim_bad(L, "+");
    Dim d = a.sym ? a : b;
    if (__builtin_add_overflow(a.add, b.add, &d.add)) return front_error(L, "+", "a dimension beyond 64 bits");
    return push_dim(L, d), 1;
}

static int l_dim_mul(lua_State *L) {
    Dim a, b;
    if (!test_dim(L, 1, &a) || !test_dim(L, 2, &b) || (a.sym && b.sym)) return dim_bad(L, "*");
    Dim d = a.sym ? a : b;
    int64_t by = a.sym ? b.add : a.add;
    if (by < 1 || by > 1 << 20) return dim_bad(L, "*");
    if (__builtin_mul_overflow(d.mul, by, &d.mul) || __builtin_mul_overflow(d.add, by, &d.add)) return front_error(L, "*", "a dimension beyond 64 bits");
    return push_dim(L, d), 1;
}

static int l_dim_eq(lua_State *L) {
    const Dim *a = luaL_testudata(L, 1, DIM), *b = luaL_testudata(L, 2, DIM);
    return lua_pushboolean(L, a && b && dim_eq(*a, *b)), 1;
}

static int l_dim_text(lua_State *L) {
    Front *f = front_of(L);
    charge(L, CALL_WORK);
    Type t = {DT_F32, 1, {*(Dim *)luaL_checkudata(L, 1, DIM)}};
    const char *s = type_str(f->a, &t) + 4; /* f32[…] */
    return lua_pushlstring(L, s, strlen(s) - 1), 1;
}

/* --- values ------------------------------------------------------------------------------------------------------- */

void ops_push_value(lua_State *L, Value *v) {
    *(ValueBox *)lua_newuserdatauv(L, sizeof(ValueBox), 0) = (ValueBox){v, front_of(L)->g};
    luaL_setmetatable(L, VALUE);
}

Value *ops_test_value(lua_State *L, int i) {
    const ValueBox *b = luaL_testudata(L, i, VALUE);
    return b ? b->v : NULL;
}

/* What the author gave instead of a value. */
static const char *what(lua_State *L, int i) {
    if (lua_type(L, i) == LUA_TNUMBER) return "a number";
    if (luaL_testudata(L, i, DIM)) return "a dimension";
    if (lua_type(L, i) <= LUA_TNIL) return "nil";
    return lua_pushfstring(L, "a %s", luaL_typename(L, i));
}

static Value *check_value(lua_State *L, int i, const char *op, const char *input) {
    const ValueBox *b = luaL_testudata(L, i, VALUE);
    if (!b) front_error(L, op, "%s: %s is %s, expects a value", op, input, what(L, i));
    if (b->g != front_of(L)->g) front_error(L, op, "%s: %s (%s) belongs to another graph", op, input, b->v->name);
    return b->v;
}

static Front *check_building(lua_State *L, const char *what_for) {
    Front *f = front_of(L);
    if (f->mode == MODE_WHEN) front_error(L, what_for, "%s: when() only tests, it builds nothing", what_for);
    if (!f->g) front_error(L, what_for, "%s: is used in a function of program { … }, or in a rule's match", what_for);
    charge(L, CALL_WORK);
    return f;
}

/* x.shape[2]: a number; a symbol's dimension, which a rule's when() may not look at. */
static int l_shape_index(lua_State *L) {
    Front *f = front_of(L);
    const ValueBox *b = lua_touserdata(L, lua_upvalueindex(1));
    const Type *t = &b->v->type;
    int ok = 0;
    lua_Integer i = lua_tointegerx(L, 2, &ok);
    if (t->rank < 0) return front_error(L, "shape", "a pattern's value has no shape: test it in when()");
    if (!ok || i < 1 || i > t->rank) {
        if (f->mode == MODE_GRAPH && ok) return lua_pushnil(L), 1; /* so that ipairs ends */
        return front_error(L, "shape", "%s has the shape %s: no element %s", b->v->name, strchr(type_str(f->a, t), '['), luaL_tolstring(L, 2, NULL));
    }
    push_dim(L, t->dim[i - 1]);
    if (f->mode == MODE_WHEN && !dim_is_const(t->dim[i - 1]))
        return front_error(L, "shape", "%s.shape[%d] is %s: testing a symbolic dimension; see docs/fusions.md, when", b->v->name, (int)i, luaL_tolstring(L, -1, NULL));
    return 1;
}

static int l_shape_len(lua_State *L) {
    const ValueBox *b = lua_touserdata(L, lua_upvalueindex(1));
    return lua_pushinteger(L, b->v->type.rank), 1;
}

static int l_read_only(lua_State *L) { return front_error(L, NULL, "a value cannot be changed"); }

static void push_shape(lua_State *L, int value) {
    static const luaL_Reg methods[] = {{"__index", l_shape_index}, {"__len", l_shape_len}, {"__newindex", l_read_only}, {NULL, NULL}};
    value = lua_absindex(L, value);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, value);
    luaL_setfuncs(L, methods, 1);
    lua_setmetatable(L, -2);
}

static int l_value_index(lua_State *L) {
    const Value *v = ((ValueBox *)luaL_checkudata(L, 1, VALUE))->v;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    if (!strcmp(key, "name")) return lua_pushstring(L, v->name), 1;
    if (!strcmp(key, "shape")) return push_shape(L, 1), 1;
    if (strcmp(key, "dtype")) return front_error(L, key, "a value has no %s (it has shape, dtype and name)", key);
    if (v->type.rank < 0) return front_error(L, "dtype", "a pattern's value has no dtype: test it in when()");
    return lua_pushstring(L, dtype_name(v->type.dtype)), 1;
}

static int l_value_eq(lua_State *L) { return lua_pushboolean(L, ops_test_value(L, 1) == ops_test_value(L, 2)), 1; }

static int l_value_text(lua_State *L) {
    const Value *v = ((ValueBox *)luaL_checkudata(L, 1, VALUE))->v;
    charge(L, CALL_WORK);
    return lua_pushfstring(L, "%s: %s", v->name, type_str(front_of(L)->a, &v->type)), 1;
}

/* --- ops ---------------------------------------------------------------------------------------------------------- */

static const char *input_name(Front *f, Op op, int i) {
    const char *name = op_input_name(f->a, op, i);
    return name ? name : "an input";
}

static int by_name(const void *a, const void *b) { return strcmp(((const Attr *)a)->name, ((const Attr *)b)->name); }

/* A name as the author wrote it, at index i: before anything is made of it. */
static const char *check_name(lua_State *L, int i, const char *fn) {
    if (lua_rawlen(L, i) > MAX_NAME) front_error(L, fn, "%s: a name of %d letters (at most %d)", fn, (int)lua_rawlen(L, i), MAX_NAME);
    return lua_tostring(L, i);
}

/* The table at i: attributes, sorted so that messages do not depend on Lua's order; *name: of the value. */
static int read_attrs(lua_State *L, int i, const char *op, Attr *attr, const char **name) {
    Front *f = front_of(L);
    int n = 0;
    lua_pushnil(L);
    while (lua_next(L, i)) {
        if (lua_type(L, -2) != LUA_TSTRING) front_error(L, op, "%s: attributes are written name = value", op);
        Attr a = {.name = arena_strdup(f->a, check_name(L, -2, op))};
        int type = lua_type(L, -1);
        if (!strcmp(a.name, "name")) {
            if (type != LUA_TSTRING) front_error(L, op, "%s: name is %s, expects a string", op, what(L, -1));
            *name = arena_strdup(f->a, check_name(L, -1, op));
            lua_pop(L, 1);
            continue;
        }
        if (n == MAX_ATTR) front_error(L, op, "%s: more than %d attributes", op, MAX_ATTR);
        int whole = 0;
        if (type == LUA_TNUMBER) {
            a.f = lua_tonumber(L, -1);
            a.i = lua_tointegerx(L, -1, &whole);
            a.type = whole ? ATTR_INT : ATTR_FLOAT;
        } else if (type == LUA_TSTRING) {
            a.type = ATTR_STR;
            a.s = arena_strdup(f->a, check_name(L, -1, op));
        } else {
            front_error(L, op, "%s: attribute %s is %s, expects a number or a string", op, a.name, what(L, -1));
        }
        attr[n++] = a;
        lua_pop(L, 1);
    }
    qsort(attr, (size_t)n, sizeof *attr, by_name);
    return n;
}

/* The first of base.1, base.2 … that is free. */
static const char *numbered(Front *f, const char *base) {
    char *full = arena_alloc(f->a, strlen(base) + 16);
    uintptr_t i = (uintptr_t)map_get(&f->free_names, base);
    do sprintf(full, "%s.%u", base, (unsigned)(i = i ? i : 1)), i++;
    while (graph_find(f->g, full));
    map_put(&f->free_names, base, (void *)i);
    return full;
}

/* base.7 is free again. */
static void name_freed(Front *f, const char *name) {
    const char *dot = strrchr(name, '.');
    char *end;
    unsigned long i = dot ? strtoul(dot + 1, &end, 10) : 0;
    if (!i || *end) return;
    const char *base = arena_strndup(f->a, name, (size_t)(dot - name));
    if (i < (uintptr_t)map_get(&f->free_names, base)) map_put(&f->free_names, base, (void *)i);
}

/* A name in the current scope: as given, or made from the op. */
static const char *full_name(Front *f, const char *name, const char *op) {
    if (f->mode == MODE_PATTERN && !name) return NULL;
    const char *full = arena_printf(f->a, "%s%s", f->prefix, name ? name : op);
    return name || !graph_find(f->g, full) ? full : numbered(f, full);
}

static int build(lua_State *L, Op op, Value **in, int n_in, const Attr *attr, int n_attr, const char *name) {
    Front *f = front_of(L);
    Err e;
    if (f->g->nodes.n >= MAX_NODES) return front_error(L, op_info(op)->name, "%s: more than %d nodes in a graph", op_info(op)->name, MAX_NODES);
    Loc loc = front_loc(L, 1, op_info(op)->name);
    Node *n = graph_add(f->g, op, in, n_in, attr, n_attr, full_name(f, name, op_info(op)->name), loc, &e);
    if (!n) return front_error_at(L, &loc, "%s", e.msg);
    for (int i = 0; i < n->n_out; i++) ops_push_value(L, n->out[i]);
    return n->n_out;
}

static int l_op(lua_State *L) {
    Op op = (Op)lua_tointeger(L, lua_upvalueindex(1));
    const OpInfo *o = op_info(op);
    Front *f = check_building(L, o->name);
    Value *in[MAX_IN] = {0};
    Attr attr[MAX_ATTR];
    const char *name = NULL;
    int n_in = lua_gettop(L), n_attr = 0;
    if (n_in && lua_istable(L, n_in)) n_attr = read_attrs(L, n_in, o->name, attr, &name), n_in--;
    while (n_in > o->max_in && lua_isnil(L, n_in)) n_in--;
    if (n_in > o->max_in) return front_error(L, o->name, "%s: takes at most %d inputs (%s), given %d", o->name, o->max_in, o->in_names, n_in);
    for (int i = 0; i < n_in; i++) {
        if (i >= o->min_in && lua_isnil(L, i + 1)) continue;
        in[i] = check_value(L, i + 1, o->name, input_name(f, op, i));
    }
    return build(L, op, in, n_in, attr, n_attr, name);
}

static int l_value_add(lua_State *L) {
    check_building(L, "+");
    Value *in[] = {check_value(L, 1, "add", "the left side"), check_value(L, 2, "add", "the right side")};
    return build(L, OP_add, in, 2, NULL, 0, NULL);
}

static int l_value_mul(lua_State *L) {
    check_building(L, "*");
    int number = lua_type(L, 1) == LUA_TNUMBER ? 1 : lua_type(L, 2) == LUA_TNUMBER ? 2 : 0;
    if (number) {
        Value *x = check_value(L, 3 - number, "scale", "x");
        Attr by = {.name = "by", .type = ATTR_FLOAT, .f = lua_tonumber(L, number)};
        return build(L, OP_scale, &x, 1, &by, 1, NULL);
    }
    Value *in[] = {check_value(L, 1, "mul", "the left side"), check_value(L, 2, "mul", "the right side")};
    return build(L, OP_mul, in, 2, NULL, 0, NULL);
}

/* --- inputs, weights, states, outputs, names ---------------------------------------------------------------------- */

static Type read_type(lua_State *L, const char *fn, const char *name) {
    Type t = {.rank = 0};
    const char *dtype = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (!dtype || !dtype_parse(dtype, &t.dtype))
        front_error(L, fn, "%s %s: the type is %s, expects f32, bf16, i32 or mxfp4", fn, name, dtype ? dtype : what(L, 2));
    if (!lua_istable(L, 3)) front_error(L, fn, "%s %s: the shape is %s, expects a list of dimensions", fn, name, what(L, 3));
    lua_Unsigned rank = lua_rawlen(L, 3);
    if (rank > MAX_RANK) front_error(L, fn, "%s %s: more than %d dimensions", fn, name, MAX_RANK);
    for (; t.rank < (int)rank; t.rank++) {
        lua_rawgeti(L, 3, t.rank + 1);
        if (!test_dim(L, -1, &t.dim[t.rank])) front_error(L, fn, "%s %s: dimension %d is %s, expects an integer or T, S, P", fn, name, t.rank + 1, what(L, -1));
        lua_pop(L, 1);
    }
    Err e;
    if (!type_check(&t, &e)) front_error(L, fn, "%s %s: %s", fn, name, e.msg);
    return t;
}

/* input(name, type, {dims}), param, state: upvalue 1 is the ValueKind. */
static int l_outside(lua_State *L) {
    static const char *const names[] = {[VALUE_INPUT] = "input", [VALUE_PARAM] = "param", [VALUE_STATE] = "state"};
    ValueKind kind = (ValueKind)lua_tointeger(L, lua_upvalueindex(1));
    const char *fn = names[kind];
    Front *f = check_building(L, fn);
    if (f->mode == MODE_PATTERN) return front_error(L, fn, "%s: a rule's inputs are the parameters of match", fn);
    if (lua_type(L, 1) != LUA_TSTRING) return front_error(L, fn, "%s: the name is %s, expects a string", fn, what(L, 1));
    const char *name = arena_printf(f->a, "%s%s", f->prefix, check_name(L, 1, fn));
    if (f->g->inputs.n + f->g->params.n + f->g->states.n >= MAX_OUTSIDE) return front_error(L, fn, "%s: more than %d inputs, weights and states in a graph", fn, MAX_OUTSIDE);
    if (!name_ok(name)) return front_error(L, fn, "%s: \"%s\" is no name for a value (letters, digits, . _ - / $)", fn, name);
    Type t = read_type(L, fn, name);
    Value *v = graph_find(f->g, name);
    if (v && kind != VALUE_PARAM) return front_error(L, fn, "%s: the name %s is already used", fn, name);
    if (v && (v->kind != VALUE_PARAM || !type_eq(&v->type, &t)))
        return front_error(L, fn, "%s %s: is %s here, %s before", fn, name, type_str(f->a, &t), type_str(f->a, &v->type));
    if (!v) {
        v = kind == VALUE_INPUT ? graph_input(f->g, name, t) : kind == VALUE_STATE ? graph_state(f->g, name, t) : graph_param(f->g, name, t);
        v->loc = front_loc(L, 1, fn);
    }
    return ops_push_value(L, v), 1;
}

static int l_output(lua_State *L) {
    Front *f = check_building(L, "output");
    if (f->mode == MODE_PATTERN) return front_error(L, "output", "output: a rule's outputs are what match returns");
    Value *v = check_value(L, 1, "output", "its argument");
    if (v->is_output) return front_error(L, "output", "output: %s is an output already", v->name);
    graph_output(f->g, v);
    lua_settop(L, 1);
    return 1;
}

static int l_name(lua_State *L) {
    Front *f = check_building(L, "name");
    Value *v = check_value(L, 1, "name", "its first argument");
    if (lua_type(L, 2) != LUA_TSTRING) return front_error(L, "name", "name: the name is %s, expects a string", what(L, 2));
    const char *name = arena_printf(f->a, "%s%s", f->prefix, check_name(L, 2, "name"));
    if (v->kind != VALUE_NODE) return front_error(L, "name", "name: %s is no op's result and keeps its name", v->name);
    if (!name_ok(name)) return front_error(L, "name", "name: \"%s\" is no name for a value (letters, digits, . _ - / $)", name);
    const Value *other = graph_find(f->g, name);
    if (other && other != v) return front_error(L, "name", "name: the name %s is already used", name);
    name_freed(f, v->name);
    graph_rename(f->g, v, name);
    lua_settop(L, 1);
    return 1;
}

/* scope(name, [index], function, arguments…): names inside begin with "name<index>.", errors say "name <index>". */
static int l_scope(lua_State *L) {
    Front *f = check_building(L, "scope");
    if (lua_type(L, 1) != LUA_TSTRING || !name_ok(lua_tostring(L, 1))) return front_error(L, "scope", "scope: expects a name, then perhaps a number, then a function");
    const char *name = check_name(L, 1, "scope"), *scope = f->scope, *prefix = f->prefix, *index = "";
    int fn = lua_isinteger(L, 2) ? 3 : 2;
    if (fn == 3) index = arena_printf(f->a, "%lld", (long long)lua_tointeger(L, 2));
    if (!lua_isfunction(L, fn)) return front_error(L, "scope", "scope %s: argument %d is %s, expects a function", name, fn, what(L, fn));
    f->scope = arena_printf(f->a, "%s%s%s%s%s", scope, *scope ? " / " : "", name, *index ? " " : "", index);
    f->prefix = arena_printf(f->a, "%s%s%s.", prefix, name, index);
    lua_call(L, lua_gettop(L) - fn, LUA_MULTRET);
    f->scope = scope;
    f->prefix = prefix;
    return lua_gettop(L) - fn + 1;
}

/* --- the configuration -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t at;
    char type; /* i integer, f float, b boolean, t element type */
} fields[] = {
#define I(x) {#x, offsetof(ModelConfig, x), 'i'}
#define F(x) {#x, offsetof(ModelConfig, x), 'f'}
    I(vocab), I(hidden), I(experts), I(topk), I(intermediate), I(layers), I(head_dim), I(heads), I(kv_heads), I(max_seq), I(original_context), I(window),
    F(rope_theta), F(rope_factor), F(rope_beta_fast), F(rope_beta_slow), F(swiglu_limit), F(rms_eps),
    {"rope_truncate", offsetof(ModelConfig, rope_truncate), 'b'}, {"dense", offsetof(ModelConfig, dense), 't'}, {"experts_dtype", offsetof(ModelConfig, experts_dtype), 't'},
};

void ops_push_model(lua_State *L, const ModelConfig *c) {
    lua_newtable(L);
    for (size_t i = 0; i < LEN(fields); i++) {
        const void *p = (const char *)c + fields[i].at;
        switch (fields[i].type) {
        case 'i': lua_pushinteger(L, *(const int64_t *)p); break;
        case 'f': lua_pushnumber(L, *(const double *)p); break;
        case 'b': lua_pushboolean(L, *(const bool *)p); break;
        case 't': lua_pushstring(L, dtype_name(*(const DType *)p)); break;
        }
        lua_setfield(L, -2, fields[i].name);
    }
    lua_newtable(L);
    for (int64_t i = 0; i < c->layers && i < MODEL_MAX_LAYERS; i++) lua_pushboolean(L, c->sliding[i]), lua_rawseti(L, -2, i + 1);
    lua_setfield(L, -2, "sliding");
    lua_newtable(L);
    for (int i = 0; i < c->n_eos; i++) lua_pushinteger(L, c->eos[i]), lua_rawseti(L, -2, i + 1);
    lua_setfield(L, -2, "eos");
}

static void read_field(lua_State *L, ModelConfig *c, size_t i) {
    const char *name = fields[i].name;
    void *p = (char *)c + fields[i].at;
    int type = lua_getfield(L, -1, name), ok = 0;
    switch (fields[i].type) {
    case 'i': *(int64_t *)p = lua_tointegerx(L, -1, &ok); break;
    case 'f': *(double *)p = lua_tonumberx(L, -1, &ok); break;
    case 'b': *(bool *)p = lua_toboolean(L, -1), ok = type == LUA_TBOOLEAN; break;
    case 't': ok = type == LUA_TSTRING && dtype_parse(lua_tostring(L, -1), p); break;
    }
    if (type == LUA_TSTRING && fields[i].type != 't') ok = 0;
    if (!ok) front_error(L, "program", "program: config.%s is %s", name, type == LUA_TNIL ? "missing" : "of the wrong type");
    lua_pop(L, 1);
}

/* The table on top of the stack. */
static ModelConfig *read_config(lua_State *L) {
    ModelConfig *c = arena_alloc(front_of(L)->a, sizeof *c);
    for (size_t i = 0; i < LEN(fields); i++) read_field(L, c, i);
    if (c->layers < 1 || c->layers > MODEL_MAX_LAYERS) front_error(L, "program", "program: config.layers is %lld, must be 1 to %d", (long long)c->layers, MODEL_MAX_LAYERS);
    if (lua_getfield(L, -1, "sliding") != LUA_TTABLE || lua_rawlen(L, -1) != (lua_Unsigned)c->layers)
        front_error(L, "program", "program: config.sliding must say true or false for each of the %lld layers", (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        if (lua_rawgeti(L, -1, i + 1) != LUA_TBOOLEAN) front_error(L, "program", "program: config.sliding[%d] is %s, must be true or false", (int)i + 1, what(L, -1));
        c->sliding[i] = lua_toboolean(L, -1), lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (lua_getfield(L, -1, "eos") != LUA_TTABLE || lua_rawlen(L, -1) > MODEL_MAX_EOS) front_error(L, "program", "program: config.eos must list up to %d token ids", MODEL_MAX_EOS);
    c->n_eos = (int)lua_rawlen(L, -1);
    for (int i = 0; i < c->n_eos; i++) {
        int ok = lua_rawgeti(L, -1, i + 1) == LUA_TNUMBER;
        c->eos[i] = (int32_t)lua_tointeger(L, -1);
        if (!ok) front_error(L, "program", "program: config.eos must list token ids");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return c;
}

/* --- program { name = …, config = …, step = function … } ------------------------------------------------------------ */

void ops_end_graph(Front *f) {
    f->g = NULL;
    f->mode = MODE_NONE;
    f->scope = f->prefix = "";
    f->rule = NULL;
}

static void build_graph(lua_State *L, Program *p, const char *name) {
    Front *f = front_of(L);
    f->g = graph_new(f->a, name);
    f->free_names = (Map){.arena = f->a};
    graph_index(f->g, true);
    f->mode = MODE_GRAPH;
    lua_getfield(L, 1, name);
    lua_call(L, 0, 0);
    if (!f->g->outputs.n) front_error(L, "program", "program: graph %s has no output", name);
    PUSH(f->a, p->graphs, f->g);
    graph_index(f->g, false);
    ops_end_graph(f);
}

static int graph_rank(const char *name) {
    static const char *const order[] = {"step", "sample", "logits"};
    for (int i = 0; i < (int)LEN(order); i++)
        if (!strcmp(order[i], name)) return i;
    return (int)LEN(order);
}

static int by_rank(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    int d = graph_rank(x) - graph_rank(y);
    return d ? d : strcmp(x, y);
}

static int l_program(lua_State *L) {
    Front *f = front_of(L);
    const char *graphs[16], *name = NULL;
    size_t n = 0;
    if (f->g || f->mode == MODE_WHEN) return front_error(L, "program", "program: a graph is already being built");
    if (!lua_istable(L, 1)) return front_error(L, "program", "program: expects a table");
    f->config = NULL;
    f->program_loc = front_loc(L, 1, "program");
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? arena_strdup(f->a, check_name(L, -2, "program")) : "?";
        if (!strcmp(key, "name") && lua_type(L, -1) == LUA_TSTRING && name_ok(lua_tostring(L, -1))) name = arena_strdup(f->a, lua_tostring(L, -1));
        else if (!strcmp(key, "name")) return front_error(L, "program", "program: name must be a string of letters, digits, . _ - / $");
        else if (!strcmp(key, "config") && lua_istable(L, -1)) f->config = read_config(L);
        else if (!lua_isfunction(L, -1) || !name_ok(key)) return front_error(L, "program", "program: %s is %s, expects a function that builds a graph", key, what(L, -1));
        else if (n == LEN(graphs)) return front_error(L, "program", "program: more than %zu graphs", LEN(graphs));
        else graphs[n++] = key;
        lua_pop(L, 1);
    }
    if (!name) return front_error(L, "program", "program: name is missing");
    if (!n) return front_error(L, "program", "program: has no graph (step = function() … end)");
    qsort(graphs, n, sizeof *graphs, by_rank);
    Program *p = program_new(f->a, name);
    for (size_t i = 0; i < n; i++) build_graph(L, p, graphs[i]);
    Err e;
    if (!program_verify(p, &e)) { /* its message has a place already */
        f->err = e;
        lua_pushlightuserdata(L, f);
        return lua_error(L);
    }
    *(Program **)lua_newuserdatauv(L, sizeof p, 0) = p;
    luaL_setmetatable(L, PROGRAM);
    return 1;
}

Program *ops_test_program(lua_State *L, int i) {
    Program **p = luaL_testudata(L, i, PROGRAM);
    return p ? *p : NULL;
}

/* --- binding ------------------------------------------------------------------------------------------------------ */

static void class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static void with_number(lua_State *L, const char *name, int number, lua_CFunction fn) {
    lua_pushinteger(L, number);
    lua_pushcclosure(L, fn, 1);
    lua_setglobal(L, name);
}

void ops_open(lua_State *L) {
    static const luaL_Reg value[] = {{"__index", l_value_index}, {"__newindex", l_read_only}, {"__eq", l_value_eq}, {"__add", l_value_add},
                                     {"__mul", l_value_mul}, {"__tostring", l_value_text}, {NULL, NULL}};
    static const luaL_Reg dim[] = {{"__add", l_dim_add}, {"__mul", l_dim_mul}, {"__eq", l_dim_eq}, {"__tostring", l_dim_text}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    class(L, VALUE, value);
    class(L, DIM, dim);
    class(L, PROGRAM, none);
    for (int i = 0; i < OP_COUNT; i++)
        if (!(op_info((Op)i)->flags & OPF_INTERNAL)) with_number(L, op_info((Op)i)->name, i, l_op);
    with_number(L, "input", VALUE_INPUT, l_outside);
    with_number(L, "param", VALUE_PARAM, l_outside);
    with_number(L, "state", VALUE_STATE, l_outside);
    lua_register(L, "output", l_output);
    lua_register(L, "name", l_name);
    lua_register(L, "scope", l_scope);
    lua_register(L, "program", l_program);
    for (int s = SYM_T; s < SYM_COUNT; s++) {
        push_dim(L, dim_sym((Sym)s));
        lua_setglobal(L, (const char[]){" TSP"[s], 0});
    }
    for (int d = 0; d < DT_COUNT; d++) lua_pushstring(L, dtype_name((DType)d)), lua_setglobal(L, dtype_name((DType)d));
}
