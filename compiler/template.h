/* template.h - kernel templates: .hip files (in host/, .c) whose head (lines beginning "//!") declares what the compiler and the kernel
 * test need. Adding a kernel is adding a file; nothing here knows one by name.
 *
 *   //! kernel linear(x: f32|bf16[T,K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
 *   //! precision fast              only for this --precision (default: both)
 *   //! arch gfx90a                 only for this target (default: all)
 *   //! priority 10                 the legal template of the highest priority is taken (default 0)
 *   //! attr  EPS = rmsnorm.eps     a constant: the attribute of the (body's) node of that op; where several nodes are of it
 *                                   and differ, slice[2].offset is the second one's, in the body's order (--dump fuse)
 *   //! cast  XN = rmsnorm          a constant XN_BF16: 1 when that op's result is cast to bf16 inside the body
 *   //! const ROWS = 4              a constant: an integer expression over what is bound so far
 *   //! tune  ROWS 2 8              values that ROWS, a const above, may have instead: --tune tries them (tuning.h). What the kernel computes,
 *                                   to the bit, must not depend on it
 *   //! where K % 32 == 0           must hold, else the template is not legal here (the message shows the values)
 *   //! group perm, tiles = ids, TILE   needs the pairs of input `ids` grouped by expert into tiles of TILE rows
 *   //! grid  ceil(N, ROWS), ceil(T, TOKENS)      in blocks; T: the tokens of the bucket
 *   //! block 256
 *   //! with  product               needs that part of the target's prelude too (targets.def)
 *   //! body  linear.hip            what stands below that template's head; below this one's stand comments only
 *   //! cluster 4                   so many neighbouring blocks see each other's shared memory (sm_90); divides the grid
 *   //! lds   T * K * 2             bytes of dynamic shared memory, beside what the text declares
 *   //! workspace T * 1024          bytes of memory for this launch alone, char *workspace; its contents are undefined. 0: a null pointer
 *   //! counters T                  int *counters, so many: zeros before the launch, and the kernel leaves zeros
 *   //! overlaps                    the text itself calls overlap_wait() and overlap_next() (lib/matrix.h); else they come before it
 *   //! early ids                   the text may read input ids before overlap_wait() where IDS_EARLY is 1: not the launch before wrote it
 *   //! tokens 16                   only for at most so many tokens a step (default: any number)
 *   //! over 64                     only where a step may have more
 *   //! reduce f64, K by lane       reduction signature: {NAME} is replaced by a constant. Must not depend on the bucket
 *   //! front x                     operand x may be computed in front of the kernel: x_at(a, row, t, k). X_PLAIN: it is not, a.x holds it;
 *                                   X_ROW: its rows have a statistic (hooks.h)
 *                                   IDS_SOME, of an input ids of experts: 1 where some may be EXPERT_NONE (plans for several devices)
 *   //! hook out                    the first result goes through out(a, t, n, v), a column at a time; what follows is composed there
 *   //! behind pairs ranks asks     the first result goes through out(a, t, j, v), a group of columns at a time (hooks.h). pairs: a
 *                                   group may be two columns (GROUP), ranks: a token's results of all ranks (RANKS);
 *                                   UNIT columns, from a multiple of UNIT on, are whole groups. asks: through struct Behind instead
 *   //! layout w = fragment         input w, a weight, lies repacked (lib/matrix.h); its type is still the file's
 *   //! tol strict 1e-16 fast 1e-16, swiglu 1e-12, sm_90 1e-10    nmse against the body (measured beside it in a comment): the widest
 *                                   that applies. An op: in fast, where it is composed around the core; an arch: in fast, on it
 *
 * A parameter's dimensions are names, bound to the node's constant sizes (and checked where bound before), numbers, or
 * "_" for any. T is the symbolic one: tokens of the step or rows of the head. "(R)" may be absent. "?" marks an optional
 * input: HAS_B is 1 or 0. Every dimension, x_RANK, x_MXFP4 (of an input of several types), HAS_B, the attrs and consts, and of map
 * and row COLUMNS, R and OWN_ROW, are constants in the emitted source; heads may also use the target's WAVE, MATRIX, LDS and LDS_ALL
 * (targets.def). */
#ifndef GPTOSS_TEMPLATE_H
#define GPTOSS_TEMPLATE_H

#include "ir/graph.h"
#include "target.h"

typedef struct Param Param;
struct Param {
    const char *name;
    bool optional;
    int n_types;
    DType types[DT_COUNT];
    int rank;
    const char *dim[MAX_RANK];
    bool dim_optional[MAX_RANK];
};

