/* map.c - the hash of map.h, with a seed that the process draws when it is first asked. */
#include "map.h"

#include <stdatomic.h>
#include <xxhash.h>

static _Atomic uint64_t seed; /* 0: not drawn yet */

/* Of two threads that draw at once the first one's holds: a map never sees two seeds. */
static uint64_t draw(void) {
    uint64_t drawn = random_seed() | 1, none = 0;
    return atomic_compare_exchange_strong(&seed, &none, drawn) ? drawn : none;
}

uint64_t map_hash(const void *bytes, size_t n) {
    uint64_t s = atomic_load_explicit(&seed, memory_order_relaxed);
    return XXH3_64bits_withSeed(bytes, n, s ? s : draw());
}
