/* mem.c - registered memory: regions sorted by address, and one shadow bit per byte that says "written".
 *
 * A region that was filled by its owner needs no bits (NULL); they appear when part of it is marked unwritten. Launches
 * hold the lock for reading and copy the table; so regions may be added and removed from other threads only between
 * launches, and a launch looks up without locking. Two waves may set neighbouring bits of one byte at once: bits_set is
 * atomic where it does not own the whole byte. */
#include <stdlib.h>

#include "wave.h"

enum { MAX_REGIONS = 1 << 14 }; /* adding one moves those behind it, and a launch copies all; gpt-oss-120b has 700 */

EmuMem *emu_mem_new(void) {
    EmuMem *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->crew = crew_new();
    if (!m->crew) return free(m), NULL;
    pthread_rwlock_init(&m->lock, NULL);
    return m;
}

void emu_mem_free(EmuMem *m) {
    if (!m) return;
    crew_free(m->crew);
    for (size_t i = 0; i < m->n; i++)
        if (!m->at[i].borrowed) free(m->at[i].bits);
    free(m->at);
    pthread_rwlock_destroy(&m->lock);
    free(m);
}

/* --- bits --------------------------------------------------------------------------------------------------------- */

static uint8_t byte_mask(uint64_t at, uint64_t n) { /* bits of the byte that holds bit at, at most n of them */
    uint64_t first = at & 7, count = n < 8 - first ? n : 8 - first;
    return (uint8_t)(((1u << count) - 1) << first);
}

bool bits_all(const uint8_t *bits, uint64_t at, uint64_t n) {
    while (n && (at & 7 || n < 8)) {
        uint8_t m = byte_mask(at, n);
        if ((__atomic_load_n(&bits[at >> 3], __ATOMIC_RELAXED) & m) != m) return false;
        uint64_t step = (uint64_t)__builtin_popcount(m);
        at += step, n -= step;
    }
    const uint8_t *p = bits + (at >> 3);
    for (; n >= 64; n -= 64, p += 8) {
        uint64_t u;
        memcpy(&u, p, 8);
        if (~u) return false;
    }
    for (; n >= 8; n -= 8)
        if (*p++ != 255) return false;
    return n == 0 || bits_all(p, 0, n);
}

uint64_t bits_clear_at(const uint8_t *bits, uint64_t at, uint64_t n) {
    for (uint64_t k = 0; k < n; k++)
        if (!(bits[(at + k) >> 3] >> ((at + k) & 7) & 1)) return k;
    return n;
}

static void bits_change(uint8_t *bits, uint64_t at, uint64_t n, bool on) {
    while (n) {
        uint8_t m = byte_mask(at, n), *p = &bits[at >> 3];
        uint64_t step = (uint64_t)__builtin_popcount(m), whole = n / 8;
        if (m == 255) {
            memset(p, on ? 255 : 0, whole);
            step = whole * 8;
        } else if (on) {
            if ((__atomic_load_n(p, __ATOMIC_RELAXED) & m) != m) __atomic_fetch_or(p, m, __ATOMIC_RELAXED);
        } else {
            __atomic_fetch_and(p, (uint8_t)~m, __ATOMIC_RELAXED);
        }
        at += step, n -= step;
    }
}
void bits_set(uint8_t *bits, uint64_t at, uint64_t n) { bits_change(bits, at, n, true); }

static bool bits_make(Region *r, bool on) {
    r->bits = calloc(1, (r->hi - r->lo) / 8 + 16);
    if (r->bits && on) memset(r->bits, 255, (r->hi - r->lo) / 8 + 1);
    return r->bits != NULL;
}

/* --- regions ------------------------------------------------------------------------------------------------------ */

/* Index of the last region that starts at or below addr; -1 when none does. */
static ptrdiff_t at_or_below(const Region *at, size_t n, uint64_t addr) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (at[mid].lo <= addr) lo = mid + 1;
        else hi = mid;
    }
    return (ptrdiff_t)lo - 1;
}

const Region *region_before(const Regions *r, uint64_t addr) {
    ptrdiff_t i = at_or_below(r->at, r->n, addr);
    return i < 0 ? NULL : &r->at[i];
}

const Region *region_find(const Regions *r, uint64_t addr) {
    const Region *at = region_before(r, addr);
    return at && addr < at->hi ? at : NULL;
}

