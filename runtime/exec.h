/* exec.h - run a plan's graphs on a device: buffers, weights, inputs, launches.
 *
 * An Exec borrows plan, model and device, and owns the device's buffers for them. Nothing here knows of requests (sched.h).
 * Order of use: exec_open, exec_kv, then for each step: exec_page and exec_blocks for what changed, exec_tokens, exec_rows,
 * exec_graph of the step and of a head. After exec_open and exec_kv nothing is allocated.
 *
 * What a step is told (tokens, rows, block tables) is gathered in host memory, laid out as on the device, and goes there in
 * one copy before the first launch that follows. So all of it may be written anew as soon as exec_graph has returned, and,
 * where work is asynchronous, the next step be launched before the last one's ids have come (exec_fetch, exec_mark). */
#ifndef GPTOSS_EXEC_H
#define GPTOSS_EXEC_H

#include "ir/sampling.h"
#include "runtime/device/device.h"
#include "runtime/device/ranges.h"

typedef struct ExecLoading ExecLoading; /* told how many bytes of the weights are there */
struct ExecLoading {
    void (*show)(void *ctx, size_t done, size_t total);
    void *ctx;
};

enum { EXEC_MARKS = 2 };

typedef struct Segment Segment; /* nodes first … end - 1 of a graph, on each device or on the first */
struct Segment {
    int first, end;
    bool everywhere;
};

typedef struct InputSpan
    InputSpan; /* bytes from … to-1 of the step's inputs, in one buffer, that the device has not got yet */
struct InputSpan {
    int buf;
    size_t from, to;
};

typedef struct Exec Exec;

/* Told in the course of a graph, between what is put into the stream of x, one of the devices' (x->rank): it begins with nodes that
 * follow one another on it; it has done them; it goes on behind the others. false, with e set: the graph ends there. */
typedef enum ExecPoint { EXEC_BEGINS, EXEC_DONE, EXEC_JOINED } ExecPoint;
typedef bool ExecWatch(void *ctx, Exec *x, ExecPoint point, Err *e);

struct Exec {
    const Plan *plan;
    Device *dev;
    void **at;      /* [n_bufs] device memory; KV pools NULL until exec_kv */
    bool *own;      /* [n_bufs] allocated or adopted here (a temporary lies in scratch) */
    int *group;     /* [n_bufs] KV group of a pool, -1 otherwise */
    int64_t *pages; /* [n_kv] pages of the group's pools */
    void *arena[BUF_HOLDS]; /* temporaries' memory */
    int *input;      /* buffers of the inputs that exec.c names; -1: no graph reads it */
    int *table;      /* [n_kv] of the block tables */
    char *told;      /* what the steps' inputs hold, or are about to */
    size_t *told_at; /* [n_bufs] where in it */
    size_t told_size;
    char
        *packed; /* device memory laid out as told; NULL: each input has its own, so that a watchful device sees each */
    InputSpan *span; /* ascending */
    int n_spans, cap_spans;
    DeviceEvent *mark[EXEC_MARKS];
    DeviceEvent *given, *taken; /* so far the stream of the steps is, and that of what is fetched; NULL: there is one stream */
    bool follows;               /* all that the first was given, the second waits for */
    int taking;                 /* the buffer that is being fetched, -1: none */
    size_t weight_bytes;        /* of all weights so far, adopted ones too */
    const ExecLoading *loading; /* while weights are loaded; may be NULL */
    const Exec *from;           /* while they are copied: the other device's */
    DeviceModule **modules;
    DeviceKernel **kernels;
    Segment **segment; /* [n_graphs][n_segments], and of each and each bucket … */
    int *n_segments;
    void ***captured; /* [n_graphs][n_segments * PLAN_MAX_BUCKETS] … a replayable graph, made at first use, where the device has them */
    const Graph **ir;                 /* [n_graphs] */
    int **in, **out;                  /* [n_graphs][nodes * MAX_IN or MAX_OUT] buffers of the nodes' values */
    int **born, **born_from;          /* [n_graphs] temporaries by the node that they begin to live at */
    int **fresh, *n_fresh;            /* [n_graphs] links that it computes anew */
    bool *read;                       /* [n_bufs] by a kernel of a step */
    int *repack, *repack_next;        /* [n_bufs] the first launch of "prepare" that repacks it, -1: none; [its launches] the next */
    Sizes sizes;                      /* of the current step and head; SYM_P is set node by node */
    bool keeps;                       /* exec_kv_zero was called */
    int64_t n_decode;                 /* of the current step's tokens */
    Ranges ranges;

