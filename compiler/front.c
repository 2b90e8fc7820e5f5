/* front.c - the Lua interpreter of graph files and rules: what they may use, how files are found, how errors are shown.
 *
 * Lua is deterministic here: no os, io, debug, load, coroutines, pcall, random; pairs() goes in key order (lua/dsl.lua).
 * An endless loop, more than 512 MiB of memory and a text of more than 1 MiB are errors (front_budget.c says how work is counted).
 * See front_ops.c for the ops and front_rules.c for rules. */
#include "front_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#include "ir/near.h"

enum { HOOK_EVERY = 1000, FILE_STEPS = 300000000, ALL_SECONDS = 6 };
static const size_t MAX_MEMORY = (size_t)512 << 20;
enum { MAX_FILE = 128 << 10 }; /* real ones have 10 KB; Lua compiles a chain of "or" in quadratic time: this much in 2 s (2026-11-30) */

/* --- places ------------------------------------------------------------------------------------------------------- */

static const Source *source_of(const Front *f, const char *file) {
    for (size_t i = f->sources.n; i-- > 0;)
        if (!strcmp(f->sources.at[i].file, file)) return &f->sources.at[i];
    return NULL;
}

const char *front_line(const Front *f, const char *file, int line) {
    const Source *s = source_of(f, file);
    return s && line >= 1 && line <= s->n_lines ? s->line[line - 1] : NULL;
}

