/* memory_test.c - devices whose memory is the machine's share it: what one holds another cannot have, until it is given back; nor can
 * the process have more beside them. */
#include "runtime/device/device.h"

#include <stdlib.h>
#include <sys/sysinfo.h>

static int failures;

static void result(const char *device, const char *name, bool ok, const char *why) {
    if (ok) printf("ok memory-%s-%s\n", device, name);
    else printf("FAIL memory-%s-%s: %s\n", device, name, why), failures++;
}

static void test(const char *name, const char *arch, size_t most) {
    Plan plan = {.arch = arch, .devices = 2};
    DeviceOptions o = {.threads = 1};
    Err e = {""};
    Device *a = device_open(name, 0, &plan, &o, &e), *b = a ? device_open(name, 1, &plan, &o, &e) : NULL;
    if (!b) {
        result(name, "open", false, e.msg);
        return;
    }
    void *p = a->ops->alloc(a, most / 8 * 5, "one", &e), *q = b->ops->alloc(b, most / 8 * 5, "two", &e);
    result(name, "together", p && !q && strstr(e.msg, "for two, beside"), p ? e.msg : "the first was refused");
    if (p) a->ops->free(a, p);
    q = b->ops->alloc(b, most / 8 * 5, "two", &e);
    result(name, "given-back", q, e.msg);
    device_close(b);
    p = a->ops->alloc(a, most / 8 * 5, "one", &e);
    result(name, "closed", p, e.msg);
    device_close(a);
    char *one = malloc(most / 8 * 5), *two = malloc(most / 8 * 5); /* what no device counts */
    result(name, "bound", one && !two, one ? "two of five eighths" : "the first was refused");
    free(one), free(two);
}

int main(void) {
    struct sysinfo m;
    if (sysinfo(&m)) return 1;
    test("ref", "any", ((size_t)m.totalram + m.totalswap) * m.mem_unit);
    test("emu", "gfx90a", ((size_t)m.totalram + m.totalswap) * m.mem_unit);
    return failures;
}
