/* device.h - what a device is: one struct of functions. Add one: a dev_*.c with its table, and a row in device.c.
 *
 * Device pointers are opaque void* that may be offset arithmetically. All work is ordered within a stream; stream 0 always
 * exists. Functions that can fail fill e; asynchronous failures surface at the next sync. */
#ifndef GPTOSS_DEVICE_H
#define GPTOSS_DEVICE_H

#include "plan/plan.h"

typedef struct Device Device;
typedef struct DeviceModule DeviceModule;
typedef struct DeviceKernel DeviceKernel;
typedef struct DeviceEvent DeviceEvent;

typedef struct DeviceInfo DeviceInfo;
struct DeviceInfo {
    char name[128], arch[64]; /* arch: "gfx90a:sramecc+:xnack-", "sm_90" …; "any" where every plan runs */
    size_t memory_total, memory_free;
};

enum { DEVICE_MOST_SAMPLE = 4096 }; /* workgroups */

typedef struct DeviceOptions DeviceOptions; /* zeros: the defaults */
struct DeviceOptions {
    int threads;     /* host threads of emu, host and ref; 0: one per online CPU */
    uint64_t seed;   /* emu: the order in which waves advance (--seed-schedule); 0: in order */
    bool profile;    /* GPUs: time every launch (no graphs are captured then); emu: count per line too */
    uint64_t limit;  /* emu: instructions of a workgroup, beyond which its kernel counts as hung; 0: EMU_MAX_INSTRUCTIONS */
    bool races;      /* emu: a launch in which two waves race is an error */
    uint32_t sample; /* emu: of each launch run only so many workgroups (2 to DEVICE_MOST_SAMPLE), spread over the grid; 0: all */
};

typedef struct DeviceOps DeviceOps;
struct DeviceOps {
    const char *name;      /* "hip", "cuda", "host", "emu", "ref" */
    bool simulated;        /* emu, ref: slow, their time is no device's, and memory costs something once it is used */
    bool many;             /* emu, host, ref: as many as are wanted can be opened; count says one, for more are no faster */
    int (*count)(void);    /* devices that could be opened now */
    void (*list)(Text *t); /* a line for each of them, or why there is none; NULL: count says all */
    bool (*runs)(int index, const Plan *p); /* is the device of an architecture that the plan's code is for? NULL: all are */
    Device *(*open)(int index, const Plan *p, const DeviceOptions *o, Err *e); /* p: what it will run; checks arch */
    void (*close)(Device *d);
    bool (*info)(Device *d, DeviceInfo *i, Err *e);

    void *(*alloc)(Device *d, size_t size, const char *name, Err *e); /* contents undefined */
    void (*free)(Device *d, void *p);                                 /* of alloc or adopt */
    /* Read-only use of host memory where it lies (a mapped file). NULL result: cannot, alloc and upload instead. */
    void *(*adopt)(Device *d, const void *p, size_t size, const char *name);
    bool (*upload)(Device *d, int stream, void *dst, const void *src, size_t n, Err *e);
    bool (*download)(Device *d, int stream, void *dst, const void *src, size_t n, Err *e); /* complete after sync */
    bool (*fill)(Device *d, int stream, void *dst, int byte, size_t n, Err *e);
    bool (*sync)(Device *d, int stream, Err *e);
    /* Another device of this table, whose memory copy_from is to read: true, by the straight way; false, through host memory, and
     * why not straight. copy_from: complete after sync; nothing may write what is read, the other device is not waited for, and
     * its thread may go on. NULL: there is one device only. */
    bool (*reach)(Device *d, Device *other, Err *why);
    bool (*copy_from)(Device *d, int stream, void *dst, Device *other, const void *src, size_t n, Err *e);
    /* Memory of d that kernels of d and of the n others, devices of this table, read and write: on d where each of them can reach it,
     * else of the host, and `why` says who cannot. Uninitialised; the others must be there when it is freed. */
    void *(*alloc_common)(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e);
    void (*free_common)(Device *d, Device *const *others, int n, void *p);
    /* A buffer's live range begins: its old contents must not be read. NULL where nothing watches. */
    void (*forget)(Device *d, void *p, size_t n);
    /* The launches that follow run whole, or again options.sample of their workgroups. NULL where nothing is sampled. */
    void (*whole)(Device *d, bool whole);

