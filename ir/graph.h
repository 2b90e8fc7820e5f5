/* graph.h - the intermediate representation: a program of typed graphs over the ops of ops.def.
 *
 * A Program holds the graphs of one model: "step" (T tokens -> hidden rows), "sample" and "logits" (the head over S
 * rows). A Graph is a list of nodes in topological order. A Value has a dtype, a shape and a name that is unique in
 * its graph ("layer7.attn.q"). State (the KV cache) is a value too: kv_write(state, …) gives the next state, and each
 * state value is consumed at most once by a writing op (graph_verify).
 *
 * A fused node (op FUSED) keeps the subgraph it replaced as its body: a Graph whose inputs and outputs correspond to the
 * node's, in order. So it can be executed by the reference functions, checked and explained.
 *
 * Memory: everything lives in the arena given to graph_new; nothing is freed singly. */
#ifndef GPTOSS_GRAPH_H
#define GPTOSS_GRAPH_H

#include "dtype.h"

enum { MAX_RANK = 5, MAX_IN = 24, MAX_OUT = 8, MAX_ATTR = 8 };

/* A dimension: add + mul * symbol. Constants have sym SYM_NONE and mul 0. */
typedef enum Sym { SYM_NONE, SYM_T /* tokens in this step */, SYM_S /* rows to sample */, SYM_P /* KV pages */, SYM_COUNT } Sym;
typedef struct Dim Dim;
struct Dim {
    Sym sym;
    int64_t mul, add;
};
typedef struct Sizes Sizes; /* what the symbols stand for in one step */
struct Sizes {
    int64_t of[SYM_COUNT];
};
static inline Dim dim_const(int64_t n) { return (Dim){SYM_NONE, 0, n}; }
static inline Dim dim_sym(Sym s) { return (Dim){s, 1, 0}; }
static inline bool dim_is_const(Dim d) { return d.sym == SYM_NONE; }
static inline bool dim_eq(Dim a, Dim b) { return a.sym == b.sym && a.mul == b.mul && a.add == b.add; }
static inline int64_t dim_eval(Dim d, const Sizes *s) { return d.add + (d.sym ? d.mul * s->of[d.sym] : 0); }

typedef struct Type Type;
struct Type {
    DType dtype;
    int rank;
    Dim dim[MAX_RANK];
};
bool type_eq(const Type *a, const Type *b);
int64_t type_count(const Type *t, const Sizes *s); /* elements */
size_t type_bytes(const Type *t, const Sizes *s);  /* dies on overflow: shapes are checked when made */
char *type_str(Arena *a, const Type *t);           /* "f32[T,2880]", "i32[32+4*T,4]", "?" (rank -1: a pattern's) */
bool type_check(const Type *t, Err *e);            /* rank, positive dimensions, no overflow, MXFP4 in blocks of 32 */

/* Where the author wrote it. col is 1-based, 0 when unknown; text is the source line for the caret, NULL when unknown. */
typedef struct Loc Loc;
struct Loc {
    const char *file, *text, *scope; /* scope: "layer 7 / attn", "" at top level */
    int line, col;
};

typedef enum Op {
#define OP(name, ...) OP_##name,
#include "ops.def"
#undef OP
    OP_COUNT
} Op;

typedef enum AttrType { ATTR_INT, ATTR_FLOAT, ATTR_STR } AttrType;
typedef struct Attr Attr;
struct Attr {
    const char *name;
    AttrType type;
    int64_t i;
    double f;
    const char *s;
};

typedef struct KernelChoice KernelChoice; /* which template computes a fused node, up to a number of tokens */
struct KernelChoice {
    int64_t max_t;
    const char *name;
};

typedef struct Value Value;
typedef struct Node Node;
typedef struct Graph Graph;

typedef enum ValueKind { VALUE_NODE /* a node's output */, VALUE_INPUT, VALUE_PARAM /* a weight */, VALUE_STATE /* initial state */ } ValueKind;

struct Value {
    const char *name;
    ValueKind kind;
    Type type;
    Node *def;   /* VALUE_NODE: who computes it, as output `index`; else NULL */
    int index;
    bool is_output; /* of its graph (graph_output, graph_set_output) */
    bool may_round; /* VALUE_PARAM: conversion from the file's type may round (the precision pass set it) */
    Loc loc;
    int id; /* scratch for passes; no meaning between them */
    void *mark;
};