static void split_lines(Arena *a, Source *s) {
    int n = 1;
    for (const char *p = s->text; (p = strchr(p, '\n')); p++) n++;
    s->line = arena_array(a, (size_t)n, sizeof *s->line);
    for (const char *p = s->text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        s->line[s->n_lines++] = arena_strndup(a, p, strcspn(p, "\r\n"));
}

static bool name_char(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* Column of `name` as a whole word, where it is called if it is; 0 when it is not there. */
static int column(const char *line, const char *name) {
    size_t n = strlen(name);
    int first = 0;
    for (const char *s = line; n && (s = strstr(s, name)); s++) {
        if (name_char(*name) && ((s > line && name_char(s[-1])) || name_char(s[n]))) continue;
        const char *next = s + n + strspn(s + n, " \t");
        int col = (int)(s - line) + 1;
        if (*next && strchr("({\"'", *next)) return col;
        if (!first) first = col;
    }
    return first;
}

static const char *operator_of(const char *metamethod) {
    return !strcmp(metamethod, "add") ? "+" : !strcmp(metamethod, "mul") ? "*" : !strcmp(metamethod, "index") ? "" : metamethod;
}

/* The place of the first Lua code at `level` or further out. lua/dsl.lua (chunk "=dsl") does not count as the author's. */
Loc front_loc(lua_State *L, int level, const char *name) {
    Front *f = front_of(L);
    lua_Debug ar, callee;
    Loc loc = {.file = f->main_file, .scope = f->scope};
    for (; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && *ar.source == '@') break;
    }
    if (!lua_getstack(L, level, &ar)) return loc;
    const Source *source = source_of(f, ar.source + 1);
    loc.file = source ? source->file : arena_strdup(f->a, ar.source + 1);
    loc.line = ar.currentline;
    loc.text = front_line(f, loc.file, loc.line);
    if (!loc.text) return loc;
    if (level > 0 && lua_getstack(L, level - 1, &callee) && lua_getinfo(L, "n", &callee) && callee.name && strcmp(callee.namewhat, "hook")) {
        const char *called = strcmp(callee.namewhat, "metamethod") ? callee.name : operator_of(callee.name);
        loc.col = column(loc.text, called);
    }
    if (!loc.col && name) loc.col = column(loc.text, name);
    return loc;
}

/* --- throwing ----------------------------------------------------------------------------------------------------- */

static NORETURN void throw(lua_State *L) {
    lua_pushlightuserdata(L, front_of(L)); /* says: the text is in f->err */
    lua_error(L);
    __builtin_unreachable();
}

int front_error_at(lua_State *L, const Loc *loc, const char *fmt, ...) {
    char msg[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    err_at(&front_of(L)->err, loc, "%s", msg);
    throw(L);
}

int front_error(lua_State *L, const char *name, const char *fmt, ...) {
    char msg[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    Loc loc = front_loc(L, 1, name);
    front_error_at(L, &loc, "%s", msg);
}

/* The name in "… (local 'x')" or "near 'x'": where the caret goes. */
static int quoted_column(Arena *a, const char *line, const char *msg) {
    const char *s = strchr(msg, '\'');
    const char *end = s ? strchr(s + 1, '\'') : NULL;
    return line && end && end > s + 1 ? column(line, arena_strndup(a, s + 1, (size_t)(end - s - 1))) : 0;
}

/* Behind "file:line: ", which Lua puts before its own messages. */
static const char *behind_place(const char *msg, int *line) {
    for (const char *s = strchr(msg, ':'); s; s = strchr(s + 1, ':')) {
        size_t n = strspn(s + 1, "0123456789");
        if (n && n < 9 && !strncmp(s + 1 + n, ": ", 2)) return *line = atoi(s + 1), s + n + 3;
    }
    return msg;
}

/* Message handler: Lua's own errors in the form of ours. Runs before the stack unwinds. */
static int on_error(lua_State *L) {
    Front *f = front_of(L);
    if (lua_touserdata(L, 1) == f) return 1;
    int line = 0;
    const char *msg = lua_isstring(L, 1) ? behind_place(lua_tostring(L, 1), &line) : luaL_typename(L, 1);
    Loc loc = front_loc(L, 1, NULL);
    if (line || !loc.col) loc.col = quoted_column(f->a, loc.text, msg);
    err_at(&f->err, &loc, "%s", msg);
    lua_pushlightuserdata(L, f);
    return 1;
}

static void on_count(lua_State *L, lua_Debug *ar) {
    (void)ar;
    charge(L, HOOK_EVERY);
}

bool front_call(Front *f, int nargs, int nresults, int64_t steps, Err *e) {
    lua_State *L = f->L;
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, on_error);
    lua_insert(L, base);
    budget_start(f, steps);
    if (lua_gethookcount(L) != HOOK_EVERY) lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_EVERY); /* first, or behind an ended budget (charge); else it counts on */
    int status = lua_pcall(L, nargs, nresults, base);
    budget_end(f);
    lua_remove(L, base);
    if (status == LUA_OK) return true;
    if (status == LUA_ERRMEM) err_at(e, &f->full, "%s", f->full_why ? f->full_why : "out of memory");
    else if (lua_touserdata(L, -1) == f) *e = f->err;
    else err_set(e, "%s: error: an error in the error handler", f->main_file ? f->main_file : "lua");
    lua_settop(L, base - 1);
    ops_end_graph(f);
    lua_gc(L, LUA_GCCOLLECT, 0);
    return false;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

/* Compiles text; false: f->err is set. */
static bool compile(Front *f, const char *file, const char *text, size_t n, const char *chunk) {
    lua_State *L = f->L;
    if (luaL_loadbufferx(L, text, n, chunk, "t") == LUA_OK) return true;
    Loc loc = {.file = arena_strdup(f->a, file)};
    const char *full = lua_tostring(L, -1), *msg = behind_place(full ? full : "?", &loc.line);
    if (!strncmp(msg, "attempt to load a binary", 24) || strstr(msg, "binary chunk")) msg = "this is no Lua text";
    if (loc.line) loc.text = front_line(f, file, loc.line);
    if (loc.line) loc.col = quoted_column(f->a, loc.text, msg);
    err_at(&f->err, &loc, "%s", msg);
    lua_pop(L, 1);
    return false;
}

/* Reads and compiles a file; the chunk is on the stack. */
static bool load_file(Front *f, const char *file, uint64_t *hash, Err *e) {
    size_t n;
    const char *text = file_read_text_most(f->a, file, MAX_FILE, &n, e);
    if (!text) return false;
    if (hash) *hash = hash64(text, n);
    Source s = {.file = arena_strdup(f->a, file), .text = text};
    split_lines(f->a, &s);
    PUSH(f->a, f->sources, s);
    if (compile(f, s.file, text, n, arena_printf(f->a, "@%s", file))) return true;
    *e = f->err;
    return false;
}

bool front_run(Front *f, const char *file, uint64_t *hash, Err *e) {
    f->main_file = arena_strdup(f->a, file);
    budget_start(f, FILE_STEPS);
    bool ok = load_file(f, file, hash, e);
    budget_end(f); /* nothing ends the compiling of a file, but it takes from the seconds that all have together */
    return ok && front_call(f, 0, 1, FILE_STEPS, e);
}

static const char *module_path(Front *f, const char *dir, size_t n, const char *name) {
    char *path = arena_printf(f->a, "%.*s%s.lua", (int)n, dir, name);
    return access(path, R_OK) ? NULL : path;
}

/* require "name": beside the graph file, then in lua/. What it returned is kept in the registry under its path. */
static int l_require(lua_State *L) {
    Front *f = front_of(L);
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "", *path, *slash = strrchr(f->main_file, '/');
    if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")])
        return front_error(L, "require", "require: expects a module's name (letters, digits, _ and -)");
    path = module_path(f, f->main_file, slash ? (size_t)(slash - f->main_file) + 1 : 0, name);
    const char *dir = f->o.lua_dir ? arena_printf(f->a, "%s/", f->o.lua_dir) : NULL;
    if (!path && dir) path = module_path(f, dir, strlen(dir), name);
    if (!path) return front_error(L, "require", "require: there is no %s.lua beside %s%s%s", name, f->main_file, dir ? " or in " : "", dir ? dir : "");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "gptoss.modules");
    if (lua_getfield(L, -1, path) == LUA_TLIGHTUSERDATA) return front_error(L, "require", "require: %s requires itself", name);
    if (!lua_isnil(L, -1)) return 1;
    lua_pop(L, 1);
    lua_pushlightuserdata(L, f);
    lua_setfield(L, -2, path);
    Err e;
    charge(L, HOOK_EVERY); /* nothing ends the compiling of a file */
    if (!load_file(f, path, NULL, &e)) f->err = e, throw(L);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) lua_pop(L, 1), lua_pushboolean(L, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, path);
    return 1;
}

