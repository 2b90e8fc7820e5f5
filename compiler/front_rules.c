/* front_rules.c - fusion { name, match, when, kernel, priority }: a rule's pattern is what match builds when it is called
 * with one placeholder for each of its parameters. */
#include "front_impl.h"
#include "part.h"
#include "scope.h"

enum { WHEN_STEPS = 10000000 };

#define RULE "fusion rule"
#define SEE(section) "; see docs/fusions.md, " section

/* Whatever is wrong in a rule's file: the first line of the message names the section that tells how it is written. */
static bool see(Err *e, const char *section) {
    char rest[sizeof e->msg];
    size_t n = strcspn(e->msg, "\n");
    if (strstr(e->msg, "docs/fusions.md")) return false;
    snprintf(rest, sizeof rest, "%s", e->msg + n);
    snprintf(e->msg + n, sizeof e->msg - n, "; see docs/fusions.md, %s%s", section, rest);
    return false;
}

static NORETURN int bad(lua_State *L, const Rule *r, const char *fmt, ...) PRINTF(3, 4);
static int bad(lua_State *L, const Rule *r, const char *fmt, ...) {
    char msg[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    front_error_at(L, &r->loc, "fusion %s: %s", r->name, msg);
}

/* --- the pattern -------------------------------------------------------------------------------------------------- */

static Front *in_match(lua_State *L, const char *fn) {
    Front *f = front_of(L);
    if (f->mode != MODE_PATTERN) front_error(L, fn, "%s: is used in a rule's match only", fn);
    return f;
}

static int l_maybe(lua_State *L) {
    Front *f = in_match(L, "maybe");
    Value *v = ops_test_value(L, 1);
    bool is_cast = v && v->def && v->def->op == OP_cast;
    if (!v || (v->kind != VALUE_INPUT && !is_cast)) return front_error(L, "maybe", "maybe: expects a parameter of match, or a cast's result" SEE("match"));
    if (f->n_maybe == (int)LEN(f->maybe)) return front_error(L, "maybe", "maybe: too many");
    f->maybe[f->n_maybe++] = v;
    lua_settop(L, 1);
    return 1;
}

static int l_recompute(lua_State *L) {
    Front *f = in_match(L, "recompute");
    Value *v = ops_test_value(L, 1);
    if (!v || v->kind != VALUE_NODE) return front_error(L, "recompute", "recompute: expects an op's result");
    if (!(op_info(v->def->op)->flags & OPF_CHEAP)) return front_error(L, "recompute", "recompute: %s is too dear to be computed twice" SEE("match"), op_info(v->def->op)->name);
    if (f->n_recompute == (int)LEN(f->recompute)) return front_error(L, "recompute", "recompute: too many");
    f->recompute[f->n_recompute++] = v->def;
    lua_settop(L, 1);
    return 1;
}

static const char *const places[] = {"attr", "scope", "layer"}; /* what when(m) sees besides the parameters of match */

/* Pushes one placeholder for each parameter of the function on top of the stack; gives their number. */
static int push_placeholders(lua_State *L, const Rule *r) {
    lua_Debug ar;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">u", &ar);
    if (ar.isvararg || !ar.nparams) return bad(L, r, "match must have parameters, one for each placeholder");
    if (ar.nparams > MAX_IN) return bad(L, r, "match has more than %d parameters", MAX_IN);
    int fn = lua_gettop(L);
    luaL_checkstack(L, ar.nparams + 4, NULL);
    for (int i = 1; i <= ar.nparams; i++) {
        lua_pushvalue(L, fn);
        const char *name = lua_getlocal(L, NULL, i);
        lua_pop(L, 1);
        if (!name) die("front_rules: match has no debug information");
        if (graph_find(r->pattern, name)) return bad(L, r, "match has two parameters %s", name);
        for (size_t k = 0; k < LEN(places); k++)
            if (!strcmp(name, places[k])) return bad(L, r, "a parameter of match cannot be called %s: when(m) has something else there" SEE("when"), name);
        Value *v = graph_input(r->pattern, name, (Type){.rank = -1});
        v->loc = r->loc;
        ops_push_value(L, v);
    }
    return ar.nparams;
}