    /* Several devices (a plan with --ep): an Exec each. The first one's caller knows only that one; it feeds the others. */
    int rank;        /* among them; 0: the first */
    Exec *first;     /* NULL: this one */
    Exec **other;    /* [n_other] of the first */
    int n_other;
    Device **others; /* [n_other] their devices */
    Err through;     /* why what they share lies in the host's memory; "": it lies on the first device */
    DeviceEvent *ready; /* the first: the others may begin; another: it has done its part */
    ExecWatch *watch;   /* of the first, for all; NULL: nobody watches */
    void *watch_ctx;
};

/* Allocates everything but the KV pools and loads the weights. d: the plan's devices (plan->devices), of one table; all that the
 * other functions do is done on each as far as it is its work, and what is read back is the first's. Errors name tensor, expected and
 * found shape. loading, which is told how much is loaded, may be NULL. */
Exec *exec_open(const Plan *p, const Model *m, Device *const *d, const ExecLoading *loading, Err *e);
/* The same on other devices of the same table, their weights copied from those of `from` as graph "prepare" left them. Those are not
 * changed, and need not wait; dev->ops->reach was called for them. */
Exec *exec_open_from(const Exec *from, Device *const *d, Err *e);
void exec_close(Exec *x);                      /* NULL is fine; before device_close */
size_t exec_page_bytes(const Plan *p, int kv); /* of one page in all of the group's layers */
bool exec_kv(Exec *x, const int64_t *pages /* [n_kv] */, Err *e);

bool exec_kv_zero(Exec *x, Err *e); /* for a bench: all pages hold zeros, and no page forgets what it held */

/* A page begins a new life: whatever it held must not be read. */
void exec_page(Exec *x, int kv, int64_t page);
/* Writes slot's row of a group's block table: int32[max_blocks]. */
void exec_blocks(Exec *x, int kv, int slot, const int32_t *row);

/* Inputs of a step of n tokens, the first n_decode of them generated ones, then the graph "step". exec_tokens without
 * exec_graph lets a caller go node by node. */
void exec_tokens(Exec *x, const int32_t *src, const int32_t *slot, const int32_t *pos, int64_t n, int64_t n_decode);
/* Inputs of a head graph: n rows of the last step, and the slots whose last sample they become (NULL: none), drawn greedily.
 * Behind exec_tokens and before the step's graph, they travel with its inputs. */
void exec_rows(Exec *x, const int32_t *rows, const int32_t *slots, int64_t n);
/* How each of these rows is drawn (NULL: greedily, as exec_rows leaves it). A plan without the input "sampling" is greedy. */
void exec_sampling(Exec *x, const Sampling *each, int64_t n);
bool exec_graph(Exec *x, int graph, Err *e);
/* The same of a head that samples, these n ids excluded: their logits are -inf when op sample reads them. */
bool exec_graph_without(Exec *x, int graph, const int32_t *ids, size_t n, Err *e);
void exec_begin(Exec *x, int graph); /* what exec_graph does before its first node */
bool exec_node(Exec *x, int graph, int node, Err *e);
/* One launch of the graph on these buffers [l->n_args]. Where its node does not run in this bucket, nothing. */
bool exec_launch(Exec *x, int graph, const PlanLaunch *l, const int *bufs, Err *e);
int exec_bucket(const Exec *x, int graph);  /* of the current step and head */
bool exec_everywhere(const Exec *x, int graph, int node); /* do all devices run the node? Else the first */
Exec *exec_member(Exec *x, int i);                        /* the i-th device's, 0 … n_other: 0 is x */
int64_t exec_max(const Plan *p, int graph); /* largest T or S of the graph */

/* Copies the first n bytes of a buffer to the host, or back, and waits. */
bool exec_read(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e);
bool exec_write(Exec *x, int buf, size_t at, const void *src, size_t n, Err *e);
/* The same read without waiting: dst is filled once exec_wait of a mark set behind it has returned. Where the device can, the copy
 * goes beside the steps, and a graph that writes the buffer anew begins behind it: between two steps it would hold up the next one. */
bool exec_fetch(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e);
bool exec_mark(Exec *x, int mark, Err *e);
bool exec_wait(Exec *x, int mark, Err *e);
/* An element that is not finite: the first of a row of a value. sym: of the value's dimension 0, which counts the rows. */
typedef struct NonFinite NonFinite;
struct NonFinite {
    const char *value; /* its name */
    Sym sym;
    int64_t row;
    float x;
};
typedef bool ExecTell(void *ctx, const NonFinite *n); /* true: that is enough */
/* Runs the graph node by node in the step whose inputs are set, and tells of what is not finite, in the order of computation, until
 * it is enough. (Nodes that fail are passed over: what they stumbled over was told before.) */
void exec_nonfinite(Exec *x, int graph, ExecTell *tell, void *ctx);

#endif
