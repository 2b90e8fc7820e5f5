/* front.h - the Lua front end: graph files, fusion files, and the functions they call.
 *
 * Lua 5.4 without os, io, time, random, load of binary chunks; require finds modules beside the graph file, then in lua/.
 * Every op of ops.def is a global function; errors name the author's line with a caret. */
#ifndef GPTOSS_FRONT_H
#define GPTOSS_FRONT_H

#include "ir/graph.h"
#include "model/model.h"

/* Nodes of a graph of the compiler's input. The 120b's step has 900; several passes take a time that is their number's square. */
enum { MAX_NODES = 12000 };

typedef struct Front Front;

typedef struct FrontOptions FrontOptions;
struct FrontOptions {
    const ModelConfig *model; /* of --model, NULL without; the Lua global `model` (nil without) */
    int64_t max_batch, max_tokens, max_seq; /* max_seq 0: the configuration's; the Lua global `options` */
    const char *lua_dir; /* where lua/ is, for require */
};

/* An interpreter with ops and DSL loaded. a: owns all that it makes. NULL on error. */
Front *front_open(Arena *a, const FrontOptions *o, Err *e);
void front_close(Front *f);

/* Runs a graph file; it must return a program (what the DSL's `program` gives), or a module (a table) whose function
 * `main` gives one: so gpt_oss.lua is both a graph file and a module. Verified. */
Program *front_program(Front *f, const char *file, Err *e);

/* What the program was made for: its program{config = …}, that is the checkpoint's or the graph file's own numbers.
 * NULL when the last front_program gave none. */
const ModelConfig *front_config(const Front *f);
Loc front_program_loc(const Front *f); /* where program{…} was called */

/* A fusion rule, as read from a file: see fuse.h for what is done with it. */
typedef struct Rule Rule;
struct Rule {
    const char *name, *file;
    bool given;         /* by the user (--fusions): when it comes to nothing, that is a warning */
    int priority;       /* larger first; default 0 */
    uint64_t hash;      /* of the file's text */
    Graph *pattern;     /* ops on placeholders: inputs in the order of match's parameters; types unknown (rank -1) */
    bool *optional;     /* per pattern input: wrapped in maybe() */
    bool *recompute;    /* per pattern node (in order): marked recompute() */
    bool *optional_cast; /* per pattern node: a cast wrapped in maybe(); where the graph has none, its input stands for it */
    KernelChoice kernel[3];
    int n_kernel;
    int when;           /* reference into the interpreter, -1 without */
    Loc loc;
};
typedef struct RuleList RuleList;
struct RuleList {
    Rule **at;
    size_t n, cap;
};
/* Runs a fusion file (it returns fusion{…} or a list of them) and appends its rules. */
bool front_rules(Front *f, const char *file, RuleList *rules, Err *e);
/* Where the rule, from its first line on, has this text in quotation marks; its own place when that is nowhere. */
Loc front_rule_loc(const Front *f, const Rule *r, const char *text);
/* Evaluates the rule's `when` on bound[i] = the value of pattern input i (NULL: absent), attributes of matched nodes (NULL: of an
 * optional op that is absent) under m.attr.<op>.<name>, and where the match lies: m.scope ("layer7.attn"), m.layer (7, or nil).
 * True when there is no `when`. An error in the function (testing a symbolic dimension too) sets *failed. */
bool front_when(Front *f, const Rule *r, Value *const *bound, Node *const *matched, size_t n_matched, const char *scope, bool *failed, Err *e);

#endif