static bool is_marked(const Front *f, const Value *v) {
    for (int k = 0; k < f->n_maybe; k++)
        if (f->maybe[k] == v) return true;
    return false;
}

/* What match returned, from stack index `first` on. */
static void read_outputs(lua_State *L, Rule *r, int first) {
    int n = lua_gettop(L) - first + 1;
    if (n < 1) bad(L, r, "match returns nothing" SEE("match"));
    if (n > MAX_OUT) bad(L, r, "match returns more than %d values", MAX_OUT);
    for (int i = first; i <= lua_gettop(L); i++) {
        Value *v = ops_test_value(L, i);
        if (!v) bad(L, r, "match returns %s as result %d, expects a value", lua_isnil(L, i) ? "nil" : luaL_typename(L, i), i - first + 1);
        if (v->kind != VALUE_NODE) bad(L, r, "match returns its parameter %s", v->name);
        if (is_marked(front_of(L), v) && v->def->in[0]->kind != VALUE_NODE)
            bad(L, r, "match returns maybe(cast(%s)), which is its parameter %s where there is no cast", v->def->in[0]->name, v->def->in[0]->name);
        if (v->is_output) bad(L, r, "match returns %s twice", v->name);
        graph_output(r->pattern, v);
    }
}

static bool reached(const Graph *g, const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]->is_output) return true;
    for (size_t i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.at[i]->n_in; k++) {
            const Value *v = g->nodes.at[i]->in[k];
            if (v && v->def == n) return true; /* its reader is checked by itself */
        }
    return false;
}

static void check_pattern(lua_State *L, const Rule *r) {
    const Graph *g = r->pattern;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.at[i];
        if (!reached(g, n)) front_error_at(L, &n->loc, "fusion %s: %s is not part of what match returns" SEE("match"), r->name, node_name(n));
        for (int k = 0; k < n->n_in && k < op_info(n->op)->min_in; k++)
            for (size_t j = 0; j < g->inputs.n; j++)
                if (n->in[k] == g->inputs.at[j] && r->optional[j])
                    front_error_at(L, &n->loc, "fusion %s: maybe(%s): %s cannot do without it", r->name, n->in[k]->name, op_info(n->op)->name);
    }
    for (size_t i = 0; i < g->inputs.n; i++)
        if (!graph_uses(g, g->inputs.at[i])) bad(L, r, "parameter %s of match is not used", g->inputs.at[i]->name);
}

static void read_match(lua_State *L, Rule *r) {
    Front *f = front_of(L);
    r->pattern = f->g = graph_new(f->a, r->name);
    f->free_names = (Map){.arena = f->a};
    f->mode = MODE_PATTERN;
    f->section = "match";
    f->scope = arena_printf(f->a, "rule %s", r->name);
    f->n_maybe = f->n_recompute = 0;
    if (lua_getfield(L, 1, "match") != LUA_TFUNCTION) bad(L, r, "match is missing (a function)" SEE("A first rule"));
    int fn = lua_gettop(L), n = push_placeholders(L, r);
    lua_call(L, n, LUA_MULTRET);
    read_outputs(L, r, fn);
    r->optional = arena_array(f->a, r->pattern->inputs.n, sizeof *r->optional);
    r->recompute = arena_array(f->a, r->pattern->nodes.n, sizeof *r->recompute);
    r->optional_cast = arena_array(f->a, r->pattern->nodes.n, sizeof *r->optional_cast);
    for (size_t i = 0; i < r->pattern->inputs.n; i++) r->optional[i] = is_marked(f, r->pattern->inputs.at[i]);
    for (size_t i = 0; i < r->pattern->nodes.n; i++) r->optional_cast[i] = is_marked(f, r->pattern->nodes.at[i]->out[0]);
    for (size_t i = 0; i < r->pattern->nodes.n; i++)
        for (int k = 0; k < f->n_recompute; k++) r->recompute[i] |= f->recompute[k] == r->pattern->nodes.at[i];
    check_pattern(L, r);
    ops_end_graph(f);
    f->section = "A first rule";
    lua_settop(L, fn - 1);
}

