/* json_memory.c - see json_memory.h. */
#include "json_memory.h"
#include "base.h"

#include <jansson.h>
#include <stdlib.h>

static void *allocate(size_t n) {
    void *p = malloc(n);
    if (!p) out_of_memory(n, "a JSON text");
    return p;
}

void json_memory(void) { json_set_alloc_funcs(allocate, free); }
