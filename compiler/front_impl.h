/* front_impl.h - what the files of the front end share. front.c: the interpreter, files and errors; front_ops.c: values,
 * ops, scopes, programs; front_rules.c: fusion rules. */
#ifndef GPTOSS_FRONT_IMPL_H
#define GPTOSS_FRONT_IMPL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "front.h"

enum { MAX_NODES = 50000 };

typedef struct Source Source; /* a file that was run: its lines are quoted in errors */
struct Source {
    const char *file, *text;
};

typedef enum FrontMode { MODE_NONE, MODE_GRAPH, MODE_PATTERN, MODE_WHEN } FrontMode;

struct Front {
    Arena *a;
    lua_State *L;
    FrontOptions o;
    struct {
        Source *at;
        size_t n, cap;
    } sources;
    const char *main_file; /* the file that was asked for, not one it requires */
    size_t used;           /* bytes of Lua's memory */
    int64_t steps;         /* instructions left before a loop counts as endless */
    Err err;               /* the error being thrown, complete with its place */

    FrontMode mode;
    Graph *g;                           /* the graph being built, NULL outside */
    const char *scope, *prefix;         /* "layer 7 / attn", "layer7.attn." */
    Loc program_loc;                    /* of program{…} */
    ModelConfig *config;                /* from program{config = …} */
    Value *maybe[MAX_IN];               /* of the pattern being built: what maybe() and recompute() marked */
    int n_maybe;
    Node *recompute[64];
    int n_recompute;
    Rule *rule; /* whose when() runs */
};

static inline Front *front_of(lua_State *L) { return *(Front **)lua_getextraspace(L); }

/* Throws "file:line:col: error: …" at the Lua line that called the running C function. name: what to look for in that
 * line when Lua does not know what the function was called as. */
int raise(lua_State *L, const char *name, const char *fmt, ...) PRINTF(3, 4);
int raise_loc(lua_State *L, const Loc *loc, const char *fmt, ...) PRINTF(3, 4); /* … at a known place */
Loc front_loc(lua_State *L, int level, const char *name);
const char *front_line(const Front *f, const char *file, int line); /* of a file that was run; NULL: it has no such line */

/* Calls what lies on the stack under nargs arguments, with a budget of instructions. False: *e is set, the stack as before. */
bool front_call(Front *f, int nargs, int nresults, int64_t steps, Err *e);

/* Runs a file; its one result is left on the stack. hash: of the text, may be NULL. */
bool front_run(Front *f, const char *file, uint64_t *hash, Err *e);

/* front_ops.c */
void ops_open(lua_State *L);
void ops_push_value(lua_State *L, Value *v);
Value *ops_test_value(lua_State *L, int i); /* NULL when it is none */
Program *ops_test_program(lua_State *L, int i);
void ops_push_model(lua_State *L, const ModelConfig *c);
void ops_end_graph(Front *f); /* after an error, too */

/* front_rules.c */
void rules_open(lua_State *L);

#endif