    DeviceModule *(*module_load)(Device *d, const PlanModule *m, Err *e);
    void (*module_unload)(Device *d, DeviceModule *m);
    DeviceKernel *(*kernel)(Device *d, DeviceModule *m, const PlanKernel *k, Err *e); /* k: only while this runs */
    bool (*launch)(Device *d, int stream, DeviceKernel *k, const uint32_t grid[3], uint32_t block, uint32_t lds,
                   void *const *args, int n_args, Err *e);
    /* A device that interprets the graph instead of launching kernels has this and no module/launch functions (ref). */
    bool (*run_node)(Device *d, const Node *n, void *const *in, void *const *out, const Sizes *s, Err *e);

    /* Capture what is launched on a stream between begin and end; replay it. NULL where there are no graphs. */
    bool (*capture_begin)(Device *d, int stream, Err *e);
    void *(*capture_end)(Device *d, int stream, Err *e);
    bool (*replay)(Device *d, int stream, void *graph, Err *e);
    void (*graph_free)(Device *d, void *graph);

    /* A point in a stream's order, to wait for without waiting for what comes behind it, and to tell times by. NULL where
     * everything has happened when its call returns. wait: what was downloaded before the record is in place. */
    DeviceEvent *(*event)(Device *d, Err *e);
    void (*event_free)(Device *d, DeviceEvent *v);
    bool (*record)(Device *d, int stream, DeviceEvent *v, Err *e);
    bool (*wait)(Device *d, DeviceEvent *v, Err *e);
    /* What is put into the stream from now on begins behind v's last record, on whichever device of this table; the host goes on. */
    bool (*await)(Device *d, int stream, const DeviceEvent *v, Err *e);
    bool (*elapsed)(Device *d, const DeviceEvent *from, const DeviceEvent *to, double *seconds,
                    Err *e); /* both waited for */

    void (*profile)(Device *d, Text *report, bool json); /* -f: counts or times per kernel so far; NULL: none */
};

/* Every Device begins with its table, so that callers write d->ops->launch(d, …). */
struct Device {
    const DeviceOps *ops;
};

const DeviceOps *device_find(const char *name); /* NULL when there is no such device */
/* name "auto": the device that matches the plan's arch, else an error naming --device emu|ref and --arch host. */
Device *device_open(const char *name, int index, const Plan *p, const DeviceOptions *o, Err *e);
void device_close(Device *d); /* NULL is fine */
int device_count(const char *name, const Plan *p); /* of what device_open with this name would open one of */
/* From now on what is expensive to know of code is kept in this directory, the caller's string; NULL, as at first: it is not. */
void device_keep(const char *dir);
/* Are there n devices of d's kind (n 0: as many as there are), and does each of those run the plan? Their number; 0: no, with an
 * error that lists those that there are. A plan for several devices runs on a multiple of so many, or on none. */
int device_several(const Device *d, int64_t n, const Plan *p, Err *e);
void device_list(Text *t);    /* what --list-devices prints */
/* Before a device in host memory is used: what a plan asks for beside its buffers (values in bodies, copies for comparing) fails, too,
 * where it is more than the machine has. */
void device_bound_memory(void);
/* Memory of a device that has the machine's (large_alloc). What is mapped is not there before it is touched: a plan that asks for more
 * than the machine has, on all its devices together, fails here, not when the kernel ends the process. */
void *device_take(size_t *held, size_t size, const char *device, const char *name, Err *e); /* held: the device's own count */
void device_give(size_t *held, void *p); /* of device_take */
/* alloc_common and free_common of devices all of whose memory is the host's: as any. */
void *device_alloc_common(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e);
void device_free_common(Device *d, Device *const *others, int n, void *p);
/* A kernel that nothing can end has not come back for so long, said its device; not stuck: it has. What a signal handler may ask. */
void device_say_stuck(bool stuck);
bool device_is_stuck(void);
double device_hang_seconds(void); /* how long work may not come back: GPTOSS_HANG_SECONDS, else 120 */

#endif
