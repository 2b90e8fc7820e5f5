/* vmem.c - global_, flat_, scratch_ and buffer_ instructions.
 *
 * A wave's access is checked as a whole where it can be: all lanes in one region (remembered per instruction), then the
 * span's shadow bits at once; otherwise lane by lane. Dense accesses by all lanes are copied in one loop.
 * Alignment: HIP runs gfx90a with unaligned access enabled, so loads and stores of any address are legal here as they are
 * there; atomics must be aligned, and are reported. */
#include "access.h"
#include "race.h"

#define POINTER(a) ((uint8_t *)(uintptr_t)(a))

/* --- checks ----------------------------------------------------------------------------------------------------------- */

static NORETURN void outside(Wave *w, const Inst *i, int lane, uint64_t addr, uint64_t n, bool write) {
    const Regions *rs = &w->g->job->regions;
    const Region *r = region_before(rs, addr);
    const char *verb = write ? "writes" : "reads";
    unsigned long long a = addr, size = n;
    if (r && addr < r->hi)
        wave_fault(w, i, lane, "%s %llu bytes at 0x%llx: byte %llu of '%s' on, past its end at %llu", verb, size, a,
                   (unsigned long long)(addr - r->lo), r->name, (unsigned long long)(r->hi - r->lo));
    if (r && addr - r->hi < 1 << 20)
        wave_fault(w, i, lane, "%s %llu bytes at 0x%llx: outside all memory, %llu bytes past the end of '%s' (%llu bytes)", verb, size,
                   a, (unsigned long long)(addr - r->hi), r->name, (unsigned long long)(r->hi - r->lo));
    if (rs->n && (r ? r + 1 : rs->at) < rs->at + rs->n && (r ? r + 1 : rs->at)->lo - addr < 1 << 20)
        wave_fault(w, i, lane, "%s %llu bytes at 0x%llx: outside all memory, %llu bytes before '%s'", verb, size, a,
                   (unsigned long long)((r ? r + 1 : rs->at)->lo - addr), (r ? r + 1 : rs->at)->name);
    wave_fault(w, i, lane, "%s %llu bytes at 0x%llx: outside all memory", verb, size, a);
}

static void unwritten(Wave *w, const Inst *i, int lane, const Region *r, uint64_t at, uint64_t n) {
    uint64_t k = bits_clear_at(r->bits, at, n);
    wave_doubt(w, i, lane, "reads %llu bytes at 0x%llx: byte %llu of '%s' was never written", (unsigned long long)n,
               (unsigned long long)(r->lo + at), (unsigned long long)(at + k), r->name);
}

static const Region *find(Wave *w, const Inst *i, int lane, uint64_t addr, uint64_t n, bool write) {
    const Region *r = w->hit[i->index];
    if (!r || addr < r->lo || addr + n > r->hi || addr + n < addr) {
        r = region_find(&w->g->job->regions, addr);
        if (!r || addr + n > r->hi) outside(w, i, lane, addr, n, write);
        w->hit[i->index] = r;
    }
    if (write && r->readonly) wave_fault(w, i, lane, "writes %llu bytes at 0x%llx: '%s' is read-only", (unsigned long long)n, (unsigned long long)addr, r->name);
    return r;
}

void check_global(Wave *w, const Inst *i, int lane, uint64_t addr, uint64_t n, bool write) {
    const Region *r = find(w, i, lane, addr, n, write);
    if (w->g->race) race_global(w, i, r, addr, n, write);
    if (!r->bits) return;
    if (write) bits_set(r->bits, addr - r->lo, n);
    else if (!bits_all(r->bits, addr - r->lo, n)) unwritten(w, i, lane, r, addr - r->lo, n);
}

/* The lowest and highest address of the active lanes. */
INLINED void bounds(const uint64_t *addr, uint64_t exec, uint64_t *lo, uint64_t *hi) {
    uint64_t a = ~0ull, b = 0;
    if (!~exec) {
        EACH_LANE a = addr[l] < a ? addr[l] : a;
        EACH_LANE b = addr[l] > b ? addr[l] : b;
    } else {
        for (uint64_t m = exec; m; m &= m - 1) {
            uint64_t x = addr[__builtin_ctzll(m)];
            a = x < a ? x : a, b = x > b ? x : b;
        }
    }
    *lo = a, *hi = b;
}

INLINED bool dense(const uint64_t *addr, uint64_t exec, uint32_t n) {
    if (~exec || addr[63] - addr[0] != 63ull * n) return false;
    uint64_t off = 0;
    EACH_LANE off |= addr[l] ^ (addr[0] + (uint64_t)l * n);
    return off == 0;
}