/* --- the rest of a rule ------------------------------------------------------------------------------------------- */

static const char *kernel_name(lua_State *L, const Rule *r) {
    const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (!name_ok(s)) bad(L, r, "a kernel is a template's name" SEE("Kernels"));
    return arena_strdup(front_of(L)->a, s);
}

/* {T = 64, "few"}, {"rmsnorm", "linear"}: on top of the stack. Several names: ops with launches of their own; "rmsnorm/linear". */
static KernelChoice read_choice(lua_State *L, const Rule *r, bool last) {
    KernelChoice k = {.max_t = INT64_MAX};
    if (!lua_istable(L, -1)) bad(L, r, "a recipe lists entries like { T = 64, \"kernel\" }, the last without T" SEE("Kernels"));
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        bool is_t = lua_type(L, -2) == LUA_TSTRING && !strcmp(lua_tostring(L, -2), "T");
        bool is_name = lua_isinteger(L, -2);
        if (!is_t && !is_name) bad(L, r, "a recipe's entry has T and names of kernels, nothing else" SEE("Kernels"));
        if (is_name) k.name = k.name ? arena_printf(front_of(L)->a, "%s/%s", k.name, kernel_name(L, r)) : kernel_name(L, r);
        if (is_t && (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1)) bad(L, r, "a recipe's T must be an integer of at least 1" SEE("Kernels"));
        if (is_t) k.max_t = lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    if (!k.name) bad(L, r, "a recipe's entry names no kernel" SEE("Kernels"));
    if (last != (k.max_t == INT64_MAX)) bad(L, r, last ? "a recipe's last entry has no T" SEE("Kernels") : "a recipe's entry %s needs a T (only the last has none)" SEE("Kernels"), k.name);
    return k;
}

static void read_kernel(lua_State *L, Rule *r) {
    int type = lua_getfield(L, 1, "kernel");
    if (type == LUA_TNIL) { /* default_kernel, when the pattern is known */
    } else if (type == LUA_TTABLE) {
        int n = (int)lua_rawlen(L, -1);
        if (n < 1 || n > (int)LEN(r->kernel)) bad(L, r, "a recipe has 1 to %d entries, this one %d" SEE("Kernels"), (int)LEN(r->kernel), n);
        for (int i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            KernelChoice k = read_choice(L, r, i == n);
            if (r->n_kernel && k.max_t <= r->kernel[r->n_kernel - 1].max_t) bad(L, r, "a recipe's T must ascend" SEE("Kernels"));
            r->kernel[r->n_kernel++] = k;
            lua_pop(L, 1);
        }
    } else {
        r->kernel[r->n_kernel++] = (KernelChoice){INT64_MAX, kernel_name(L, r)};
    }
    lua_pop(L, 1);
}

/* Without `kernel` the pattern's ops are composed around those that need a template. */
static void default_kernel(Rule *r) {
    const NodeList *l = &r->pattern->nodes;
    size_t i = 0;
    while (i < l->n && op_code(l->at[i]->op)->kind) i++;
    if (r->n_kernel || !l->n) return;
    r->kernel[r->n_kernel++] = (KernelChoice){INT64_MAX, op_info(l->at[i < l->n ? i : 0]->op)->name};
}

static void check_keys(lua_State *L, const Rule *r) {
    static const char *const known[] = {"name", "match", "when", "kernel", "priority"};
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        bool ok = false;
        for (size_t i = 0; i < LEN(known); i++) ok |= lua_type(L, -2) == LUA_TSTRING && !strcmp(lua_tostring(L, -2), known[i]);
        if (!ok) bad(L, r, "no key %s (name, match, when, kernel, priority)" SEE("A first rule"), luaL_tolstring(L, -2, NULL));
        lua_pop(L, 1);
    }
}