typedef struct Line Line; /* NAME = text, or just text */
struct Line {
    const char *name, *text;
    int line;
};
typedef struct LineList LineList;
struct LineList {
    Line *at;
    size_t n, cap;
};

enum { MAX_TUNE = 8 };
typedef struct Tune Tune;
struct Tune {
    const char *name;
    int64_t at[MAX_TUNE];
    int n;
};

enum { MAX_WIDER = 4 };

typedef struct Template Template;
struct Template {
    const char *file;   /* "linear.hip" */
    const char *path;   /* where it lies */
    const char *kernel; /* "linear" */
    const char *body;   /* the text behind the head */
    const char *version, *head_version; /* of all its text, of the file: hashes of bytes */
    int body_line;      /* its first line's number, in body_file */
    const char *body_of, *body_file; /* body_of: the head's "body"; NULL: its own */
    int n_in, n_out;
    Param in[MAX_IN], out[MAX_OUT];
    const char *precision, *arch; /* NULL: any */
    int priority;
    LineList attrs, casts, consts; /* a where is a const without a name, so that both are evaluated in the order of the file */
    struct {
        Tune *at;
        size_t n, cap;
    } tunes;
    const char *group_perm, *group_tiles, *group_ids, *group_tile; /* NULL without */
    const char *grid[3];
    const char *block, *lds;
    const char *cluster, *with; /* NULL without */
    const char *workspace, *counters; /* NULL without */
    const char *reduce;
    int64_t tokens, over;       /* at most; INT64_MAX: any number. More than; 0: any */
    int layout;                 /* 1 + the input that lies in fragment layout; 0: none does */
    unsigned front;             /* inputs that may be computed in front, a bit each */
    unsigned early;             /* inputs that may be read before overlap_wait() */
    bool overlaps;
    bool behind, hook, pairs, ranks, asks; /* hook: a column at a time */
    double tol_strict, tol_fast;
    struct {
        const char *arch; /* NULL: the op */
        Op op;
        double tol;
    } wider[MAX_WIDER]; /* tolerances of fast, too */
    int n_wider;
};
typedef struct TemplateList TemplateList;
struct TemplateList {
    Template **at;
    size_t n, cap;
};

/* Reads every file of the folder that ends so (".hip", ".c"); a later folder's file replaces one of the same name. */
bool templates_load(Arena *a, TemplateList *list, const char *dir, const char *ending, Err *e);

/* What kernels are made with: which templates, for what. */
typedef struct Maker Maker;
struct Maker {
    Arena *a;
    const TemplateList *templates;
    const char *precision;
    const Target *target;
    struct Tuning *tuning; /* NULL: every constant as its template says */
};

/* A named constant of one specialisation. */
typedef struct Const Const;
struct Const {
    const char *name;
    bool is_float, of_target; /* of_target: WAVE, MATRIX, LDS, LDS_ALL; not emitted */
    int64_t i;
    double f;
};
typedef struct Binding Binding; /* a template bound to a node */
struct Binding {
    const Template *t;
    struct {
        Const *at;
        size_t n, cap;
    } consts;     /* in order of binding; T is not among them */
    const struct TuneKey *tune; /* what its choices are kept under; NULL: there is nothing to choose */
    bool chosen;  /* a constant is not as its template says */
    bool fault;   /* the head itself is wrong: an error, even where another template fits */
    Sym rows;     /* what T stands for: SYM_T, SYM_S, or SYM_NONE when the node has no symbolic dimension */
};

typedef struct Part Part;
typedef struct PartList PartList;

/* The best legal template for part p of `all`. Fills b. On error e says for each candidate why not. */
bool template_bind(const Maker *m, const Part *p, const PartList *all, Binding *b, Err *e);

/* Is t for the precision and the arch? */
bool template_is_for(const Template *t, const Maker *m);

/* A FUSED node's i-th recipe, else its op's own name. */
const char *node_kernel(const Node *n, int i);

/* The value of an integer expression: + - * / % ( ) < <= > >= == != && || ! ?: min(a,b) max(a,b) ceil(a,b) and constants, with
 * C's precedence; what && || ?: do not need may divide by zero. rows: the value of T, or -1 where T may not appear. */
bool binding_eval(const Binding *b, const char *expr, int64_t rows, int64_t *value, Err *e);
const Const *binding_const(const Binding *b, const char *name); /* NULL when absent */
/* "f64, 64 lanes" with {NAME} replaced. */
const char *binding_reduction(Arena *a, const Binding *b);

#endif
