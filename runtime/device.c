/* device.c - the devices this program knows. Add one: its dev_*.c and a row here. */
#include "device.h"

extern const DeviceOps dev_emu, dev_host, dev_ref;

static const struct {
    const char *name;
    const DeviceOps *ops; /* NULL: not built yet */
    const char *what;
} table[] = {
    {"hip", NULL, "AMD GPUs through the HIP runtime"},
    {"cuda", NULL, "NVIDIA GPUs"},
    {"host", &dev_host, "this CPU, compiled code (plans made with --arch host)"},
    {"emu", &dev_emu, "runs a plan's gfx90a code objects on the CPU, instruction by instruction, checking every access"},
    {"ref", &dev_ref, "interprets a plan's graph on the CPU with the ops' reference functions"},
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

/* No other device that --device auto could take is built yet; emu and ref are slow, so they are never taken silently. */
static Device *open_auto(const Plan *p, Err *e) {
    err_set(e, "no device here runs a plan for %s: --device emu runs its gfx90a code on the CPU, --device ref its graph (both slowly); "
               "or recompile with gptoss-compile --arch host", p->arch);
    return NULL;
}

Device *device_open(const char *name, int index, const Plan *p, const DeviceOptions *o, Err *e) {
    if (!strcmp(name, "auto") && !strcmp(p->arch, "host")) name = "host";
    if (!strcmp(name, "auto")) return open_auto(p, e);
    const DeviceOps *ops = device_find(name);
    if (ops) return ops->open(index, p, o, e);
    if (known(name)) err_set(e, "device %s: not built yet; --device host, emu and ref are", name);
    else err_set(e, "no device \"%s\"; there are auto, hip, cuda, host, emu, ref", name);
    return NULL;
}

void device_close(Device *d) {
    if (d) d->ops->close(d);
}

void device_list(Text *t) {
    for (size_t i = 0; i < LEN(table); i++) {
        text_add(t, "%-5s %s: ", table[i].name, table[i].what);
        if (table[i].ops) text_add(t, "%d here\n", table[i].ops->count());
        else text_add(t, "not built yet\n");
    }
}
