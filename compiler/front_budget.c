/* front_budget.c - how much work a Lua file may cause: instructions, and what one instruction can make C do.
 *
 * Lua's count hook sees only Lua's own instructions; a library function may run for ever inside one of them (string.rep("", 2^62),
 * table.move over 2^60 keys, a pattern that backtracks, __len that lies, __gc, which runs without hooks). So each library function
 * is called through l_charged, which takes the work that its arguments ask for off the same budget, before it is done; and at each
 * call and hook the CPU time is looked at, which bounds what is left: comparing long strings, collecting garbage, compiling modules.
 * Memory: front.c's allocate. */
#include "front_impl.h"

#include <math.h>
#include <time.h>

enum {
    BYTES = 16 /* of a string, for one unit */,
    ITEM = 4 /* units to move one item of a table */
};

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void budget_start(Front *f, int64_t steps) {
    f->steps = steps;
    f->began = cpu_seconds();
}

void budget_end(Front *f) { f->seconds -= cpu_seconds() - f->began; }

/* Takes work off; false: none is left. */
bool budget_take(Front *f, int64_t work) {
    f->steps = work < f->steps ? f->steps - work : 0;
    f->late = f->late || cpu_seconds() - f->began > f->seconds;
    return f->steps > 0 && !f->late;
}

const char *budget_why(const Front *f) {
    if (f->late) return "this takes too long (stopped here after too many seconds of computing)";
    return "this looks like an endless loop (stopped here after too many instructions)";
}

void charge(lua_State *L, int64_t work) {
    Front *f = front_of(L);
    if (budget_take(f, work)) return;
    lua_sethook(L, lua_gethook(L), LUA_MASKCOUNT, 1); /* what Lua runs on its way out, of variables that are closed, ends at its first instruction */
    Loc loc = front_loc(L, 0, NULL);
    loc.col = 0;
    front_error_at(L, &loc, "%s", budget_why(f));
}

/* --- what a call costs -------------------------------------------------------------------------------------------- */

typedef enum Cost {
    COST_TEXT,
    COST_REP,
    COST_PATTERN,
    COST_PACK,
    COST_CONCAT,
    COST_UNPACK,
    COST_INSERT,
    COST_REMOVE,
    COST_MOVE,
    COST_SORT
} Cost;

/* The length of the table at `at`, whose items its function finds at once. */
static int64_t items(lua_State *L, int at) {
    static const char *const other[] = {"__len", "__index", "__newindex"};
    if (!lua_istable(L, at)) return 0; /* it will say so */
    for (size_t i = 0; i < LEN(other); i++)
        if (luaL_getmetafield(L, at, other[i]) != LUA_TNIL) front_error(L, other[i], "a table with %s cannot be used here", other[i]);
    return (int64_t)lua_rawlen(L, at);
}

static int64_t at_most(double work) { return work < 1e18 ? (int64_t)work : (int64_t)1e18; }

/* From the argument at `from`, or 1, to the next one, or n. */
static int64_t range(lua_State *L, int from, int64_t n) {
    double first = lua_isnoneornil(L, from) ? 1 : lua_tonumber(L, from), last = lua_isnoneornil(L, from + 1) ? (double)n : lua_tonumber(L, from + 1);
    return at_most(fmax(0, last - first) + 1);
}

/* Two items are compared as far as they are equal, of NUL bytes (strcoll) one by one. */
static int64_t sort(lua_State *L, int64_t n) {
    size_t longest = 0;
    for (int64_t i = 1; i <= n; i++, lua_pop(L, 1))
        if (lua_rawgeti(L, 1, i) == LUA_TSTRING && lua_rawlen(L, -1) > longest) longest = lua_rawlen(L, -1);
    return at_most((double)n * 2 * log2((double)n + 2) * (1 + (double)longest));
}

static int64_t texts(lua_State *L) {
    int64_t n = 0;
    for (int i = 1; i <= lua_gettop(L); i++)
        if (lua_type(L, i) == LUA_TSTRING) n += (int64_t)lua_rawlen(L, i) / BYTES;
    return n + lua_gettop(L);
}

static int64_t rep(lua_State *L) {
    double times = fmax(0, lua_tonumber(L, 2)), bytes = 0;
    for (int i = 1; i <= 3; i += 2)
        if (lua_type(L, i) == LUA_TSTRING) bytes += (double)lua_rawlen(L, i);
    if (times * bytes > MAX_STRING) front_error(L, "rep", "a text of more than %d MiB", MAX_STRING >> 20);
    return at_most(times * (1 + bytes / BYTES));
}

/* Lua's matcher backtracks: k repetitions on n letters can be tried in about n^k / k! ways, from each of n beginnings. */
static int64_t pattern(lua_State *L) {
    enum { MAX_WORK = 400000000 };
    if (lua_type(L, 1) != LUA_TSTRING || lua_type(L, 2) != LUA_TSTRING) return texts(L);
    const char *p = lua_tostring(L, 2);
    size_t length = lua_rawlen(L, 2);
    double n = (double)lua_rawlen(L, 1) + 1, work = n * (1 + (double)length / BYTES);
    int k = 0;
    for (size_t i = 0; i < length; i++) {
        if (p[i] == '%' && i + 1 < length) k += p[i + 1] == 'b' || (p[i + 1] >= '1' && p[i + 1] <= '9'), i++;
        else k += p[i] && strchr("*+-?", p[i]);
    }
    for (int i = 1; i <= k; i++) work *= n / i > 1 ? n / i : 1;
    if (work > MAX_WORK)
        front_error(L, NULL, "a pattern with %d repetitions on a text of %d bytes could take for ever", k,
                    (int)lua_rawlen(L, 1));
    return at_most(work / 4) + 1;
}