/* All active lanes' accesses of n bytes; true when they are dense. */
INLINED bool check_wave(Wave *w, const Inst *i, const uint64_t *addr, uint64_t exec, uint32_t n, bool write) {
    uint64_t lo, hi;
    bool all = dense(addr, exec, n);
    bounds(addr, exec, &lo, &hi);
    const Region *r = w->hit[i->index];
    if (!r || lo < r->lo || hi + n > r->hi || hi + n < hi) r = region_find(&w->g->job->regions, lo);
    bool one = !w->g->race && r && lo >= r->lo && hi + n <= r->hi && hi + n > hi && !(write && r->readonly);
    if (one) w->hit[i->index] = r;
    if (one && !r->bits) return all;
    if (one && write && all) {
        bits_set(r->bits, lo - r->lo, hi + n - lo);
        return true;
    }
    if (one && !write && hi - lo < 1 << 14 && bits_all(r->bits, lo - r->lo, hi + n - lo)) return all;
    for (uint64_t m = exec; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        check_global(w, i, l, addr[l], n, write);
    }
    return all;
}

uint8_t *scratch_at(Wave *w, const Inst *i, int lane, int64_t offset, uint32_t n) {
    Group *g = w->g;
    if (offset < 0 || offset + n > g->scratch_size)
        wave_fault(w, i, lane, "%u bytes at scratch offset %lld: outside its %u bytes", n, (long long)offset, g->scratch_size);
    return g->scratch + ((size_t)w->id * LANES + (size_t)lane) * g->scratch_size + offset;
}

/* --- data --------------------------------------------------------------------------------------------------------------- */

void land(uint32_t *d, const uint8_t *p, const Op *op, int l) {
    uint32_t u = 0, n = op->a;
    if (op->b == WORDS) {
        for (uint32_t k = 0; k < n / 4; k++) memcpy(&d[k * LANES + (uint32_t)l], p + 4 * k, 4);
        return;
    }
    memcpy(&u, p, n);
    bool sign = op->b == SIGN || op->b == SIGN_LO || op->b == SIGN_HI;
    if (sign) u = n == 1 ? (uint32_t)(int8_t)u : (uint32_t)(int16_t)u;
    if (op->b == ZERO_LO || op->b == SIGN_LO) u = (d[l] & 0xffff0000) | (u & 0xffff);
    if (op->b == ZERO_HI || op->b == SIGN_HI) u = (d[l] & 0xffff) | u << 16;
    d[l] = u;
}

void lift(const uint32_t *s, uint8_t *p, const Op *op, int l) {
    if (op->b == WORDS) {
        for (uint32_t k = 0; k < op->a / 4u; k++) memcpy(p + 4 * k, &s[k * LANES + (uint32_t)l], 4);
        return;
    }
    uint32_t u = op->b == HIGH ? s[l] >> 16 : s[l];
    memcpy(p, &u, op->a);
}

/* All 64 lanes, n bytes each from or to its own address. Four dwords of four lanes are a 4x4 transposition. */
typedef uint32_t Quad __attribute__((vector_size(16)));

INLINED void transpose(Quad *r) {
    Quad a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    Quad c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5), r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5), r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

INLINED void gather4(uint32_t *d, const uint64_t *addr) {
    for (int l = 0; l < LANES; l += 4) {
        Quad r[4];
        for (int k = 0; k < 4; k++) memcpy(&r[k], POINTER(addr[l + k]), 16);
        transpose(r);
        for (int k = 0; k < 4; k++) memcpy(d + k * LANES + l, &r[k], 16);
    }
}

INLINED void scatter4(const uint32_t *s, const uint64_t *addr) {
    for (int l = 0; l < LANES; l += 4) {
        Quad r[4];
        for (int k = 0; k < 4; k++) memcpy(&r[k], s + k * LANES + l, 16);
        transpose(r);
        for (int k = 0; k < 4; k++) memcpy(POINTER(addr[l + k]), &r[k], 16);
    }
}

INLINED void gather(uint32_t *d, const uint64_t *addr, uint32_t words) {
    if (words == 4) {
        gather4(d, addr);
        return;
    }
    EACH_LANE for (uint32_t k = 0; k < words; k++) memcpy(&d[k * LANES + (uint32_t)l], POINTER(addr[l]) + 4 * k, 4);
}

INLINED void scatter(const uint32_t *s, const uint64_t *addr, uint32_t words) {
    if (words == 4) {
        scatter4(s, addr);
        return;
    }
    EACH_LANE for (uint32_t k = 0; k < words; k++) memcpy(POINTER(addr[l]) + 4 * k, &s[k * LANES + (uint32_t)l], 4);
}