static int l_fusion(lua_State *L) {
    Front *f = front_of(L);
    if (!lua_istable(L, 1)) return front_error(L, "fusion", "fusion: expects a table");
    if (f->mode != MODE_NONE) return front_error(L, "fusion", "fusion: a graph is being built");
    Rule *r = arena_alloc(f->a, sizeof *r);
    r->loc = front_loc(L, 1, "fusion");
    r->file = r->loc.file;
    r->when = -1;
    bool is_named = lua_getfield(L, 1, "name") == LUA_TSTRING && name_ok(lua_tostring(L, -1));
    if (is_named && lua_rawlen(L, -1) > MAX_NAME) return front_error_at(L, &r->loc, "fusion: a name of %d letters (at most %d)" SEE("A first rule"), (int)lua_rawlen(L, -1), MAX_NAME);
    r->name = is_named ? arena_strdup(f->a, lua_tostring(L, -1)) : "?";
    check_keys(L, r);
    if (!is_named) return front_error_at(L, &r->loc, "fusion: name is missing (a string of letters, digits, . _ - / $)");
    int type = lua_getfield(L, 1, "priority");
    if (type != LUA_TNIL && (!lua_isinteger(L, -1) || lua_tointeger(L, -1) != (int)lua_tointeger(L, -1))) return bad(L, r, "priority must be an integer" SEE("Priorities"));
    r->priority = (int)lua_tointeger(L, -1);
    read_kernel(L, r);
    read_match(L, r);
    default_kernel(r);
    type = lua_getfield(L, 1, "when");
    if (type == LUA_TFUNCTION) r->when = luaL_ref(L, LUA_REGISTRYINDEX);
    else if (type != LUA_TNIL) return bad(L, r, "when must be a function" SEE("when"));
    *(Rule **)lua_newuserdatauv(L, sizeof r, 0) = r;
    luaL_setmetatable(L, RULE);
    return 1;
}

/* --- rule files --------------------------------------------------------------------------------------------------- */

static bool append(Front *f, RuleList *rules, uint64_t hash, Err *e) {
    Rule **box = luaL_testudata(f->L, -1, RULE);
    if (!box) return err_set(e, "%s: error: the file must return fusion { … } or a list of them", f->main_file);
    Rule *r = *box;
    if (rules->n == MAX_RULES) return err_at(e, &r->loc, "fusion %s: more than %d rules", r->name, MAX_RULES);
    for (size_t i = 0; i < rules->n; i++)
        if (!strcmp(rules->at[i]->name, r->name)) return err_at(e, &r->loc, "fusion %s: %s has a rule of this name", r->name, rules->at[i]->file);
    r->hash = hash;
    PUSH(f->a, *rules, r);
    return true;
}

bool front_rules(Front *f, const char *file, RuleList *rules, Err *e) {
    uint64_t hash;
    f->section = "A first rule";
    if (!front_run(f, file, &hash, e)) return see(e, f->section);
    bool ok = true;
    lua_Unsigned n = lua_istable(f->L, -1) ? lua_rawlen(f->L, -1) : 0;
    if (!lua_istable(f->L, -1)) ok = append(f, rules, hash, e);
    for (lua_Unsigned i = 1; ok && i <= n; i++) {
        lua_rawgeti(f->L, -1, (lua_Integer)i);
        ok = append(f, rules, hash, e);
        lua_pop(f->L, 1);
    }
    lua_pop(f->L, 1);
    return ok || see(e, "A first rule");
}

Loc front_rule_loc(const Front *f, const Rule *r, const char *text) {
    const char *quoted[] = {arena_printf(f->a, "\"%s\"", text), arena_printf(f->a, "'%s'", text)};
    Loc loc = r->loc;
    for (loc.line = r->loc.line; (loc.text = front_line(f, loc.file, loc.line)); loc.line++)
        for (size_t i = 0; i < LEN(quoted); i++) {
            const char *at = strstr(loc.text, quoted[i]);
            if (at) return loc.col = (int)(at - loc.text) + 2, loc;
        }
    return r->loc;
}

/* --- when(m) ------------------------------------------------------------------------------------------------------ */

