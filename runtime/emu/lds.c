/* lds.c - ds_ instructions. One shadow byte per LDS byte says "written by this workgroup"; a workgroup runs on one thread.
 *
 * Alignment: gfx90a under HIP allows unaligned LDS access; only atomics are reported. */
#include "access.h"
#include "race.h"

static void bad_lds(Wave *w, const Inst *i, int lane, uint32_t offset, uint32_t n, bool write) {
    const Group *g = w->g;
    if ((uint64_t)offset + n > g->lds_size)
        wave_fault(w, i, lane, "%s %u bytes at LDS offset %u: outside its %u bytes", write ? "writes" : "reads", n, offset, g->lds_size);
    uint32_t k = 0;
    while (k < n && g->lds_bits[offset + k]) k++;
    wave_doubt(w, i, lane, "reads %u bytes at LDS offset %u: byte %u was never written", n, offset, offset + k);
}

INLINED bool written(const uint8_t *bits, uint32_t n) {
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t a = ones, b = ones;
    if (n >= 8) {
        memcpy(&a, bits, 8);
        memcpy(&b, bits + n - 8, 8);
    } else memcpy(&a, bits, n);
    return (a & b) == ones;
}

INLINED uint8_t *at(Wave *w, const Inst *i, int lane, uint32_t offset, uint32_t n, bool write) {
    Group *g = w->g;
    if ((uint64_t)offset + n > g->lds_size) bad_lds(w, i, lane, offset, n, write);
    if (g->race) race_lds(w, i, offset, n, write);
    if (write) memset(g->lds_bits + offset, 1, n);
    else if (!written(g->lds_bits + offset, n)) bad_lds(w, i, lane, offset, n, write);
    return g->lds + offset;
}

uint8_t *lds_at(Wave *w, const Inst *i, int lane, uint32_t offset, uint32_t n, bool write) { return at(w, i, lane, offset, n, write); }

/* Each active lane's own n bytes, of words; inlined with n a constant. */
INLINED void load_lanes(Wave *w, const Inst *i, const uint32_t *a, uint32_t off, uint32_t *d, uint32_t n) {
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        const uint8_t *p = at(w, i, l, a[l] + off, n, false);
        for (uint32_t k = 0; k < n / 4; k++) memcpy(&d[k * LANES + (uint32_t)l], p + 4 * k, 4);
    }
}

INLINED void store_lanes(Wave *w, const Inst *i, const uint32_t *a, uint32_t off, const uint32_t *s, uint32_t n) {
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        uint8_t *p = at(w, i, l, a[l] + off, n, true);
        for (uint32_t k = 0; k < n / 4; k++) memcpy(p + 4 * k, &s[k * LANES + (uint32_t)l], 4);
    }
}

INLINED void load_words(Wave *w, const Inst *i, const uint32_t *a, uint32_t off, uint32_t *d, uint32_t n) {
    if (n == 4) load_lanes(w, i, a, off, d, 4);
    else if (n == 8) load_lanes(w, i, a, off, d, 8);
    else if (n == 16) load_lanes(w, i, a, off, d, 16);
    else load_lanes(w, i, a, off, d, n);
}

INLINED void store_words(Wave *w, const Inst *i, const uint32_t *a, uint32_t off, const uint32_t *s, uint32_t n) {
    if (n == 4) store_lanes(w, i, a, off, s, 4);
    else if (n == 8) store_lanes(w, i, a, off, s, 8);
    else if (n == 16) store_lanes(w, i, a, off, s, 16);
    else store_lanes(w, i, a, off, s, n);
}

static const uint32_t *addresses(const Wave *w, const Inst *i, uint32_t *tmp) { return source_rows(w, &i->s[0], tmp); }

/* Are all 64 lanes' accesses side by side from `at` on (the first's; the sum of address and offset wraps), inside, and (for a read)
 * written? Then they are one copy. */
INLINED bool dense(const Wave *w, const uint32_t *a, uint32_t at, uint32_t n, bool write) {
    const Group *g = w->g;
    uint32_t apart = 0;
    EACH_LANE apart |= a[l] ^ (a[0] + (uint32_t)l * n);
    if (apart || ~EXEC || g->race || (uint64_t)at + LANES * n > g->lds_size) return false;
    return write || !memchr(g->lds_bits + at, 0, LANES * n);
}

