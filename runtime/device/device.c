/* device.c - the devices this program knows. Add one: its dev_*.c and a row here. */
#include "device.h"

#include "ir/cli.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

extern const DeviceOps dev_hip, dev_cuda, dev_host, dev_emu, dev_ref;

static const struct {
    const char *name, *arch; /* arch: what the archs of its plans begin with; NULL: --device auto never takes it */
    const DeviceOps *ops; /* NULL: not built yet */
    const char *what;
} table[] = {
    {"hip", "gfx", &dev_hip, "AMD GPUs through the HIP runtime"},
    {"cuda", "sm_", &dev_cuda, "NVIDIA GPUs through the CUDA driver"},
    {"host", "host", &dev_host, "this CPU, compiled code (plans made with --arch host)"},
    {"emu", NULL, &dev_emu,
     "runs a plan's gfx90a code objects on the CPU, instruction by instruction, checking every access"},
    {"ref", NULL, &dev_ref, "interprets a plan's graph on the CPU with the ops' reference functions"},
};

const DeviceOps *device_find(const char *name) {
    for (size_t i = 0; i < LEN(table); i++)
        if (!strcmp(table[i].name, name)) return table[i].ops;
    return NULL;
}

static bool known(const char *name) {
    for (size_t i = 0; i < LEN(table); i++)
        if (!strcmp(table[i].name, name)) return true;
    return false;
}

/* The device made for the plan's arch. emu and ref are slow, so they are never taken silently. */
static Device *open_auto(int index, const Plan *p, const DeviceOptions *o, Err *e) {
    Err why = {""};
    for (size_t i = 0; i < LEN(table); i++) {
        if (!table[i].arch || !table[i].ops || strncmp(p->arch, table[i].arch, strlen(table[i].arch))) continue;
        Device *d = table[i].ops->open(index, p, o, &why);
        if (d) return d;
    }
    err_set(e,
            "no device here runs a plan for %s%s%s%s: %s--device ref interprets its graph on the CPU (slowly); or "
            "recompile with "
            "gptoss-compile --arch host",
            p->arch, *why.msg ? " (" : "", why.msg, *why.msg ? ")" : "",
            strncmp(p->arch, "gfx90a", 6) ? "" : "--device emu runs its code, ");
    return NULL;
}

Device *device_open(const char *name, int index, const Plan *p, const DeviceOptions *o, Err *e) {
    if (o->races && strcmp(name, "emu")) return err_set(e, "--races: device %s does not see them; --device emu does", name), NULL;
    if (!strcmp(name, "auto")) return open_auto(index, p, o, e);
    const DeviceOps *ops = device_find(name);
    if (ops) return ops->open(index, p, o, e);
    if (known(name)) err_set(e, "device %s: not built yet; --device host, emu and ref are", name);
    else {
        static const char *const names[] = {"auto", "hip", "cuda", "host", "emu", "ref", NULL};
        err_set(e, "no device \"%s\"; there are auto, hip, cuda, host, emu, ref", name);
        cli_suggest(e, name, names);
    }
    return NULL;
}

int device_count(const char *name, const Plan *p) {
    for (size_t i = 0; i < LEN(table); i++) {
        const char *arch = table[i].arch;
        bool it = strcmp(name, "auto") ? !strcmp(table[i].name, name) : arch && !strncmp(p->arch, arch, strlen(arch));
        if (it && table[i].ops) return table[i].ops->count();
    }
    return 0;
}

static int not_several(const DeviceOps *ops, Err *e) {
    Text t = {0};
    if (ops->list) ops->list(&t);
    if (t.n) err_add(e, ":\n%.*s", (int)t.n - 1, t.at);
    text_free(&t);
    return 0;
}

int device_several(const Device *d, int64_t n, const Plan *p, Err *e) {
    const DeviceOps *ops = d->ops;
    int there = ops->count(), each = (int)p->devices;
    if (ops->many && there < each) there = each;
    int all = n ? (int)n : there < each ? each : there / each * each;
    if (all > there) {
        err_set(e, "-g %d: of device %s there %s %d", all, ops->name, there == 1 ? "is" : "are", there);
        if (each > 1) err_add(e, ", and the plan is for groups of %d (gptoss-compile --ep)", each);
        return not_several(ops, e);
    }
    if (all % each)
        return err_set(e, "-g %d: the plan is for groups of %d devices (gptoss-compile --ep): give a multiple of %d", all, each, each), 0;
    for (int i = 0; i < all; i++)
        if (ops->runs && !ops->runs(i, p)) {
            err_set(e, "-g %d: device %s %d does not run a plan for %s (%s_VISIBLE_DEVICES chooses among these)", all, ops->name, i,
                    p->arch, strcmp(ops->name, "hip") ? "CUDA" : "HIP");
            return not_several(ops, e);
        }
    return all;
}

static atomic_bool stuck;

void device_say_stuck(bool now) { atomic_store(&stuck, now); }
bool device_is_stuck(void) { return atomic_load(&stuck); }

double device_hang_seconds(void) {
    return seconds_env("GPTOSS_HANG_SECONDS", 120);
}

void *device_alloc_common(Device *d, Device *const *others, int n, size_t size, const char *name, Err *why, Err *e) {
    (void)others, (void)n;
    *why = (Err){""};
    return d->ops->alloc(d, size, name, e);
}

void device_free_common(Device *d, Device *const *others, int n, void *p) {
    (void)others, (void)n;
    d->ops->free(d, p);
}

static atomic_size_t all_held; /* by all devices whose memory is the machine's: those of a group, parity's two, one of each group */

static size_t machine_memory(void) {
    struct sysinfo m;
    return sysinfo(&m) ? SIZE_MAX : ((size_t)m.totalram + m.totalswap) * m.mem_unit;
}

void device_bound_memory(void) {
    size_t all = machine_memory();
    if (all < SIZE_MAX) memory_bound(all);
}

void *device_take(size_t *held, size_t size, const char *device, const char *name, Err *e) {
    size_t sum, now = atomic_load(&all_held), all = machine_memory();
    if (!size_add(now, size, &sum) || sum > all)
        return err_set(e, "device %s: out of memory: %zu bytes for %s, beside %zu (the machine has %zu)", device, size, name, now, all), NULL;
    void *p = large_alloc(size);
    if (!p) return err_set(e, "device %s: out of memory: %zu bytes for %s", device, size, name), NULL;
    const size_t bytes = malloc_usable_size(p);
    *held += bytes, atomic_fetch_add(&all_held, bytes);
    return p;
}

void device_give(size_t *held, void *p) {
    const size_t bytes = malloc_usable_size(p);
    *held -= bytes, atomic_fetch_sub(&all_held, bytes);
    free(p);
}

void device_close(Device *d) {
    if (d) d->ops->close(d);
}

void device_list(Text *t) {
    for (size_t i = 0; i < LEN(table); i++) {
        text_add(t, "%-5s %s: ", table[i].name, table[i].what);
        if (table[i].ops) text_add(t, "%d here\n", table[i].ops->count());
        else text_add(t, "not built yet\n");
        if (table[i].ops && table[i].ops->list) table[i].ops->list(t);
    }
}