/* --- what Lua sees ------------------------------------------------------------------------------------------------ */

/* A global that is not there: usually a misspelt op. */
static int l_no_global(lua_State *L) {
    Near near = {lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?"};
    if (!strcmp(near.word, "model")) return lua_pushnil(L), 1; /* without --model */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING) near_try(&near, lua_tostring(L, -2));
        lua_pop(L, 1);
    }
    return front_error(L, near.word, "%s is not defined%s%s%s", near.word, NEAR_HINT(near));
}

static int l_set_global(lua_State *L) {
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    return front_error(L, name, "%s is a global variable: write local %s", name, name);
}

/* The author's call was a tail call, which leaves no trace: look in the file for what the message quotes. */
static void find_quoted(Front *f, Loc *loc, const char *msg) {
    const char *text = NULL;
    for (size_t i = 0; i < f->sources.n; i++)
        if (!strcmp(f->sources.at[i].file, f->main_file)) text = f->sources.at[i].text;
    for (int line = 1; text; line++, text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL) {
        const char *s = arena_strndup(f->a, text, strcspn(text, "\r\n"));
        int col = quoted_column(f->a, s, msg);
        if (!col || !strncmp(s + strspn(s, " \t"), "--", 2)) continue;
        loc->line = line, loc->col = col, loc->text = s;
        return;
    }
}

static int l_error(lua_State *L) {
    const char *msg = lua_isstring(L, 1) ? lua_tostring(L, 1) : luaL_typename(L, 1);
    int level = (int)luaL_optinteger(L, 2, 1);
    Loc loc = front_loc(L, level > 0 ? level : 1, level > 1 ? NULL : "error");
    if (!loc.line) find_quoted(front_of(L), &loc, msg);
    return front_error_at(L, &loc, "%s", msg);
}

static int l_print(lua_State *L) { /* stdout is for results */
    for (int i = 1; i <= lua_gettop(L); i++) {
        size_t n;
        const char *s = luaL_tolstring(L, i, &n);
        charge(L, CALL_WORK * 10 + (int64_t)n); /* nobody reads so much */
        fprintf(stderr, "%s%s", i > 1 ? "\t" : "", printable(arena_strdup(front_of(L)->a, s), true));
        lua_pop(L, 1);
    }
    fputc('\n', stderr);
    return 0;
}

static int l_note(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    charge(L, CALL_WORK * 10 + (int64_t)n);
    fprintf(stderr, "note: %s: %s\n", front_of(L)->main_file, printable(arena_strdup(front_of(L)->a, s), true));
    return 0;
}

static void push_options(lua_State *L, const FrontOptions *o) {
    lua_newtable(L);
    lua_pushinteger(L, o->max_batch);
    lua_setfield(L, -2, "max_batch");
    lua_pushinteger(L, o->max_tokens);
    lua_setfield(L, -2, "max_tokens");
    if (o->max_seq) lua_pushinteger(L, o->max_seq), lua_setfield(L, -2, "max_seq");
    lua_setglobal(L, "options");
}

static void forget(lua_State *L, const char *table, const char *const *names) {
    if (*table) lua_getglobal(L, table);
    else lua_pushglobaltable(L);
    for (; *names; names++) lua_pushnil(L), lua_setfield(L, -2, *names);
    lua_pop(L, 1);
}