/* m.<name> that is no placeholder, m.attr.<op> that was not matched: upvalue 1 says what was looked for. */
static int l_missing(lua_State *L) {
    Front *f = front_of(L);
    const char *key = luaL_tolstring(L, 2, NULL), *what = lua_tostring(L, lua_upvalueindex(1));
    if (!*what && !strcmp(key, "layer")) return lua_pushnil(L), 1; /* in none */
    for (size_t i = 0; f->rule && !*what && i < f->rule->pattern->inputs.n; i++)
        if (!strcmp(f->rule->pattern->inputs.at[i]->name, key)) return lua_pushnil(L), 1; /* optional and absent */
    return front_error(L, key, *what ? "%s %s" : "%sm has no %s: match has no parameter of this name", what, key);
}

static void strict(lua_State *L, const char *what) {
    lua_newtable(L);
    lua_pushstring(L, what);
    lua_pushcclosure(L, l_missing, 1);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

static void push_attrs(lua_State *L, const Node *n) {
    lua_newtable(L);
    for (int i = 0; i < n->n_attr; i++) {
        const Attr *a = &n->attr[i];
        if (a->type == ATTR_INT) lua_pushinteger(L, a->i);
        if (a->type == ATTR_FLOAT) lua_pushnumber(L, a->f);
        if (a->type == ATTR_STR) lua_pushstring(L, a->s);
        lua_setfield(L, -2, a->name);
    }
}

typedef struct When When;
struct When {
    const Rule *r;
    Value *const *bound;
    Node *const *matched;
    size_t n_matched;
    const char *scope;
};

/* m.attr.slice.width is the first matched slice's, m.attr.slice[2].width the second's. */
static void push_all_attrs(lua_State *L, const When *w) {
    lua_newtable(L);
    for (size_t i = 0; i < w->n_matched; i++) {
        if (!w->matched[i]) continue;
        const char *op = op_info(w->matched[i]->op)->name;
        push_attrs(L, w->matched[i]);
        if (lua_getfield(L, -2, op) == LUA_TNIL) { /* the first of its op also holds the list */
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, op);
            push_attrs(L, w->matched[i]);
            lua_rawseti(L, -2, 1);
            strict(L, arena_printf(front_of(L)->a, "%s has no attribute", op));
        } else {
            lua_pushvalue(L, -2);
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    strict(L, "m.attr: the pattern has no op");
}

/* Into the table on top. */
static void push_place(lua_State *L, const char *scope) {
    int64_t layer;
    lua_pushstring(L, scope);
    lua_setfield(L, -2, "scope");
    if (!scope_number(scope, "layer", &layer)) return;
    lua_pushinteger(L, layer);
    lua_setfield(L, -2, "layer");
}

static int l_when(lua_State *L) {
    const When *w = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->r->when);
    lua_newtable(L);
    for (size_t i = 0; i < w->r->pattern->inputs.n; i++) {
        if (!w->bound[i]) continue;
        ops_push_value(L, w->bound[i]);
        lua_setfield(L, -2, w->r->pattern->inputs.at[i]->name);
    }
    push_all_attrs(L, w);
    lua_setfield(L, -2, "attr");
    push_place(L, w->scope);
    strict(L, "");
    lua_call(L, 1, 1);
    if (!lua_isboolean(L, -1)) return bad(L, w->r, "when gave %s, expects true or false" SEE("when"), luaL_typename(L, -1));
    return 1;
}

bool front_when(Front *f, const Rule *r, Value *const *bound, Node *const *matched, size_t n_matched, const char *scope, bool *failed, Err *e) {
    *failed = false;
    if (r->when < 0) return true;
    lua_State *L = f->L;
    When w = {r, bound, matched, n_matched, scope};
    f->mode = MODE_WHEN;
    f->rule = (Rule *)r;
    f->scope = arena_printf(f->a, "rule %s", r->name);
    lua_pushcfunction(L, l_when);
    lua_pushlightuserdata(L, &w);
    bool ok = front_call(f, 1, 1, WHEN_STEPS, e), yes = false;
    ops_end_graph(f);
    *failed = !ok && !see(e, "when");
    if (ok) yes = lua_toboolean(L, -1), lua_pop(L, 1);
    return yes;
}

void rules_open(lua_State *L) {
    luaL_newmetatable(L, RULE);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_register(L, "fusion", l_fusion);
    lua_register(L, "maybe", l_maybe);
    lua_register(L, "recompute", l_recompute);
}
