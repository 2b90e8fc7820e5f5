/* plan.h - plan.bin: everything the executor needs, in one checksummed file.
 *
 * File: "GPTOSSPL", u32 version, u32 zero, u64 metadata size, u64 total size, u64 XXH3 of all bytes behind this 40-byte
 * header; metadata (JSON, zstd-compressed), then the blobs that it names by offset and size (code objects as they are,
 * sources and graphs zstd-compressed), each 64-byte aligned. Nothing read from the file is trusted: plan_open checks every
 * offset, count and index, the graphs are loaded and verified, and verify.h says what all of it must be. Equal compilations give equal bytes.
 *
 * plan_open gives exactly what plan_write was given. The arena owns all; code objects point into the mapped file. */
#ifndef GPTOSS_PLAN_H
#define GPTOSS_PLAN_H

#include "ir/graph.h"
#include "ir/mapped.h"
#include "model/model.h"

#define PLAN_VERSION 5 /* a macro: --version spells it */
enum { KV_PAGE = 64, STEP_WORDS = 8, PLAN_MAX_DEVICES = 64 /* of one machine */, PLAN_MAX_SYMBOL = 127 /* letters of a kernel's */ };

#define PLAN_COUNTERS "$counters" /* the state that kernels count in, and leave at zero; no value can be called so */

typedef enum BufKind {
    BUF_WEIGHT, /* from the checkpoint, whole run */
    BUF_PACKED, /* a weight as kernels want it, made by graph "prepare" while it is loaded; whole run */
    BUF_STATE,  /* KV pools (per page) and `last`; whole run, written by kernels */
    BUF_INPUT,  /* the executor writes it before a step: step, src, slot, pos, rows, sample_slot, sampling, blocks.*, rope */
    BUF_LINK,   /* one graph's output and another's input, or read back by the host: hidden, ids, logits; own memory */
    BUF_TEMP,   /* in the shared scratch arena at `offset`, live from node `first` to node `last` of its graph */
    BUF_KINDS
} BufKind;

/* Of a plan for several devices: which of them hold a buffer. In one for one device all is on the first. */
typedef enum BufHold {
    HOLD_FIRST,  /* the first device */
    HOLD_EACH,   /* every device, its own; `share`: what each has differs */
    HOLD_COMMON, /* the first device, and every device's kernels use it where it lies (temporaries only) */
    BUF_HOLDS
} BufHold;

typedef struct PlanBuf PlanBuf;
struct PlanBuf {
    const char *name; /* of the value; weights: the canonical name */
    BufKind kind;
    Type type;
    bool may_round;         /* weights: see model_read */
    size_t size;            /* bytes at the plan's largest T and S; of one page for a KV pool (type mentions P) */
    size_t offset;          /* BUF_TEMP, in the arena of its hold */
    BufHold hold;
    int64_t share; /* BUF_WEIGHT: the file's first dimension, of which a device has plan_share's part; 0: the type's, whole */
    int graph, first, last; /* BUF_TEMP: index of the graph and of nodes in it; else -1 */
};

typedef struct PlanModule PlanModule; /* one emitted source file and its code object */
struct PlanModule {
    const char *name;   /* "linear.hip" */
    const char *source; /* the emitted text */
    const void *code;   /* NULL when the plan carries source only */
    size_t code_size;
    bool overridden; /* the source is not ours but what --override gave */
    const char *lines; /* of each instruction, as rtc/rtc_lines.c writes it; NULL: not known. The emulator reads it */
};

typedef struct PlanKernel PlanKernel;
struct PlanKernel {
    const char *symbol, *template_name, *reduction; /* reduction signature, "" when nothing is reduced */
    int module;
    uint32_t block; /* work-items, one-dimensional */
    uint32_t lds;   /* dynamic, at most; 0: all static */
    bool overlaps;  /* waits itself for what came before it, so it may be started early (PDL; dev_cuda.c) */
    double nmse;    /* the template's tolerance against its body at this precision */
    /* from comgr, all 0 without a code object: */
    uint32_t vgprs, agprs, sgprs, lds_static, scratch, vgpr_spills, sgpr_spills;
};

enum { PLAN_MAX_ARGS = 28, PLAN_MAX_BUCKETS = 64 };

/* A launch passes pointers only: kernarg is args[0 … n_args) as 8-byte device pointers. args[0] is always "step":
 * i32[STEP_WORDS] = {T, S, how many of the T are generated (the first ones), 0 …} of this step. An absent optional input is buffer -1, passed as a null pointer. */
typedef struct PlanLaunch PlanLaunch;
struct PlanLaunch {
    int kernel, node;                /* node: index into the graph's nodes (the program's graph of the same name) */
    int n_args, args[PLAN_MAX_ARGS]; /* buffer indices */
    uint32_t (*grid)[3];             /* [n_buckets]; in workgroups; a zero dimension: not launched in that bucket */
    uint32_t *lds;                   /* [n_buckets] bytes of dynamic shared memory */
};

typedef struct PlanGraph PlanGraph;
struct PlanGraph {
    const char *name; /* "prepare", "step", "sample", "logits" */
    Sym sym;          /* which symbol buckets bound: T for step, S for the head */
    int n_buckets;
    int64_t buckets[PLAN_MAX_BUCKETS]; /* ascending; the last is the maximum */
    int n_launches;
    PlanLaunch *launches; /* in execution order */
    int n_values;         /* every value that a node of the (fused) graph reads or writes … */
    struct PlanValue {
        const char *name;
        int buf;
    } * values; /* … and its buffer; a state's successors share its buffer */
    struct Map *index; /* values by name; NULL: not made yet */
};

