/* dev_gpu.h - what dev_gpu.c, the device of GPUs, needs of an API: dev_hip.c and dev_cuda.c fill this in.
 * HIP and the CUDA driver agree in all but names for what is in GpuFns (a CUdeviceptr is passed as a pointer), so both run the
 * same code. An entry point is listed once, in hip_fns.def or cuda_fns.def, and loaded by dlopen: building needs neither. */
#ifndef GPTOSS_DEV_GPU_H
#define GPTOSS_DEV_GPU_H

#include "device.h"

enum {
    GPU_OK = 0,
    GPU_OUT_OF_MEMORY = 2,
    GPU_NO_DEVICE = 100,
    GPU_INVALID_DEVICE = 101,
    GPU_NO_BINARY = 209,
    GPU_NO_PEER = 217,
    GPU_NOT_READY = 600,
    GPU_PEER_ALREADY = 704
}; /* the same in both */

typedef struct GpuFns GpuFns; /* each returns 0 or an error number */
struct GpuFns {
    int (*init)(unsigned flags);
    int (*count)(int *n);
    int (*version)(int *version);
    int (*name)(char *name, int size, int device);
    int (*bus_id)(char *id, int size, int device);
    int (*mem_info)(size_t *free, size_t *total);
    int (*alloc)(void **p, size_t n);
    int (*free)(void *p);
    int (*host_alloc)(void **p, size_t n, unsigned flags);
    int (*host_free)(void *p);
    int (*upload)(void *dst, const void *src, size_t n, void *stream);
    int (*download)(void *dst, const void *src, size_t n, void *stream);
    int (*fill)(void *dst, unsigned char byte, size_t n, void *stream);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_query)(void *stream);
    int (*stream_wait)(void *stream, void *event, unsigned flags);
    int (*event_create)(void **event, unsigned flags);
    int (*event_destroy)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_query)(void *event);
    int (*event_elapsed)(float *ms, void *from, void *to);
    int (*module_load)(void **module, const void *image);
    int (*module_unload)(void *module);
    int (*module_function)(void **function, void *module, const char *symbol);
    int (*launch)(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                  unsigned lds, void *stream, void **params, void **extra);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*graph_launch)(void *exec, void *stream);
    int (*graph_destroy)(void *graph);
    int (*exec_destroy)(void *exec);
};

typedef struct GpuApi GpuApi;
struct GpuApi {
    const DeviceOps *ops;                   /* its row of device.c; .name is "hip" or "cuda" */
    const GpuFns *f;                        /* filled by load */
    bool (*load)(Err *e);                   /* the library and its entry points; once, cheap afterwards */
    int (*use)(int device, void **context); /* makes the device the calling thread's; *context: NULL the first time */
    void (*release)(int device, void *context);
    bool (*arch)(int device, char *arch, size_t n); /* "gfx90a:sramecc+:xnack-", "sm_90" */
    bool (*runs)(const char *device_arch, const char *plan_arch);
    int (*instantiate)(void **exec, void *graph);
    int (*dynamic_lds)(void *function,
                       uint32_t bytes); /* a kernel will be launched with so much; NULL: need not be told */
    /* A launch that may begin while the one before it still runs; what must wait waits in the kernel. NULL: there is none. */
    int (*launch_overlapping)(void *function, const uint32_t grid[3], uint32_t block, uint32_t lds, void *stream,
                              void **params);
    bool (*overlaps)(void); /* does this driver keep that overlap in a captured graph? */
    /* Lets `device`, which is the calling thread's, read what lies on `peer`: GPU_NO_PEER where it cannot. */
    int (*reach)(int device, int peer, void *peer_context);
    int (*copy_peer)(void *dst, int device, void *context, const void *src, int peer, void *peer_context, size_t n,
                     void *stream);
    int (*alloc_common)(void **p, size_t n); /* memory of the thread's device that others' kernels write; NULL: as any */
    const char *(*error_name)(int error);
    const char *none; /* what to do when there is no device */
};

