/* map.c - the hash of map.h, with a seed that the process draws when it is first asked. */
#include "map.h"

#include <stdatomic.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

static _Atomic uint64_t seed; /* 0: not drawn yet */

/* Of two threads that draw at once the first one's holds: a map never sees two seeds. */
static uint64_t draw(void) {
    uint64_t drawn = 0, none = 0;
    if (getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != (ssize_t)sizeof drawn) { /* where it cannot: what differs a little */
        const uint64_t differs[] = {(uint64_t)getpid(), (uint64_t)(seconds_now() * 1e9), (uint64_t)(uintptr_t)&drawn};
        drawn = hash64(differs, sizeof differs);
    }
    drawn |= 1;
    return atomic_compare_exchange_strong(&seed, &none, drawn) ? drawn : none;
}

uint64_t map_hash(const void *bytes, size_t n) {
    uint64_t s = atomic_load_explicit(&seed, memory_order_relaxed);
    return XXH3_64bits_withSeed(bytes, n, s ? s : draw());
}
