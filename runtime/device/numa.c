/* numa.c - see numa.h. Linux's sysfs tells it all; GPTOSS_SYSFS (default /sys) is another such tree, for tests. */
#include "numa.h"

#include "ir/base.h"

#include <ctype.h>
#include <pthread.h>
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

/* The CPUs of the thread that called first, before it was bound: the threads that it starts for other devices inherit what it is
 * bound to, and their devices may be near others of these. */
static cpu_set_t mine;
static bool known;
static void read_mine(void) { known = !sched_getaffinity(0, sizeof mine, &mine); }

void numa_bind(int node) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *asked = getenv("GPTOSS_NUMA");
    cpu_set_t near;
    if (node < 0 || (asked && !strcmp(asked, "0"))) return;
    pthread_once(&once, read_mine);
    if (!known) return;
    read_cpus(node, &near);
    CPU_AND(&near, &near, &mine);
    if (CPU_COUNT(&near)) sched_setaffinity(0, sizeof near, &near);
}
