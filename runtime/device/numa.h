/* numa.h - which CPUs are near a device. */
#ifndef GPTOSS_NUMA_H
#define GPTOSS_NUMA_H

/* The NUMA node that a PCI device ("0000:C0:00.0", any case) hangs on; -1 when the system does not say. */
int numa_node(const char *pci_bus_id);

/* Keeps the calling thread, and the threads it starts later, on the node's CPUs, of those that the first caller might use when it
 * called; so what it first touches lies in the node's memory. Nothing changes when node is -1, when it has none of those CPUs, or
 * with GPTOSS_NUMA=0. */
void numa_bind(int node);

#endif