INLINED void load(Wave *w, const Inst *i) {
    uint32_t tmp[2 * LANES], copy[LANES], n = i->op->a, *d = V(w, i->d.reg), off = (uint32_t)i->offset;
    const uint32_t *a = addresses(w, i, tmp);
    w->lds_bytes += n * (uint64_t)__builtin_popcountll(EXEC);
    memcpy(copy, a, sizeof copy); /* the destination may hold the addresses */
    const uint32_t first = copy[0] + off;
    if (i->op->b == WORDS && dense(w, copy, first, n, false)) {
        const uint8_t *p = w->g->lds + first;
        for (uint32_t k = 0; k < n / 4; k++) EACH_LANE memcpy(&d[k * LANES + (uint32_t)l], p + 4 * k + n * (uint32_t)l, 4);
        return;
    }
    if (i->op->b == WORDS) {
        load_words(w, i, copy, off, d, n);
        return;
    }
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        land(d, at(w, i, l, copy[l] + off, n, false), i->op, l);
    }
}
BEST(run_ds_load, load)

INLINED void store(Wave *w, const Inst *i) {
    uint32_t tmp[2 * LANES], n = i->op->a, off = (uint32_t)i->offset;
    const uint32_t *a = addresses(w, i, tmp), *s = V(w, i->s[1].reg);
    w->lds_bytes += n * (uint64_t)__builtin_popcountll(EXEC);
    const uint32_t first = a[0] + off;
    if (i->op->b == WORDS && dense(w, a, first, n, true)) {
        uint8_t *p = w->g->lds + first;
        for (uint32_t k = 0; k < n / 4; k++) EACH_LANE memcpy(p + 4 * k + n * (uint32_t)l, &s[k * LANES + (uint32_t)l], 4);
        memset(w->g->lds_bits + first, 1, LANES * n);
        return;
    }
    if (i->op->b == WORDS) {
        store_words(w, i, a, off, s, n);
        return;
    }
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        lift(s, at(w, i, l, a[l] + off, n, true), i->op, l);
    }
}
BEST(run_ds_store, store)

INLINED void read2(Wave *w, const Inst *i) {
    uint32_t a[2 * LANES], n = i->op->a, step = n * i->op->b, *d = V(w, i->d.reg);
    memcpy(a, addresses(w, i, a), LANES * 4);
    load_words(w, i, a, (uint32_t)i->offset * step, d, n);
    load_words(w, i, a, (uint32_t)i->offset1 * step, d + n / 4 * LANES, n);
    w->lds_bytes += 2 * n * (uint64_t)__builtin_popcountll(EXEC);
}
BEST(run_ds_read2, read2)

INLINED void write2(Wave *w, const Inst *i) {
    uint32_t tmp[2 * LANES], n = i->op->a, step = n * i->op->b;
    const uint32_t *a = addresses(w, i, tmp);
    store_words(w, i, a, (uint32_t)i->offset * step, V(w, i->s[1].reg), n);
    store_words(w, i, a, (uint32_t)i->offset1 * step, V(w, i->s[2].reg), n);
    w->lds_bytes += 2 * n * (uint64_t)__builtin_popcountll(EXEC);
}
BEST(run_ds_write2, write2)

/* One data operand, or two: then the first is what is compared (or the mask), the second the new value. */
void run_ds_atomic(Wave *w, const Inst *i) {
    uint32_t tmp[2 * LANES], n = i->op->a, words = n / 4;
    const uint32_t *a = addresses(w, i, tmp);
    bool two = i->s[2].where == W_VGPR;
    const uint32_t *first = V(w, i->s[1].reg), *value = two ? V(w, i->s[2].reg) : first;
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        uint32_t v[2] = {0}, c[2] = {0}, old[2], at = a[l] + (uint32_t)i->offset;
        if (at % n) wave_fault(w, i, l, "atomic on %u bytes at LDS offset %u, which is not a multiple of %u", n, at, n);
        lds_at(w, i, l, at, n, false);
        for (uint32_t k = 0; k < words; k++) v[k] = value[k * LANES + (uint32_t)l], c[k] = first[k * LANES + (uint32_t)l];
        i->op->atom(w->g->lds + at, v, c, old);
        if (i->op->flags & OP_RETURNS)
            for (uint32_t k = 0; k < words; k++) V(w, i->d.reg)[k * LANES + (uint32_t)l] = old[k];
    }
    w->lds_bytes += n * (uint64_t)__builtin_popcountll(EXEC);
}