static bool insert(EmuMem *m, Region r, Err *e) {
    ptrdiff_t i = at_or_below(m->at, m->n, r.lo);
    if (i >= 0 && m->at[i].hi > r.lo) return err_set(e, "'%s' overlaps '%s'", r.name, m->at[i].name);
    if ((size_t)(i + 1) < m->n && m->at[i + 1].lo < r.hi) return err_set(e, "'%s' overlaps '%s'", r.name, m->at[i + 1].name);
    if (m->n == MAX_REGIONS) return err_set(e, "'%s' is one buffer too many: the emulator has at most %d", r.name, MAX_REGIONS);
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 16;
        Region *at = realloc(m->at, cap * sizeof *at);
        if (!at) return err_set(e, "out of memory: %zu bytes for the table with '%s'", cap * sizeof *at, r.name);
        m->at = at, m->cap = cap;
    }
    memmove(m->at + i + 2, m->at + i + 1, (m->n - (size_t)(i + 1)) * sizeof *m->at);
    m->at[i + 1] = r, m->n++;
    return true;
}

bool emu_mem_add(EmuMem *m, void *p, size_t size, const char *name, bool initialised, Err *e) {
    Region r = {.lo = (uint64_t)(uintptr_t)p, .hi = (uint64_t)(uintptr_t)p + size};
    snprintf(r.name, sizeof r.name, "%s", name ? name : "?");
    if (!p || !size) return err_set(e, "'%s' is empty", r.name);
    if (!initialised && !bits_make(&r, false)) return err_set(e, "out of memory: %zu bytes for the shadow of '%s'", size / 8, r.name);
    pthread_rwlock_wrlock(&m->lock);
    bool ok = insert(m, r, e);
    pthread_rwlock_unlock(&m->lock);
    if (!ok) free(r.bits);
    return ok;
}

bool emu_mem_share(EmuMem *m, EmuMem *of, void *p, Err *e) {
    pthread_rwlock_wrlock(&of->lock);
    ptrdiff_t i = at_or_below(of->at, of->n, (uint64_t)(uintptr_t)p);
    if (i < 0 || of->at[i].lo != (uint64_t)(uintptr_t)p) die("emu: %p is shared, and no region", p);
    bool ok = of->at[i].bits || bits_make(&of->at[i], true) || err_set(e, "out of memory for the shadow of '%s'", of->at[i].name);
    Region r = of->at[i];
    pthread_rwlock_unlock(&of->lock);
    r.borrowed = true;
    pthread_rwlock_wrlock(&m->lock);
    ok = ok && insert(m, r, e);
    pthread_rwlock_unlock(&m->lock);
    return ok;
}

void emu_mem_remove(EmuMem *m, void *p) {
    pthread_rwlock_wrlock(&m->lock);
    ptrdiff_t i = at_or_below(m->at, m->n, (uint64_t)(uintptr_t)p);
    if (i >= 0 && m->at[i].lo == (uint64_t)(uintptr_t)p) {
        if (!m->at[i].borrowed) free(m->at[i].bits);
        memmove(m->at + i, m->at + i + 1, (m->n - (size_t)i - 1) * sizeof *m->at);
        m->n--;
    }
    pthread_rwlock_unlock(&m->lock);
}

bool emu_mem_mark(EmuMem *m, void *p, size_t size, bool initialised) {
    bool ok = true;
    uint64_t lo = (uint64_t)(uintptr_t)p, hi = lo + size;
    pthread_rwlock_wrlock(&m->lock);
    ptrdiff_t i = at_or_below(m->at, m->n, lo);
    for (size_t k = i < 0 ? 0 : (size_t)i; k < m->n && m->at[k].lo < hi; k++) {
        Region *r = &m->at[k];
        uint64_t a = lo > r->lo ? lo : r->lo, b = hi < r->hi ? hi : r->hi;
        if (a >= b || (!r->bits && initialised)) continue;
        if (!r->bits && !bits_make(r, true)) ok = false;
        else bits_change(r->bits, a - r->lo, b - a, initialised);
    }
    pthread_rwlock_unlock(&m->lock);
    return ok;
}

void emu_mem_protect(EmuMem *m, void *p) {
    pthread_rwlock_wrlock(&m->lock);
    ptrdiff_t i = at_or_below(m->at, m->n, (uint64_t)(uintptr_t)p);
    if (i >= 0 && m->at[i].lo == (uint64_t)(uintptr_t)p) m->at[i].readonly = true;
    pthread_rwlock_unlock(&m->lock);
}

bool emu_mem_check(EmuMem *m, const void *p, size_t size, Err *e) {
    uint64_t lo = (uint64_t)(uintptr_t)p;
    bool ok = true;
    pthread_rwlock_rdlock(&m->lock);
    ptrdiff_t i = at_or_below(m->at, m->n, lo);
    const Region *r = i < 0 ? NULL : &m->at[i];
    if (!r || lo >= r->hi || size > r->hi - lo) ok = err_set(e, "%zu bytes at %p are not inside one region", size, p);
    else if (r->bits && !bits_all(r->bits, lo - r->lo, size)) {
        uint64_t at = bits_clear_at(r->bits, lo - r->lo, size);
        ok = err_set(e, "'%s': byte %llu was never written", r->name, (unsigned long long)(lo - r->lo + at));
    }
    pthread_rwlock_unlock(&m->lock);
    return ok;
}