struct Node {
    Op op;
    int n_in, n_out, n_attr;
    Value *in[MAX_IN]; /* an optional input that is absent is NULL */
    Value *out[MAX_OUT];
    Attr attr[MAX_ATTR];
    Loc loc;
    /* op FUSED only: in[] is, in this order, what the kernel's template takes (n_kernel_in: the rule's placeholders in the
     * order of its match function, NULL for an absent optional one), what the elementwise chain behind it reads (up to
     * n_body_in), and what lowering added (group's perm and tiles). */
    Graph *body;       /* body inputs = the non-NULL ones of in[0 … n_body_in), body outputs = out[], in order */
    int n_kernel_in, n_body_in;
    const char *rule;  /* the rule that made it; "elementwise" when only a chain was inlined into an op's own kernel */
    KernelChoice kernel[3]; /* by ascending max_t; the last one's is INT64_MAX */
    int n_kernel;
    Value *hook;       /* body value that the template itself computes as its first result; body nodes that follow from it
                          are inlined as the generated hook. == body->outputs.at[0] when there is no chain */
    int id;
};

typedef struct ValueList ValueList;
struct ValueList {
    Value **at;
    size_t n, cap;
};
typedef struct NodeList NodeList;
struct NodeList {
    Node **at;
    size_t n, cap;
};

struct Graph {
    const char *name; /* "step", "sample", "logits"; a body: the rule's name */
    Arena *arena;
    NodeList nodes; /* topological order */
    ValueList inputs, params, states, outputs; /* of a body: inputs holds everything that comes from outside */
    struct Map *names; /* values by name, while it is being built: graph_index */
};

typedef struct Program Program;
struct Program {
    const char *name; /* "gpt-oss-20b" */
    Arena *arena;
    struct {
        Graph **at;
        size_t n, cap;
    } graphs;
};

/* --- the ops ------------------------------------------------------------------------------------------------------ */

typedef enum OpFlags {
    OPF_NONE = 0,
    OPF_ELEMENTWISE = 1, /* output element depends on the same element of in[0] (others: same shape or broadcast) */
    OPF_CHEAP = 2,       /* may be recomputed by a fusion */
    OPF_COMMUTES = 4,    /* in[0] and in[1] may be exchanged */
    OPF_STATE = 8,       /* out[0] is in[0] updated in place */
    OPF_INTERNAL = 16    /* made by passes; not bound in Lua */
} OpFlags;

enum { EXPERT_NONE = -2 }; /* among experts' ids: none of this device's (ops.def, own) */

/* What an input is, as its words in ops.def tell. X(enum, the word) */
#define OPERAND_WORDS(X)                                                                                           \
    X(ROUND, "round") X(WEIGHT, "weight") X(KV, "kv") X(EXACT, "exact") X(DISTINCT, "distinct") X(NONE, "none")
#define OPERAND_MEANINGS(X)                                                                                        \
    X(WIDE, "wide") X(TIES, "ties") X(TOKEN, "token") X(SOURCE, "source") X(BELOW, "below")         \
    X(SLOT, "slot") X(POSITION, "position") X(PAGES, "pages") X(SAMPLING, "sampling") X(SHARE, "share")
typedef enum OperandBit {
#define X(e, word) OPERAND_BIT_##e,
    OPERAND_WORDS(X)
#undef X
        OPERAND_BITS
} OperandBit;
enum {
#define X(e, word) OPERAND_##e = 1 << OPERAND_BIT_##e,
    OPERAND_WORDS(X)
#undef X
};
typedef enum Meaning {
    MEANS_NUMBERS, /* no word: floats of size 1 */
#define X(e, word) MEANS_##e,
    OPERAND_MEANINGS(X)
#undef X
} Meaning;
typedef struct Operand Operand;
struct Operand {
    int flags; /* OPERAND_ROUND … */
    Meaning means;
    char below[24]; /* MEANS_BELOW: of what */
};

typedef struct OpInfo OpInfo;
struct OpInfo {
    const char *name;
    int min_in, max_in, n_out;
    int flags;
    const char *in_names;  /* "x g": for messages, dumps and docs */
    const char *operands;  /* "round weight -": op_operand reads it */
    const char *out_names; /* "ids p"; the first output is named like the node */
    const char *attrs;     /* "eps:f=1e-5 window:i": name:type[=default]; without a default the attribute is required */
    const char *doc;       /* one line: the formula */
    bool (*infer)(Node *n, Err *e); /* checks inputs' types and attributes; writes out[]->type */
};
const OpInfo *op_info(Op op);
bool op_find(const char *name, Op *op);
/* The i-th of the op's `attrs` with its default (strings in `arena`); false past the last. */
bool op_attr(Arena *arena, Op op, int i, Attr *a, bool *required);
/* The value that precision fast gives the i-th, where ops.def names one. */
bool op_attr_fast(Arena *arena, Op op, int i, Attr *a);
Operand op_operand(Op op, int i); /* what input i is; dies when ops.def has an unknown word */
int op_input(Op op, const char *name); /* the index of the input of that name, -1 when there is none */
const char *op_input_name(Arena *a, Op op, int i); /* NULL when it has none: there are fewer, or any number */

