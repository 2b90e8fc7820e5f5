/* exec.h - run a plan's graphs on a device: buffers, weights, inputs, launches.
 *
 * An Exec borrows plan, model and device, and owns the device's buffers for them. Nothing here knows of requests (sched.h).
 * Order of use: exec_open, exec_kv, then for each step: exec_page and exec_blocks for what changed, exec_step, exec_head.
 * After exec_open and exec_kv nothing is allocated. */
#ifndef GPTOSS_EXEC_H
#define GPTOSS_EXEC_H

#include "ir/sampling.h"
#include "runtime/device/device.h"

typedef struct ExecLoading ExecLoading; /* told how many bytes of the weights are there */
struct ExecLoading {
    void (*show)(void *ctx, size_t done, size_t total);
    void *ctx;
};

typedef struct Exec Exec;
struct Exec {
    const Plan *plan;
    Device *dev;
    void **at;      /* [n_bufs] device memory; KV pools NULL until exec_kv */
    bool *own;      /* [n_bufs] allocated or adopted here (a temporary lies in scratch) */
    int *group;     /* [n_bufs] KV group of a pool, -1 otherwise */
    int64_t *pages; /* [n_kv] pages of the group's pools */
    void *scratch;
    int32_t *sampling;          /* [max_batch][SAMPLING_WORDS], being written */
    size_t weight_bytes;        /* of all weights, adopted ones too */
    const ExecLoading *loading; /* while weights are loaded; may be NULL */
    DeviceModule **modules;
    DeviceKernel **kernels;
    void *(
        *captured)[PLAN_MAX_BUCKETS]; /* [n_graphs] replayable graphs, made at first use, where the device has them */
    const Graph **ir;                 /* [n_graphs] */
    int **in, **out;                  /* [n_graphs][nodes * MAX_IN or MAX_OUT] buffers of the nodes' values */
    Sizes sizes;                      /* of the current step and head; SYM_P is set node by node */
};

/* Allocates everything but the KV pools and loads the weights. Errors name tensor, expected and found shape. */
Exec *exec_open(const Plan *p, const Model *m, Device *d, Err *e);
/* The same, telling how much is loaded. */
Exec *exec_open_shown(const Plan *p, const Model *m, Device *d, const ExecLoading *loading, Err *e);
void exec_close(Exec *x);                      /* NULL is fine; before device_close */
size_t exec_page_bytes(const Plan *p, int kv); /* of one page in all of the group's layers */
bool exec_kv(Exec *x, const int64_t *pages /* [n_kv] */, Err *e);

/* A page begins a new life: whatever it held must not be read. */
void exec_page(Exec *x, int kv, int64_t page);
/* Writes slot's row of a group's block table: int32[max_blocks]. */
bool exec_blocks(Exec *x, int kv, int slot, const int32_t *row, Err *e);

/* Inputs of a step of n tokens, then the graph "step". exec_tokens without exec_graph lets a caller go node by node. */
bool exec_tokens(Exec *x, const int32_t *src, const int32_t *slot, const int32_t *pos, int64_t n, Err *e);
/* Inputs of a head graph: n rows of the last step, and the slots whose last sample they become (NULL: none), drawn greedily. */
bool exec_rows(Exec *x, const int32_t *rows, const int32_t *slots, int64_t n, Err *e);
/* How each of these rows is drawn (NULL: greedily, as exec_rows leaves it). A plan without the input "sampling" is greedy. */
bool exec_sampling(Exec *x, const Sampling *each, int64_t n, Err *e);
bool exec_graph(Exec *x, int graph, Err *e);
/* The same of a head that samples, these n ids excluded: their logits are -inf when op sample reads them. */
bool exec_graph_without(Exec *x, int graph, const int32_t *ids, size_t n, Err *e);
void exec_begin(Exec *x, int graph); /* what exec_graph does before its first node */
bool exec_node(Exec *x, int graph, int node, Err *e);
int64_t exec_max(const Plan *p, int graph); /* largest T or S of the graph */

/* Copies the first n bytes of a buffer to the host, or back, and waits. */
bool exec_read(Exec *x, int buf, size_t at, void *dst, size_t n, Err *e);
bool exec_write(Exec *x, int buf, size_t at, const void *src, size_t n, Err *e);
/* Name of the first value of step or graph that is not finite in the step whose inputs are set, running node by node;
 * NULL when there is none. */
const char *exec_nonfinite(Exec *x, int graph, Err *e);

#endif
