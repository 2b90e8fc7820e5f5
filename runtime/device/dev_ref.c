/* dev_ref.c - the device that interprets the graph with the ops' reference functions. Slow, simple, the truth.
 * Memory is host memory; streams do nothing; there are no launches: run_node does the work. */
#include "device.h"
#include "ir/ref.h"

#include <stdlib.h>
#include <unistd.h>

extern const DeviceOps dev_ref; /* the table, at the end */

enum { POISON_MAX = 64 << 20 };

typedef struct Ref Ref;
struct Ref {
    Device base;
    int threads;
    void **owned; /* what alloc gave, to tell it from adopted memory */
    size_t n_owned, cap_owned, held; /* held: bytes */
};

static int ref_count(void) { return 1; }

static Device *ref_open(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    (void)p, (void)index;
    device_bound_memory();
    Ref *r = calloc(1, sizeof *r);
    if (!r) return err_set(e, "device ref: out of memory"), NULL;
    r->base.ops = &dev_ref;
    r->threads = o->threads ? o->threads : cpu_count();
    return &r->base;
}

static void ref_close(Device *d) {
    Ref *r = (Ref *)d;
    for (size_t i = 0; i < r->n_owned; i++) device_give(&r->held, r->owned[i]);
    free(r->owned);
    free(r);
}

static bool ref_info(Device *d, DeviceInfo *i, Err *e) {
    (void)d, (void)e;
    *i = (DeviceInfo){"reference interpreter", "any", 0, 0};
    i->memory_total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    i->memory_free = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    return true;
}

static void *ref_alloc(Device *d, size_t size, const char *name, Err *e) {
    Ref *r = (Ref *)d;
    if (r->n_owned == r->cap_owned) {
        size_t cap = r->cap_owned ? 2 * r->cap_owned : 64;
        void **more = realloc(r->owned, cap * sizeof *more);
        if (!more) return err_set(e, "device ref: out of memory for %s", name), NULL;
        r->owned = more, r->cap_owned = cap;
    }
    void *p = device_take(&r->held, size, "ref", name, e);
    if (!p) return NULL;
    if (size <= POISON_MAX)
        memset(p, 0xff, size); /* NaNs and -1: what nobody wrote shows; larger pools stay untouched, unpaged */
    return r->owned[r->n_owned++] = p;
}

static void ref_free(Device *d, void *p) {
    Ref *r = (Ref *)d;
    for (size_t i = 0; i < r->n_owned; i++)
        if (r->owned[i] == p) {
            device_give(&r->held, p);
            r->owned[i] = r->owned[--r->n_owned];
            return;
        }
}

static void *ref_adopt(Device *d, const void *p, size_t size, const char *name) {
    (void)d, (void)size, (void)name;
    return (uintptr_t)p % 16 ? NULL : (void *)(uintptr_t)p;
}

static bool ref_copy(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    (void)d, (void)stream, (void)e;
    if (n) memcpy(dst, src, n);
    return true;
}

static bool ref_fill(Device *d, int stream, void *dst, int byte, size_t n, Err *e) {
    (void)d, (void)stream, (void)e;
    memset(dst, byte, n);
    return true;
}

static bool ref_sync(Device *d, int stream, Err *e) {
    (void)d, (void)stream, (void)e;
    return true;
}

static bool ref_run_node(Device *d, const Node *n, void *const *in, void *const *out, const Sizes *s, Err *e) {
    Tensor ti[MAX_IN] = {{0}}, to[MAX_OUT] = {{0}};
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) ti[i] = tensor_of(&n->in[i]->type, s, in[i]);
    for (int i = 0; i < n->n_out; i++) to[i] = tensor_of(&n->out[i]->type, s, out[i]);
    return ref_node(n, ti, to, s, ((Ref *)d)->threads, e);
}

const DeviceOps dev_ref = {
    .name = "ref",
    .simulated = true,
    .many = true,
    .count = ref_count,
    .open = ref_open,
    .close = ref_close,
    .info = ref_info,
    .alloc = ref_alloc,
    .free = ref_free,
    .alloc_common = device_alloc_common,
    .free_common = device_free_common,
    .adopt = ref_adopt,
    .upload = ref_copy,
    .download = ref_copy,
    .fill = ref_fill,
    .sync = ref_sync,
    .run_node = ref_run_node,
};
