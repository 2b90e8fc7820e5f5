/* front_impl.h - what the files of the front end share. front.c: the interpreter, files and errors; front_ops.c: values,
 * ops, scopes, programs; front_rules.c: fusion rules. */
#ifndef GPTOSS_FRONT_IMPL_H
#define GPTOSS_FRONT_IMPL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "front.h"
#include "ir/map.h"

enum { MAX_OUTSIDE = 50000 /* inputs, weights and states of a graph */, MAX_RULES = 1000, MAX_NAME = 500, MAX_STRING = 1 << 20 /* bytes */, CALL_WORK = 200 /* of an op, at least */ };

typedef struct Source Source; /* a file that was run: its lines are quoted in errors */
struct Source {
    const char *file, *text;
    const char **line; /* each line, from 1 on: made once, since every op's place holds one */
    int n_lines;
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
    int64_t steps;         /* the budget (front_budget.c): instructions left before a loop counts as endless … */
    double began, seconds; /* … and CPU time: when the call began, what is left for it and all later ones */
    bool late;
    Loc full;              /* where memory ran out, and why */
    const char *full_why;
    Err err;               /* the error being thrown, complete with its place */

    FrontMode mode;
    Graph *g;                           /* the graph being built, NULL outside */
    Map free_names;                     /* of g: base -> the least N so that base.N may be free */
    const char *scope, *prefix;         /* "layer 7 / attn", "layer7.attn." */
    Loc program_loc;                    /* of program{…} */
    ModelConfig *config;                /* from program{config = …} */
    Value *maybe[MAX_IN];               /* of the pattern being built: what maybe() and recompute() marked */
    int n_maybe;
    Node *recompute[64];
    int n_recompute;
    const char *section; /* of docs/fusions.md: what is read of a rule now */
    Rule *rule; /* whose when() runs */
};

static inline Front *front_of(lua_State *L) { return *(Front **)lua_getextraspace(L); }

/* Throws "file:line:col: error: …" at the Lua line that called the running C function. name: what to look for in that
 * line when Lua does not know what the function was called as. */
NORETURN int front_error(lua_State *L, const char *name, const char *fmt, ...) PRINTF(3, 4);
NORETURN int front_error_at(lua_State *L, const Loc *loc, const char *fmt, ...) PRINTF(3, 4); /* … at a known place */
Loc front_loc(lua_State *L, int level, const char *name);
const char *front_line(const Front *f, const char *file, int line); /* of a file that was run; NULL: it has no such line */

/* Calls what lies on the stack under nargs arguments, with a budget of instructions, and of the seconds that all calls share. False:
 * *e is set, the stack as before. */
bool front_call(Front *f, int nargs, int nresults, int64_t steps, Err *e);

/* front_budget.c */
void budget_start(Front *f, int64_t steps);
bool budget_take(Front *f, int64_t work);    /* false: nothing is left */
void budget_end(Front *f);                   /* what the call took is gone from the seconds of later ones */
const char *budget_why(const Front *f);      /* then: the message */
void charge(lua_State *L, int64_t work);     /* takes; throws at the author's line when nothing is left */
void budget_wrap(lua_State *L);              /* library functions charge from now on */

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