/* A format of a few letters fills as many bytes as its numbers say, one by one. */
static int64_t pack(lua_State *L) {
    double bytes = 0, n = 0;
    const char *p = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
    for (; *p; p++) {
        bool digit = *p >= '0' && *p <= '9';
        if (!digit) bytes += n;
        n = digit ? n * 10 + (*p - '0') : 0;
    }
    return texts(L) + at_most((bytes + n) / ITEM);
}

static int64_t cost(lua_State *L, Cost c) {
    int64_t n = c >= COST_CONCAT ? items(L, 1) : 0;
    if (c == COST_MOVE) items(L, 5);
    switch (c) {
    case COST_TEXT: return texts(L);
    case COST_REP: return rep(L);
    case COST_PATTERN: return pattern(L);
    case COST_PACK: return pack(L);
    case COST_CONCAT: return range(L, 3, n);
    case COST_UNPACK: return range(L, 2, n);
    case COST_INSERT: return lua_gettop(L) > 2 ? at_most(fmax(1, (double)n - lua_tonumber(L, 2)) * ITEM) : 1;
    case COST_REMOVE: return lua_gettop(L) > 1 ? at_most(fmax(1, (double)n - lua_tonumber(L, 2)) * ITEM) : 1;
    case COST_MOVE: return at_most(fmax(1, lua_tonumber(L, 3) - lua_tonumber(L, 2)) * ITEM);
    case COST_SORT: return sort(L, n);
    }
    return 1;
}

/* The function of upvalue 1, in this call's own frame: so messages name it as the author did. */
static int l_charged(lua_State *L) {
    lua_CFunction fn = lua_tocfunction(L, lua_upvalueindex(1));
    charge(L, cost(L, (Cost)lua_tointeger(L, lua_upvalueindex(2))));
    return fn(L);
}

/* A text of nothing, 2^62 times, is nothing; string.rep would count. */
static int l_rep(lua_State *L) {
    bool nothing = lua_type(L, 1) == LUA_TSTRING && !lua_rawlen(L, 1) &&
                   (lua_isnoneornil(L, 3) || (lua_type(L, 3) == LUA_TSTRING && !lua_rawlen(L, 3)));
    if (nothing) lua_pushinteger(L, 1), lua_replace(L, 2);
    return l_charged(L);
}

/* A finalizer runs where no hook reaches it. */
static int l_setmetatable(lua_State *L) {
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL) return front_error(L, "setmetatable", "setmetatable: __gc is not available");
        lua_pop(L, 1);
    }
    return l_charged(L);
}

static void wrap(lua_State *L, const char *name, Cost c) {
    lua_CFunction with = !strcmp(name, "rep") ? l_rep : !strcmp(name, "setmetatable") ? l_setmetatable : l_charged;
    if (lua_getfield(L, -1, name) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        return;
    }
    lua_pushinteger(L, c);
    lua_pushcclosure(L, with, 2);
    lua_setfield(L, -2, name);
}

void budget_wrap(lua_State *L) {
    static const struct {
        const char *library, *name;
        Cost cost;
    } known[] = {
        {"string", "rep", COST_REP},        {"string", "find", COST_PATTERN}, {"string", "match", COST_PATTERN},
        {"string", "gmatch", COST_PATTERN}, {"string", "gsub", COST_PATTERN}, {"string", "byte", COST_TEXT},
        {"string", "char", COST_TEXT},      {"string", "format", COST_TEXT},  {"string", "len", COST_TEXT},
        {"string", "lower", COST_TEXT},     {"string", "upper", COST_TEXT},   {"string", "reverse", COST_TEXT},
        {"string", "sub", COST_TEXT},       {"string", "pack", COST_PACK},    {"string", "packsize", COST_TEXT},
        {"string", "unpack", COST_TEXT},    {"utf8", "char", COST_TEXT},      {"utf8", "codepoint", COST_TEXT},
        {"utf8", "len", COST_TEXT},         {"utf8", "offset", COST_TEXT},    {"table", "concat", COST_CONCAT},
        {"table", "unpack", COST_UNPACK},   {"table", "insert", COST_INSERT}, {"table", "remove", COST_REMOVE},
        {"table", "move", COST_MOVE},       {"table", "sort", COST_SORT},     {"table", "pack", COST_TEXT},
        {"_G", "select", COST_TEXT},        {"_G", "tonumber", COST_TEXT},    {"_G", "tostring", COST_TEXT},
        {"_G", "setmetatable", COST_TEXT},
    };
    for (size_t i = 0; i < LEN(known); i++) {
        lua_getglobal(L, known[i].library);
        wrap(L, known[i].name, known[i].cost);
        lua_pop(L, 1);
    }
}
