/* dev_emu.c - the device that runs a plan's gfx90a code objects on the CPU (emu/emu.h).
 * Memory is host memory, registered with the emulator under its buffer's name; every copy and fill tells the shadow. */
#include "device.h"
#include "runtime/emu/comgr.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

extern const DeviceOps dev_emu; /* the table, at the end */

enum { HOT_LINES = 5 /* of a kernel, in -f */ };

typedef struct Region Region;
struct Region {
    void *p;
    bool owned; /* of alloc; else adopted */
};

struct DeviceModule {
    EmuModule *code;
};

struct DeviceKernel {
    EmuModule *code;
    const char *symbol; /* the emulator's copy */
    EmuCounts counts;
    uint64_t *executed; /* of each instruction of the code object; NULL: not asked for */
    DeviceKernel *next;
};

typedef struct Emu Emu;
struct Emu {
    Device base;
    EmuMem *mem;
    DeviceOptions options;
    bool whole; /* options.sample does not count now */
    Region *regions;
    size_t n_regions, cap_regions, held; /* held: bytes of those that are owned */
    DeviceKernel *kernels; /* newest first */
};

static int emu_count(void) { return 1; }

void device_keep(const char *dir) { comgr_keep(dir); }

static Device *emu_open(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    (void)index; /* each emulates a GPU of its own */
    if (strncmp(p->arch, "gfx90a", 6) || !strchr(":", p->arch[6])) /* either setting of a feature */
        return err_set(e, "device emu runs gfx90a code; this plan is for %s: recompile with --arch gfx90a", p->arch),
               NULL;
    device_bound_memory();
    Emu *u = calloc(1, sizeof *u);
    if (!u) return err_set(e, "device emu: out of memory"), NULL;
    u->base.ops = &dev_emu;
    u->mem = emu_mem_new();
    if (!u->mem) return free(u), err_set(e, "device emu: out of memory"), NULL;
    u->options = *o;
    return &u->base;
}

static void forget_region(Emu *u, size_t i) {
    emu_mem_remove(u->mem, u->regions[i].p);
    if (u->regions[i].owned) device_give(&u->held, u->regions[i].p);
    u->regions[i] = u->regions[--u->n_regions];
}

static void emu_close(Device *d) {
    Emu *u = (Emu *)d;
    while (u->n_regions) forget_region(u, u->n_regions - 1);
    for (DeviceKernel *k = u->kernels, *next; k; k = next) {
        next = k->next;
        free(k->executed);
        free(k);
    }
    emu_mem_free(u->mem);
    free(u->regions);
    free(u);
}

static bool emu_info(Device *d, DeviceInfo *i, Err *e) {
    (void)d, (void)e;
    *i = (DeviceInfo){"gfx90a emulator", "gfx90a", 0, 0};
    i->memory_total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    i->memory_free = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    return true;
}

static bool add_region(Emu *u, void *p, size_t size, const char *name, bool owned, Err *e) {
    if (u->n_regions == u->cap_regions) {
        size_t cap = u->cap_regions ? 2 * u->cap_regions : 64;
        Region *more = realloc(u->regions, cap * sizeof *more);
        if (!more) return err_set(e, "device emu: out of memory for %s", name);
        u->regions = more, u->cap_regions = cap;
    }
    if (!emu_mem_add(u->mem, p, size, name, !owned, e)) return false;
    if (!owned) emu_mem_protect(u->mem, p); /* a mapped file */
    u->regions[u->n_regions++] = (Region){p, owned};
    return true;
}

static void *emu_alloc(Device *d, size_t size, const char *name, Err *e) {
    if (!size) size = 1;
    Emu *u = (Emu *)d;
    void *p = device_take(&u->held, size, "emu", name, e);
    if (!p || add_region(u, p, size, name, true, e)) return p;
    device_give(&u->held, p);
    return NULL;
}

static void emu_free(Device *d, void *p) {
    Emu *u = (Emu *)d;
    for (size_t i = 0; i < u->n_regions; i++)
        if (u->regions[i].p == p) {
            forget_region(u, i);
            return;
        }
}

static void *emu_alloc_common(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e) {
    void *p = emu_alloc(d, size, name, e);
    *why = (Err){""};
    for (int i = 0; p && i < n; i++) {
        if (emu_mem_share(((Emu *)others[i])->mem, ((Emu *)d)->mem, p, e)) continue;
        while (i--) emu_mem_remove(((Emu *)others[i])->mem, p);
        emu_free(d, p);
        return NULL;
    }
    return p;
}