INLINED void load_all(Wave *w, const Inst *i, const uint64_t *addr, uint64_t exec) {
    uint32_t n = i->op->a, *d = V(w, i->d.reg);
    bool all = check_wave(w, i, addr, exec, n, false);
    w->bytes_read += (uint64_t)n * (uint64_t)__builtin_popcountll(exec);
    if (all && i->op->b == WORDS && n == 4) {
        memcpy(d, POINTER(addr[0]), LANES * 4);
    } else if (!~exec && i->op->b == WORDS) {
        gather(d, addr, n / 4);
    } else {
        for (uint64_t m = exec; m; m &= m - 1) land(d, POINTER(addr[__builtin_ctzll(m)]), i->op, __builtin_ctzll(m));
    }
}

INLINED void store_all(Wave *w, const Inst *i, const uint64_t *addr, uint64_t exec) {
    uint32_t n = i->op->a;
    const uint32_t *s = V(w, i->s[1].reg);
    bool all = check_wave(w, i, addr, exec, n, true);
    w->bytes_written += (uint64_t)n * (uint64_t)__builtin_popcountll(exec);
    if (all && i->op->b == WORDS && n == 4) {
        memcpy(POINTER(addr[0]), s, LANES * 4);
    } else if (!~exec && i->op->b == WORDS) {
        scatter(s, addr, n / 4);
    } else {
        for (uint64_t m = exec; m; m &= m - 1) lift(s, POINTER(addr[__builtin_ctzll(m)]), i->op, __builtin_ctzll(m));
    }
}

/* --- one lane, any segment: flat addresses ----------------------------------------------------------------------------------- */

static uint8_t *flat_at(Wave *w, const Inst *i, int l, uint64_t addr, uint32_t n, bool read, bool write) {
    uint64_t segment = addr & 0xffff000000000000ull;
    if (segment == SHARED_BASE) {
        if (read) lds_at(w, i, l, (uint32_t)addr, n, false);
        return lds_at(w, i, l, (uint32_t)addr, n, write);
    }
    if (segment == PRIVATE_BASE) return scratch_at(w, i, l, (uint32_t)addr, n);
    if (read) check_global(w, i, l, addr, n, false);
    if (write) check_global(w, i, l, addr, n, true);
    return POINTER(addr);
}

INLINED bool any_segment(const uint64_t *addr, uint64_t exec) {
    uint64_t high = 0;
    for (uint64_t m = exec; m; m &= m - 1) high |= addr[__builtin_ctzll(m)];
    return high >> 48 != 0;
}

INLINED void addresses(const Wave *w, const Inst *i, uint64_t *addr) {
    const uint32_t *lo = V(w, i->s[0].reg), *hi = lo + LANES;
    uint64_t add = (uint64_t)(int64_t)i->offset;
    if (i->op->family == F_GLOBAL && i->s[2].where != W_OFF) {
        add += scalar64(w, &i->s[2]);
        EACH_LANE addr[l] = add + lo[l];
    } else {
        EACH_LANE addr[l] = add + ((uint64_t)lo[l] | (uint64_t)hi[l] << 32);
    }
}

INLINED void mem_load(Wave *w, const Inst *i) {
    uint64_t addr[LANES], exec = EXEC;
    if (!exec) return;
    addresses(w, i, addr);
    if (i->op->family == F_GLOBAL || !any_segment(addr, exec)) {
        load_all(w, i, addr, exec);
        return;
    }
    for (uint64_t m = exec; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        land(V(w, i->d.reg), flat_at(w, i, l, addr[l], i->op->a, true, false), i->op, l);
    }
}
BEST(run_mem_load, mem_load)

INLINED void mem_store(Wave *w, const Inst *i) {
    uint64_t addr[LANES], exec = EXEC;
    if (!exec) return;
    addresses(w, i, addr);
    if (i->op->family == F_GLOBAL || !any_segment(addr, exec)) {
        store_all(w, i, addr, exec);
        return;
    }
    for (uint64_t m = exec; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        lift(V(w, i->s[1].reg), flat_at(w, i, l, addr[l], i->op->a, false, true), i->op, l);
    }
}
BEST(run_mem_store, mem_store)

/* --- atomics ------------------------------------------------------------------------------------------------------------------ */

static void atomic_lane(Wave *w, const Inst *i, int l, uint8_t *p) {
    uint32_t n = i->op->a, words = n / 4;
    uint32_t data[4] = {0}, old[2];
    bool cmp = !!strstr(i->op->name, "cmpswap"); /* the new value, then the one compared with */
    if ((uintptr_t)p % n) wave_fault(w, i, l, "atomic on %u bytes at %p, which is not a multiple of %u", n, (void *)p, n);
    for (uint32_t k = 0; k < words * (cmp ? 2 : 1); k++) data[k] = V(w, i->s[1].reg)[k * LANES + (uint32_t)l];
    i->op->atom(p, data, data + words, old);
    if (i->glc)
        for (uint32_t k = 0; k < words; k++) V(w, i->d.reg)[k * LANES + (uint32_t)l] = old[k];
}