/* --- exchanges between lanes --------------------------------------------------------------------------------------------- */

/* Each lane reads from the lane that it names; an inactive lane gives 0. */
INLINED void bpermute(Wave *w, const Inst *i) {
    uint32_t ta[2 * LANES], tb[2 * LANES], active[LANES] = {0}, out[LANES];
    const uint32_t *a = addresses(w, i, ta), *s = source_rows(w, &i->s[1], tb);
    if (~EXEC) merge(active, s, EXEC), s = active;
    EACH_LANE out[l] = s[(a[l] + (uint32_t)i->offset) >> 2 & 63];
    if (~EXEC) merge(V(w, i->d.reg), out, EXEC);
    else memcpy(V(w, i->d.reg), out, sizeof out);
}
BEST(run_ds_bpermute, bpermute)

/* Each active lane sends to the lane that it names; the highest sender wins; nobody's target gets 0. */
void run_ds_permute(Wave *w, const Inst *i) {
    uint32_t ta[2 * LANES], tb[2 * LANES], out[LANES] = {0};
    const uint32_t *a = addresses(w, i, ta), *s = source_rows(w, &i->s[1], tb);
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        out[(a[l] + (uint32_t)i->offset) >> 2 & 63] = s[l];
    }
    merge(V(w, i->d.reg), out, EXEC);
}

static int swizzled(uint32_t pattern, int l) {
    if (pattern >> 15) return (l & ~3) + (int)(pattern >> 2 * (l & 3) & 3);
    int in = l & 31;
    return (l & 32) + (int)(((((uint32_t)in & pattern) | pattern >> 5) ^ pattern >> 10) & 31);
}

/* Offsets from 0xc000 rotate within 32 lanes, from 0xe000 are the FFT's; the latter is reported. */
static int rotated(uint32_t pattern, int l) {
    int by = (int)(pattern >> 5 & 31), keep = (int)(pattern & 31), in = l & 31;
    int to = pattern >> 10 & 1 ? in - by : in + by;
    return (l & 32) + ((in & keep) | (to & 31 & ~keep));
}

void run_ds_swizzle(Wave *w, const Inst *i) {
    uint32_t tb[2 * LANES], out[LANES], pattern = (uint32_t)i->offset;
    const uint32_t *s = source_rows(w, &i->s[0], tb);
    if (pattern >= 0xe000) wave_fault(w, i, -1, "this swizzle (FFT) is not implemented");
    EACH_LANE {
        int from = pattern >= 0xc000 ? rotated(pattern, l) : swizzled(pattern, l);
        out[l] = EXEC >> from & 1 ? s[from] : 0;
    }
    merge(V(w, i->d.reg), out, EXEC);
}

/* --- counters and lane-indexed words ---------------------------------------------------------------------------------------- */

static void counter(Wave *w, const Inst *i, int sign) {
    uint32_t at = (w->s[R_M0] >> 16) + (uint32_t)i->offset, old, out[LANES];
    uint8_t *p = lds_at(w, i, -1, at, 4, false);
    memcpy(&old, p, 4);
    uint32_t now = old + (uint32_t)(sign * __builtin_popcountll(EXEC));
    memcpy(p, &now, 4);
    EACH_LANE out[l] = old;
    merge(V(w, i->d.reg), out, EXEC);
}
void run_ds_append(Wave *w, const Inst *i) { counter(w, i, 1); }
void run_ds_consume(Wave *w, const Inst *i) { counter(w, i, -1); }

static uint32_t addtid(const Wave *w, const Inst *i, int l) { return (w->s[R_M0] & 0xffff) + (uint32_t)i->offset + 4u * (uint32_t)l; }

void run_ds_read_addtid(Wave *w, const Inst *i) {
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        memcpy(&V(w, i->d.reg)[l], lds_at(w, i, l, addtid(w, i, l), 4, false), 4);
    }
}
void run_ds_write_addtid(Wave *w, const Inst *i) {
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        memcpy(lds_at(w, i, l, addtid(w, i, l), 4, true), &V(w, i->s[0].reg)[l], 4);
    }
}
void run_ds_ds_nop(Wave *w, const Inst *i) { (void)w, (void)i; }
