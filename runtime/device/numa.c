/* numa.c - see numa.h. Linux's sysfs tells it all; GPTOSS_SYSFS (default /sys) is another such tree, for tests. */
#include "numa.h"

#include "ir/base.h"

#include <ctype.h>
#include <sched.h>
#include <stdlib.h>

static FILE *sys_open(const char *fmt, const char *name) {
    const char *root = getenv("GPTOSS_SYSFS");
    char path[512], rest[256];
    snprintf(rest, sizeof rest, fmt, name);
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : "/sys", rest);
    return fopen(path, "r");
}

int numa_node(const char *pci_bus_id) {
    char id[32];
    int node = -1;
    snprintf(id, sizeof id, "%s", pci_bus_id);
    for (char *p = id; *p; p++) *p = (char)tolower((unsigned char)*p);
    FILE *f = sys_open("bus/pci/devices/%s/numa_node", id);
    if (f && fscanf(f, "%d", &node) != 1) node = -1;
    if (f) fclose(f);
    return node;
}

/* "0-15,64-79" */
static void read_cpus(int node, cpu_set_t *set) {
    char number[16], comma;
    int first, last;
    snprintf(number, sizeof number, "%d", node);
    FILE *f = sys_open("devices/system/node/node%s/cpulist", number);
    CPU_ZERO(set);
    while (f && fscanf(f, "%d", &first) == 1) {
        last = first;
        int n = fscanf(f, "%c", &comma);
        if (n == 1 && comma == '-' && fscanf(f, "%d%c", &last, &comma) < 1) break;
        for (int i = first; i >= 0 && i <= last && i < CPU_SETSIZE; i++) CPU_SET(i, set);
    }
    if (f) fclose(f);
}

void numa_bind(int node) {
    static _Thread_local cpu_set_t mine; /* as it was before the first call: another device may be near others of them */
    static _Thread_local bool known;
    const char *asked = getenv("GPTOSS_NUMA");
    cpu_set_t near;
    if (node < 0 || (asked && !strcmp(asked, "0"))) return;
    if (!known && !(known = !sched_getaffinity(0, sizeof mine, &mine))) return;
    read_cpus(node, &near);
    CPU_AND(&near, &near, &mine);
    if (CPU_COUNT(&near)) sched_setaffinity(0, sizeof near, &near);
}