static void open_libraries(lua_State *L) {
    static const luaL_Reg libs[] = {{"_G", luaopen_base}, {"string", luaopen_string}, {"table", luaopen_table}, {"math", luaopen_math}, {"utf8", luaopen_utf8}};
    for (size_t i = 0; i < LEN(libs); i++) {
        luaL_requiref(L, libs[i].name, libs[i].func, 1);
        lua_pop(L, 1);
    }
    forget(L, "", (const char *const[]){"load", "loadfile", "dofile", "collectgarbage", "pcall", "xpcall", "warn", "_VERSION", NULL});
    forget(L, "math", (const char *const[]){"random", "randomseed", NULL});
    forget(L, "string", (const char *const[]){"dump", NULL});
    budget_wrap(L);
}

/* Reading or writing a global that does not exist is an error. */
static void lock_globals(lua_State *L) {
    lua_pushglobaltable(L);
    lua_newtable(L);
    lua_pushcfunction(L, l_no_global);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_set_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static int l_open(lua_State *L) {
    static const luaL_Reg own[] = {{"require", l_require}, {"error", l_error}, {"print", l_print}, {"note", l_note}, {NULL, NULL}};
    Front *f = front_of(L);
    open_libraries(L);
    lua_pushglobaltable(L);
    luaL_setfuncs(L, own, 0);
    lua_pop(L, 1);
    ops_open(L);
    rules_open(L);
    push_options(L, &f->o);
    if (f->o.model) ops_push_model(L, f->o.model), lua_setglobal(L, "model");
    const char *path = arena_printf(f->a, "%s/dsl.lua", f->o.lua_dir);
    size_t n;
    Err e;
    const char *text = file_read_text_most(f->a, path, MAX_FILE, &n, &e);
    if (!text) f->err = e, throw(L);
    if (!compile(f, path, text, n, "=dsl")) throw(L);
    lua_call(L, 0, 0);
    lock_globals(L);
    return 0;
}

/* Lua collects its garbage and asks again, then throws an error that has no place: it is kept here. */
static void *refuse(Front *f, const char *why) {
    f->full = f->L ? front_loc(f->L, 0, NULL) : (Loc){.file = "lua", .scope = ""};
    f->full.col = 0;
    f->full_why = why;
    return NULL;
}

static void *allocate(void *ctx, void *p, size_t old, size_t size) {
    Front *f = ctx;
    bool text = !p && old == LUA_TSTRING;
    if (!p) old = 0;
    if (text && size > MAX_STRING + 64 /* Lua's header of it */) return refuse(f, arena_printf(f->a, "a text of more than %d MiB", MAX_STRING >> 20));
    if (size > old && f->used - old + size > MAX_MEMORY) {
        bool time = !f->L || budget_take(f, (int64_t)(f->used / 16)); /* a collection walks through all of it */
        return refuse(f, time ? arena_printf(f->a, "out of memory: the file needs more than %zu MiB", MAX_MEMORY >> 20) : budget_why(f));
    }
    void *q = size ? realloc(p, size) : NULL;
    if (size && !q) return NULL;
    if (!size) free(p);
    f->used += size - old;
    return q;
}

Front *front_open(Arena *a, const FrontOptions *o, Err *e) {
    Front *f = arena_alloc(a, sizeof *f);
    f->a = a;
    f->o = *o;
    f->scope = f->prefix = "";
    f->seconds = ALL_SECONDS;
    f->L = lua_newstate(allocate, f);
    if (!f->L) return err_set(e, "lua: out of memory"), NULL;
    *(Front **)lua_getextraspace(f->L) = f;
    lua_pushcfunction(f->L, l_open);
    if (front_call(f, 0, 0, FILE_STEPS, e)) return f;
    front_close(f);
    return NULL;
}

void front_close(Front *f) {
    if (f && f->L) lua_close(f->L);
    if (f) f->L = NULL;
}

/* --- programs ----------------------------------------------------------------------------------------------------- */

/* A module that is run directly has its program made by its function main. */
static bool call_main(Front *f, Err *e) {
    lua_State *L = f->L;
    if (!lua_istable(L, -1)) return true;
    lua_pushliteral(L, "main");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return lua_isfunction(L, -1) ? front_call(f, 0, 1, FILE_STEPS, e) : true;
}

Program *front_program(Front *f, const char *file, Err *e) {
    f->config = NULL;
    if (!front_run(f, file, NULL, e) || !call_main(f, e)) return NULL;
    Program *p = ops_test_program(f->L, -1);
    lua_pop(f->L, 1);
    if (!p) return err_set(e, "%s: error: the file must return program { … }", file), NULL;
    return p;
}

const ModelConfig *front_config(const Front *f) { return f->config; }

Loc front_program_loc(const Front *f) { return f->program_loc; }