static void emu_free_common(Device *d, Device *const *others, int n, void *p) {
    for (int i = 0; i < n; i++) emu_mem_remove(((Emu *)others[i])->mem, p);
    emu_free(d, p);
}

/* Kernels load weights 16 bytes at a time: what the file aligns less is copied. */
static void *emu_adopt(Device *d, const void *p, size_t size, const char *name) {
    Err e;
    void *at = (void *)(uintptr_t)p;
    return (uintptr_t)p % 16 == 0 && size && add_region((Emu *)d, at, size, name, false, &e) ? at : NULL;
}

static bool emu_upload(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    (void)stream, (void)e;
    if (!n) return true;
    memcpy(dst, src, n);
    emu_mem_mark(((Emu *)d)->mem, dst, n, true);
    return true;
}

static bool emu_download(Device *d, int stream, void *dst, const void *src, size_t n, Err *e) {
    (void)stream;
    if (!n) return true;
    if (!emu_mem_check(((Emu *)d)->mem, src, n, e)) return false;
    memcpy(dst, src, n);
    return true;
}

static bool emu_fill(Device *d, int stream, void *dst, int byte, size_t n, Err *e) {
    (void)stream, (void)e;
    if (!n) return true;
    memset(dst, byte, n);
    emu_mem_mark(((Emu *)d)->mem, dst, n, true);
    return true;
}

static bool emu_sync(Device *d, int stream, Err *e) {
    (void)d, (void)stream, (void)e;
    return true;
}

static void emu_forget(Device *d, void *p, size_t n) {
    if (n) emu_mem_mark(((Emu *)d)->mem, p, n, false); /* what alloc made has its shadow: this cannot fail */
}

static DeviceModule *emu_module_load(Device *d, const PlanModule *m, Err *e) {
    (void)d;
    EmuModule *code = emu_load(m->code, m->code_size, e);
    if (!code) return err_wrap(e, "device emu: %s", m->name), NULL;
    if (m->lines && !emu_lines(code, m->lines, e)) return emu_unload(code), err_wrap(e, "device emu: %s", m->name), NULL;
    DeviceModule *r = malloc(sizeof *r);
    if (!r) return emu_unload(code), err_set(e, "device emu: out of memory"), NULL;
    r->code = code;
    return r;
}

static void emu_module_unload(Device *d, DeviceModule *m) {
    (void)d;
    if (m) emu_unload(m->code);
    free(m);
}

static DeviceKernel *emu_kernel(Device *d, DeviceModule *m, const PlanKernel *pk, Err *e) {
    Emu *u = (Emu *)d;
    const EmuKernel *found = emu_kernel_find(m->code, pk->symbol);
    if (!found) return err_set(e, "device emu: the code object has no kernel %s", pk->symbol), NULL;
    DeviceKernel *k = calloc(1, sizeof *k);
    if (!k) return err_set(e, "device emu: out of memory"), NULL;
    *k = (DeviceKernel){.code = m->code, .symbol = found->name, .next = u->kernels};
    if (u->options.profile) k->executed = calloc(emu_instruction_count(m->code), sizeof *k->executed);
    if (u->options.profile && !k->executed) return free(k), err_set(e, "device emu: out of memory"), NULL;
    return u->kernels = k;
}

static void emu_whole(Device *d, bool whole) { ((Emu *)d)->whole = whole; }

/* Linear ids of options.sample workgroups (2 or more) spread over the grid, the first and the last among them; 0: run all. */
static size_t sample_blocks(const Emu *u, const uint32_t grid[3], uint32_t *only) {
    uint64_t n = u->options.sample, all = (uint64_t)grid[0] * grid[1] * grid[2];
    if (u->whole || !n || n >= all) return 0;
    for (uint64_t i = 0; i < n; i++) only[i] = (uint32_t)(i * (all - 1) / (n - 1));
    return n;
}