typedef struct PlanKv PlanKv; /* layers that share a block table */
struct PlanKv {
    const char *blocks;    /* name of the input: i32[max_batch, max_blocks]; entry: page index in the pool, -1 none */
    int64_t window;        /* 0: all keys; else pages wholly behind the window are released */
    int n_states, *states; /* buffer indices of the layers' pools; page p of each belongs to the same tokens */
};

typedef struct PlanRule PlanRule;
struct PlanRule {
    const char *name;
    uint64_t hash;
    int uses;
};

typedef struct PlanChoice PlanChoice; /* that was measured: --tuning */
struct PlanChoice {
    const char *of;   /* a kernel's symbol; "fusions" */
    const char *says; /* "STAGES=8: 0.93 of the default's time, measured on NVIDIA H200" */
};

typedef struct Plan Plan;
struct Plan {
    Arena *arena;
    const char *model_name; /* "gpt-oss-20b" */
    const char *model_path; /* recorded by --model; NULL without */
    bool swap_embeddings;   /* and so is this: it is how that .bin is read */
    const char *arch;       /* "gfx90a" */
    const char *target_id;  /* full target id of the code objects, e.g. "amdgcn-amd-amdhsa--gfx90a" */
    const char *precision;  /* "strict", "fast" */
    ModelConfig config;
    int64_t max_batch, max_tokens, max_seq, max_blocks;
    int64_t devices; /* that the plan runs on (--ep); 1: one */
    Program *program; /* fused, bodies included */
    int n_bufs, n_modules, n_kernels, n_graphs, n_kv, n_rules, n_choices;
    PlanBuf *bufs;
    PlanModule *modules;
    PlanKernel *kernels;
    PlanGraph *graphs;
    PlanKv *kv;
    PlanRule *rules;
    PlanChoice *choices;
    size_t arena_of[BUF_HOLDS]; /* bytes of the arenas that BUF_TEMP offsets lie in */
    struct Map *index; /* buffers that are not BUF_TEMP by name, of a plan that was read; NULL: while it is made */
    MappedFile file; /* closed while being compiled */
};

bool plan_write(const Plan *p, const char *path, Err *e); /* temporary name, then rename */
Plan *plan_open(const char *path, Err *e);                /* NULL on error; a version mismatch says "recompile" */
void plan_close(Plan *p);
/* The first of n things that device d of a plan has, and how many (at most n / devices, rounded up). */
int64_t plan_share(const Plan *p, int64_t n, int d, int64_t *count);
size_t plan_scratch(const Plan *p, int d); /* bytes of device d's arenas */
bool plan_holds(const PlanBuf *b, int d); /* does device d have memory of its own for it? */
const char *buf_hold_name(BufHold hold);  /* as in plan.bin: "first" … */
int plan_graph(const Plan *p, const char *name); /* index, -1 when absent */
const char *buf_kind_name(BufKind kind);         /* as in plan.bin: "weight" … */
int plan_buf(const Plan *p, const char *name);   /* index of a named buffer that is not BUF_TEMP, -1 when absent */
/* The widest tolerance among the kernels that compute the node in a step of so many rows; -1 when none does. */
double plan_tolerance(const Plan *p, const PlanGraph *g, int node, int64_t rows);
int plan_value(const PlanGraph *g, const char *name); /* buffer of a value, -1 when absent */
/* How many launches a step of bucket `bucket` has (-1: of the bucket with the most), of `kernel` only (-1: of all). Of the
 * alternatives of a recipe one is launched. */
int plan_launches(const PlanGraph *g, int kernel, int bucket);
int *plan_uses(const Plan *p, Arena *a); /* [n_kernels] the most launches of each in a step, over all graphs */
size_t plan_bytes(const Plan *p, BufKind kind); /* of all buffers of the kind */
size_t plan_page_bytes(const Plan *p);          /* of a page of the KV pool, all layers together */
/* Where the text of the module's first kernel begins, behind what all modules share (emit.c: "#line 1" with its symbol); its whole text when there is no such place. */
const char *plan_own_text(const Plan *p, const PlanModule *m);
int plan_launch(const PlanGraph *g, int node); /* the first launch of the node, or what stands in its place: they are in the order of nodes */
/* interface.c. Is there an input of this name? A plan may have others: then its kernels can be checked, and no step runs. */
bool plan_input_named(const char *name);
/* Does the executor provide an input of this name and type (to this graph; NULL: to any)? If not, e says what the
 * graph does: "wants an input …". */
bool plan_input(const Plan *p, const char *graph, const char *name, const Type *t, Err *e);
const Value *
plan_result(const Graph *g);   /* what is read back of sample (ids, i32[S]) and logits (f32[S,V]); NULL: nothing fits */
bool plan_pool(const Type *t); /* is it a KV pool, [P,2,heads,KV_PAGE,head_dim]? */
bool plan_check(const Plan *p, Err *e);    /* would plan_open take it? For whoever has just made it */
void plan_inspect(const Plan *p, Text *t); /* for people: what --inspect prints */
void plan_inspect_json(const Plan *p, Text *t);

#endif