static void count_atomic(Wave *w, const Inst *i, uint64_t exec) {
    uint64_t n = (uint64_t)i->op->a * (uint64_t)__builtin_popcountll(exec);
    w->bytes_read += n, w->bytes_written += n;
}

void run_mem_atomic(Wave *w, const Inst *i) {
    uint64_t addr[LANES], exec = EXEC;
    addresses(w, i, addr);
    for (uint64_t m = exec; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        atomic_lane(w, i, l, flat_at(w, i, l, addr[l], i->op->a, true, true));
    }
    count_atomic(w, i, exec);
}

/* --- buffers: scratch through a swizzled descriptor, and raw buffers -------------------------------------------------------------- */

typedef struct Buffer Buffer;
struct Buffer {
    uint64_t base;
    bool swizzled;
    uint32_t records;
};

static Buffer descriptor(Wave *w, const Inst *i) {
    const uint32_t *s = &w->s[i->s[2].reg];
    Buffer b = {.base = (uint64_t)s[0] | (uint64_t)(s[1] & 0xffff) << 32, .swizzled = s[1] >> 31, .records = s[2]};
    if (!b.swizzled && (s[1] >> 16 & 0x3fff)) wave_fault(w, i, -1, "a buffer with a stride is not implemented");
    return b;
}

/* The descriptor's swizzle gives each lane its own 4-byte column; seen from the lane that is a linear space, where the
 * base and the scalar offset count for a 64th. */
static int64_t wave_offset(Wave *w, const Inst *i, uint64_t address) {
    int64_t rel = (int64_t)(address - SCRATCH_BASE - (uint64_t)w->id * LANES * w->g->scratch_size);
    if (rel % LANES) wave_fault(w, i, -1, "scratch base 0x%llx is not a multiple of the wave's", (unsigned long long)address);
    return rel / LANES;
}

static uint32_t lane_offset(const Wave *w, const Inst *i, int l) {
    return (i->s[0].where == W_VGPR ? V(w, i->s[0].reg)[l] : 0) + (uint32_t)i->offset;
}

/* Calls lane for every active lane; out of a raw buffer's range it gets NULL. */
typedef void LaneAccess(Wave *w, const Inst *i, int l, uint8_t *p);

static void each_buffer_lane(Wave *w, const Inst *i, LaneAccess *lane, bool read, bool write) {
    Buffer b = descriptor(w, i);
    uint32_t scalar = scalar32(w, &i->s[3]), n = i->op->a;
    int64_t at = b.swizzled ? wave_offset(w, i, b.base + scalar) : 0;
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        uint32_t offset = lane_offset(w, i, l);
        if (b.swizzled) lane(w, i, l, scratch_at(w, i, l, at + (int32_t)offset, n));
        else if ((uint64_t)offset + n > b.records) lane(w, i, l, NULL);
        else lane(w, i, l, flat_at(w, i, l, b.base + scalar + offset, n, read, write));
    }
    w->bytes_read += read && !b.swizzled ? n * (uint64_t)__builtin_popcountll(EXEC) : 0;
    w->bytes_written += write && !b.swizzled ? n * (uint64_t)__builtin_popcountll(EXEC) : 0;
}

static void load_lane(Wave *w, const Inst *i, int l, uint8_t *p) {
    static const uint8_t zeros[16];
    land(V(w, i->d.reg), p ? p : zeros, i->op, l);
}
static void store_lane(Wave *w, const Inst *i, int l, uint8_t *p) {
    if (p) lift(V(w, i->s[1].reg), p, i->op, l);
}
static void atom_lane(Wave *w, const Inst *i, int l, uint8_t *p) {
    if (p) atomic_lane(w, i, l, p);
}
void run_buf_load(Wave *w, const Inst *i) { each_buffer_lane(w, i, load_lane, true, false); }
void run_buf_store(Wave *w, const Inst *i) { each_buffer_lane(w, i, store_lane, false, true); }
void run_buf_atomic(Wave *w, const Inst *i) { each_buffer_lane(w, i, atom_lane, true, true); }

/* --- scratch_: address = flat_scratch + scalar + vector + offset, in the lane's space ------------------------------------------------ */

static void each_scratch_lane(Wave *w, const Inst *i, LaneAccess *lane) {
    int64_t at = wave_offset(w, i, w->s64[R_FLAT_SCRATCH / 2]) + (i->s[2].where == W_OFF ? 0 : (int32_t)scalar32(w, &i->s[2]));
    for (uint64_t m = EXEC; m; m &= m - 1) {
        int l = __builtin_ctzll(m);
        lane(w, i, l, scratch_at(w, i, l, at + (int32_t)lane_offset(w, i, l), i->op->a));
    }
}
void run_scratch_load(Wave *w, const Inst *i) { each_scratch_lane(w, i, load_lane); }
void run_scratch_store(Wave *w, const Inst *i) { each_scratch_lane(w, i, store_lane); }