static bool emu_launch_kernel(Device *d, int stream, DeviceKernel *k, const uint32_t grid[3], uint32_t block,
                              uint32_t lds, void *const *args, int n_args, Err *e) {
    (void)stream;
    Emu *u = (Emu *)d;
    uint32_t only[DEVICE_MOST_SAMPLE];
    EmuLaunch l = {
        .kernel = k->symbol,
        .grid = {grid[0], grid[1], grid[2]},
        .block = {block, 1, 1},
        .dynamic_lds = lds,
        .kernarg = args,
        .kernarg_size = (size_t)n_args * sizeof *args,
        .seed = u->options.seed,
        .max_instructions = u->options.limit,
        .threads = (uint32_t)u->options.threads,
        .executed = k->executed,
        .races = u->options.races,
    };
    l.n_only = sample_blocks(u, grid, only);
    l.only = l.n_only ? only : NULL;
    if (emu_launch(k->code, u->mem, &l, &k->counts, e)) return true;
    if (strstr(e->msg, ": hung: ")) err_add(e, "; if it is only long, --emu-limit allows more");
    return false;
}

static json_t *counts_json(const DeviceKernel *k) {
    const EmuCounts *c = &k->counts;
    json_t *j = json_pack("{s:s, s:f}", "kernel", k->symbol, "seconds", c->seconds);
#define N(field) json_object_set_new(j, #field, json_integer((json_int_t)c->field))
    N(launches), N(waves), N(instructions), N(salu), N(valu), N(mfma), N(smem), N(vmem), N(lds), N(branch), N(barriers);
    N(bytes_read), N(bytes_written), N(lds_bytes), N(longest);
#undef N
    json_t *lines = json_array();
    EmuHot hot[HOT_LINES];
    size_t n = k->executed ? emu_hot(k->code, k->executed, hot, HOT_LINES) : 0;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(lines, json_pack("{s:s, s:I, s:I}", "file", hot[i].file, "line", (json_int_t)hot[i].line, "instructions",
                                               (json_int_t)hot[i].executed));
    json_object_set_new(j, "hot", lines);
    return j;
}

/* The lines that most instructions are of, with their share of the kernel's. */
static void hot_text(const DeviceKernel *k, Text *t) {
    EmuHot hot[HOT_LINES];
    size_t n = k->executed ? emu_hot(k->code, k->executed, hot, HOT_LINES) : 0;
    for (size_t i = 0; i < n; i++)
        text_add(t, "    %5.1f%% %14llu  %s:%u\n", 100.0 * (double)hot[i].executed / (double)k->counts.instructions,
                 (unsigned long long)hot[i].executed, hot[i].file, hot[i].line);
}

static void emu_profile(Device *d, Text *t, bool json) {
    Emu *u = (Emu *)d;
    json_t *list = json_array();
    if (!json)
        text_add(t, "%-40s %8s %10s %12s %12s %10s %10s %10s %10s %12s %12s %9s\n", "kernel", "launches", "waves",
                 "instructions", "longest", "valu", "mfma", "vmem", "lds", "bytes read", "written", "seconds");
    for (const DeviceKernel *k = u->kernels; k; k = k->next) {
        const EmuCounts *c = &k->counts;
        if (!c->launches) continue;
        if (json) json_array_insert_new(list, 0, counts_json(k));
        else
            text_add(t, "%-40s %8llu %10llu %12llu %12llu %10llu %10llu %10llu %10llu %12llu %12llu %9.3f\n", k->symbol,
                     (unsigned long long)c->launches, (unsigned long long)c->waves, (unsigned long long)c->instructions,
                     (unsigned long long)c->longest, (unsigned long long)c->valu, (unsigned long long)c->mfma,
                     (unsigned long long)c->vmem, (unsigned long long)c->lds, (unsigned long long)c->bytes_read,
                     (unsigned long long)c->bytes_written, c->seconds), hot_text(k, t);
    }
    char *s = json ? json_dumps(list, JSON_COMPACT) : NULL;
    if (s) text_add(t, "%s", s);
    free(s);
    json_decref(list);
}

const DeviceOps dev_emu = {
    .name = "emu",
    .simulated = true,
    .many = true,
    .count = emu_count,
    .open = emu_open,
    .close = emu_close,
    .info = emu_info,
    .alloc = emu_alloc,
    .free = emu_free,
    .adopt = emu_adopt,
    .alloc_common = emu_alloc_common,
    .free_common = emu_free_common,
    .upload = emu_upload,
    .download = emu_download,
    .fill = emu_fill,
    .sync = emu_sync,
    .forget = emu_forget,
    .whole = emu_whole,
    .module_load = emu_module_load,
    .module_unload = emu_module_unload,
    .kernel = emu_kernel,
    .launch = emu_launch_kernel,
    .profile = emu_profile,
};