int64_t node_int(const Node *n, const char *attr); /* dies when the op has no such attribute */
double node_float(const Node *n, const char *attr);
const char *node_str(const Node *n, const char *attr);
void node_set_int(Node *n, const char *attr, int64_t v); /* sets or adds */
void node_set_float(Node *n, const char *attr, double v);
void node_set_str(Node *n, const char *attr, const char *v);
const Attr *node_attr(const Node *n, const char *attr); /* NULL when absent */
const char *node_name(const Node *n); /* its first output's name */
/* The input that the node updates in place to give output `out` (an op with OPF_STATE; a fused node whose body has one),
 * else -1. */
int node_state_in(const Node *n, int out);

/* n itself when it is of `op`, else the first such node of its body; NULL when there is none. */
const Node *node_of_op(const Node *n, Op op);

/* Several devices (--ep): which of the graph's nodes run on each of them, for the experts of its share; the others run on the first
 * device alone. Into everywhere [nodes]. They lie between own or fetch, whose results are a device's own, and join. */
void graph_everywhere(const Graph *g, bool *everywhere);

/* --- making graphs ------------------------------------------------------------------------------------------------ */

Program *program_new(Arena *a, const char *name);
Graph *program_graph(const Program *p, const char *name); /* NULL when absent */
Graph *graph_new(Arena *a, const char *name);

Value *graph_input(Graph *g, const char *name, Type t);
Value *graph_param(Graph *g, const char *name, Type t); /* the same name again gives the same value; types must agree (dies) */
Value *graph_state(Graph *g, const char *name, Type t);
void graph_output(Graph *g, Value *v);
Value *graph_find(const Graph *g, const char *name); /* any value; NULL when absent */
/* While a graph is built with the functions above and below, or grows, an index finds names at once; off before anything else changes it. */
void graph_index(Graph *g, bool on);
void graph_rename(Graph *g, Value *v, const char *name);

/* Whether a value may be called that: letters, digits and . _ - / $ only, not "nil" (dump.c). */
bool name_ok(const char *name);

/* A node of `op` on `in`, at the end of g->nodes, attributes defaulted from ops.def, outputs typed by infer. name: of the first output (further
 * ones get ".suffix" from ops.def); NULL: made up from the op, unique in the graph. Not yet in g->nodes on error.
 * On error e holds the message without location, e.g. "linear: input is 2880 wide, weight expects 2944"; NULL.
 * When an input's rank is -1 (a rule's pattern), nothing is inferred or defaulted and the outputs have rank -1 too. */
Node *graph_add(Graph *g, Op op, Value *const *in, int n_in, const Attr *attr, int n_attr, const char *name, Loc loc, Err *e);

/* --- changing graphs ---------------------------------------------------------------------------------------------- */

void graph_replace_uses(Graph *g, Value *old, Value *by, const Node *except); /* in nodes and outputs */
void graph_set_output(Graph *g, size_t i, Value *v); /* instead of the one there */
int graph_uses(const Graph *g, const Value *v); /* reads by nodes, plus one when it is an output */
/* All types anew, after inputs' or weights' have changed. Where one no longer fits, e is at the node: "WHO: …". */
bool graph_infer(Graph *g, const char *who, Err *e);
void graph_clear_marks(const Graph *g); /* Value.mark of all its values */
void graph_sort(Graph *g);   /* restores topological order, stably (readers of a state before its writer); dies on a cycle */
void graph_prune(Graph *g);  /* drops nodes whose outputs nobody reads (not those that write state), unread inputs, params, states */
Graph *graph_clone(Arena *a, const Graph *g); /* deep, bodies included */

/* Types, names, order, single definition, linear use of state, bodies that fit their nodes. The message names the
 * node and its location. */
bool graph_verify(const Graph *g, Err *e);
bool program_verify(const Program *p, Err *e);

/* --- text --------------------------------------------------------------------------------------------------------- */

/* The dump is stable (no pointers, times, paths) and program_load reads it back to an equal program.
 * Format: see dump.c's header. */
void program_dump(const Program *p, Text *t);
void program_dot(const Program *p, Text *t); /* for graphviz: dot.c */
void graph_dump(const Graph *g, Text *t);
void node_dump_attrs(const Node *n, Text *t); /* " {eps=1e-05}"; nothing when it has none */
Program *program_load(Arena *a, const char *text, const char *file, Err *e); /* "file:line:col: error: …" */

/* The scope as names of values begin: "layer7.attn"; in the arena. */
const char *loc_path(Arena *a, const Loc *loc);

/* "file:line:col: error: MSG\n<source line>\n<caret>\n  in <scope>". Returns false. */
bool err_at(Err *e, const Loc *loc, const char *fmt, ...) PRINTF(3, 4);

#endif