typedef struct GpuSymbol GpuSymbol;
struct GpuSymbol {
    const char *name;
    void **slot;
    bool optional;
};
/* Opens the first of names in the first of dirs that has it ("" is the search path; NULLs are skipped) and fills the slots. */
bool gpu_load(const char *const *names, size_t n_names, const char *const *dirs, size_t n_dirs,
              const GpuSymbol *symbols, size_t n, Err *e);

/* The DeviceOps of either, on its GpuApi. */
int gpu_count(const GpuApi *api);
Device *gpu_open(const GpuApi *api, int index, const Plan *p, const DeviceOptions *o, Err *e);
void gpu_list(const GpuApi *api, Text *t);
bool gpu_runs(const GpuApi *api, int index, const Plan *p);

#define GPU_OPS(NAME, COUNT, OPEN, LIST, RUNS)                                                                               \
    {                                                                                                                  \
        .name = NAME, .count = COUNT, .open = OPEN, .list = LIST, .runs = RUNS, .close = gpu_close, .info = gpu_info,  \
        .alloc = gpu_alloc, .free = gpu_free, .upload = gpu_upload, .download = gpu_download, .fill = gpu_fill,        \
        .sync = gpu_sync, .alloc_common = gpu_alloc_common, .free_common = gpu_free_common, .await = gpu_await, .reach = gpu_reach, .copy_from = gpu_copy_from, \
        .module_load = gpu_module_load, .module_unload = gpu_module_unload, .kernel = gpu_kernel,  \
        .launch = gpu_launch, .capture_begin = gpu_capture_begin, .capture_end = gpu_capture_end,                      \
        .replay = gpu_replay, .graph_free = gpu_graph_free, .profile = gpu_profile, .event = gpu_event,                \
        .event_free = gpu_event_free, .record = gpu_record, .wait = gpu_wait, .elapsed = gpu_elapsed,                  \
    }
void gpu_close(Device *d);
bool gpu_info(Device *d, DeviceInfo *i, Err *e);
void *gpu_alloc(Device *d, size_t size, const char *name, Err *e);
void gpu_free(Device *d, void *p);
bool gpu_upload(Device *d, int stream, void *dst, const void *src, size_t n, Err *e);
bool gpu_download(Device *d, int stream, void *dst, const void *src, size_t n, Err *e);
bool gpu_fill(Device *d, int stream, void *dst, int byte, size_t n, Err *e);
bool gpu_sync(Device *d, int stream, Err *e);
bool gpu_reach(Device *d, Device *other, Err *why);
bool gpu_copy_from(Device *d, int stream, void *dst, Device *other, const void *src, size_t n, Err *e);
DeviceModule *gpu_module_load(Device *d, const PlanModule *m, Err *e);
void gpu_module_unload(Device *d, DeviceModule *m);
DeviceKernel *gpu_kernel(Device *d, DeviceModule *m, const PlanKernel *k, Err *e);
bool gpu_launch(Device *d, int stream, DeviceKernel *k, const uint32_t grid[3], uint32_t block, uint32_t lds,
                void *const *args, int n_args, Err *e);
bool gpu_capture_begin(Device *d, int stream, Err *e);
void *gpu_capture_end(Device *d, int stream, Err *e);
bool gpu_replay(Device *d, int stream, void *graph, Err *e);
void gpu_graph_free(Device *d, void *graph);
DeviceEvent *gpu_event(Device *d, Err *e);
void gpu_event_free(Device *d, DeviceEvent *v);
bool gpu_record(Device *d, int stream, DeviceEvent *v, Err *e);
bool gpu_wait(Device *d, DeviceEvent *v, Err *e);
bool gpu_await(Device *d, int stream, const DeviceEvent *v, Err *e);
void *gpu_alloc_common(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e);
void gpu_free_common(Device *d, Device *const *others, int n, void *p);
bool gpu_elapsed(Device *d, const DeviceEvent *from, const DeviceEvent *to, double *seconds, Err *e);
void gpu_profile(Device *d, Text *report, bool json);

#endif
