/* mfma.c - matrix instructions: D = A B + C in blocks over the 64 lanes.
 *
 * Operands: lane l holds row (A) or column (B) l % M of block (l / M) % blocks, and a run of K values that starts at
 * (l / M / blocks) * (K values per lane). Only one of blocks and K groups is above 1, but for f64 4x4x4.
 * Results, f32 and i32: 4 consecutive rows per lane group; register r of a block is row 4 g + 4 G (r / 4) + r % 4, column
 * l % M, for lane group g of G = 64 / M (16x16 and 4x4: one group of 4 rows). f64: row g + 4 r.
 * Products accumulate in f32 by fma in order of K. The hardware's internal order is not documented. MI200 flushes
 * subnormal inputs and outputs of the f16 and bf16 ones. */
#include "lanemath.h"

enum { M_MAX = 32, K_MAX = 16, BLOCKS_MAX = 16 };

typedef struct Shape Shape;
struct Shape {
    int m, k, blocks, groups /* K groups: lanes of one row */, per_lane /* K values in a lane */;
};

static Shape shape_of(const Op *op) {
    Shape s = {.m = op->a, .k = op->b, .blocks = op->c};
    s.groups = LANES / s.m / s.blocks;
    s.per_lane = s.k / s.groups;
    return s;
}

/* cbsz and abid: 2^cbsz neighbouring blocks of A all read block abid of them. */
static int a_block(const Inst *i, int block) { return i->cbsz ? (block >> i->cbsz << i->cbsz) + i->abid : block; }

/* blgp: which lane B's lane reads from. */
static int b_lane(int blgp, int l) {
    switch (blgp) {
    case 1: return l & 31;
    case 2: return 32 + (l & 31);
    case 3: return (l + 16) & 63;
    case 4: case 5: case 6: case 7: return 16 * (blgp - 4) + (l & 15);
    default: return l;
    }
}

/* Element e of n neighbouring lanes, as f32, subnormal halves flushed. */
static inline void elements(float *d, const uint32_t *v, Type t, int e, int n) {
    if (t == T_f32) {
        memcpy(d, v, (size_t)n * 4);
        return;
    }
    v += (e >> 1) * LANES;
    int down = 16 * (e & 1);
    for (int l = 0; l < n; l++) {
        uint32_t h = v[l] >> down & 0xffff;
        h = h & (t == T_h16 ? 0x7f80 : 0x7c00) ? h : h & 0x8000;
        d[l] = t == T_h16 ? f32_of_bits(h << 16) : f32_of_f16((uint16_t)h);
    }
}

/* The register and first lane of D's row r of a block: columns follow in the next lanes. */
static inline int place(const Shape *s, int block, int row, int *lane) {
    if (s->m == 4) return *lane = block * 4, row;
    int groups = LANES / s->m;
    *lane = row / 4 % groups * s->m;
    return block * (s->m * s->m / LANES) + row / 4 / groups * 4 + row % 4;
}

typedef struct Tile Tile;
struct Tile {
    float a[K_MAX][M_MAX], b[K_MAX][M_MAX]; /* both by k: columns of A, rows of B */
};

static inline void gather(const Inst *i, const Shape *s, int block, const uint32_t *a, const uint32_t *b, Tile *t) {
    Type type = i->op->dt;
    for (int g = 0; g < s->groups; g++)
        for (int e = 0; e < s->per_lane; e++) {
            int base = g * s->m * s->blocks, k = g * s->per_lane + e;
            elements(t->a[k], a + base + a_block(i, block) * s->m, type, e, s->m);
            elements(t->b[k], b + base + block * s->m, type, e, s->m);
        }
}

/* One row of D over constant sizes, so that it stays in registers. */
#define ROW(name, M)                                                                                                   \
    static inline void name(const Tile *t, int r, int k_size, const float *c, float *d) {                              \
        float acc[M];                                                                                                  \
        memcpy(acc, c, sizeof acc);                                                                                    \
        for (int k = 0; k < k_size; k++)                                                                               \
            for (int j = 0; j < M; j++) acc[j] = FMAF(t->a[k][r], t->b[k][j], acc[j]);                                 \
        memcpy(d, acc, sizeof acc);                                                                                    \
    }
ROW(row4, 4)
ROW(row16, 16)
ROW(row32, 32)

static inline void flush_all(float *d, const float *s, int n) {
    for (int j = 0; j < n; j++) d[j] = f32_flush(s[j]);
}

/* b: B with blgp applied; c: row r's first word is at c + r * c_step + lane, or c_step 0 for a constant. */
static inline void multiply(const Inst *i, const Shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, int c_step, uint32_t *out) {
    bool flushed = i->op->dt != T_f32;
    for (int block = 0; block < s->blocks; block++) {
        Tile t;
        gather(i, s, block, a, b, &t);
        for (int r = 0; r < s->m; r++) {
            float acc[M_MAX];
            int lane, reg = place(s, block, r, &lane);
            memcpy(acc, c + reg * c_step + lane, (size_t)s->m * 4);
            if (flushed) flush_all(acc, acc, s->m);
            if (s->m == 32) row32(&t, r, s->k, acc, acc);
            else if (s->m == 16) row16(&t, r, s->k, acc, acc);
            else row4(&t, r, s->k, acc, acc);
            if (flushed) flush_all(acc, acc, s->m);
            memcpy(out + reg * LANES + lane, acc, (size_t)s->m * 4);
        }
    }
}

typedef void Multiply(const Inst *i, const Shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, int c_step, uint32_t *out);
#if defined __x86_64__
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"), flatten)) static void
multiply_avx512(const Inst *i, const Shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, int c_step, uint32_t *out) {
    multiply(i, s, a, b, c, c_step, out);
}
__attribute__((target("avx2,fma"), flatten)) static void
multiply_avx2(const Inst *i, const Shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, int c_step, uint32_t *out) {
    multiply(i, s, a, b, c, c_step, out);
}
#endif
static void multiply_base(const Inst *i, const Shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, int c_step, uint32_t *out) {
    multiply(i, s, a, b, c, c_step, out);
}

static Multiply *multiply_best(void) {
#if defined __x86_64__
    if (lanes_best() == lanes_avx512) return multiply_avx512;
    if (lanes_best() == lanes_avx2) return multiply_avx2;
#endif
    return multiply_base;
}

static void mfma_f32(Wave *w, const Inst *i) {
    static Multiply *best; /* the same whoever computes it */
    Multiply *m = __atomic_load_n(&best, __ATOMIC_RELAXED);
    if (!m) m = multiply_best(), __atomic_store_n(&best, m, __ATOMIC_RELAXED);
    Shape s = shape_of(i->op);
    uint32_t tmp[3][2 * LANES], turned[2 * LANES], out[LANES / 2 * LANES];
    const uint32_t *a = source_rows(w, &i->s[0], tmp[0]), *b = source_rows(w, &i->s[1], tmp[1]), *c = source_rows(w, &i->s[2], tmp[2]);
    int regs = s.m == 4 ? 4 : s.blocks * s.m * s.m / LANES, words = i->op->dt == T_f32 ? 1 : (s.per_lane + 1) / 2;
    if (i->blgp) {
        for (int k = 0; k < words; k++) EACH_LANE turned[k * LANES + l] = b[k * LANES + b_lane(i->blgp, l)];
        b = turned;
    }
    m(i, &s, a, b, c, i->s[2].where == W_VGPR ? LANES : 0, out);
    memcpy(V(w, i->d.reg), out, (size_t)regs * LANES * 4);
}

static void mfma_i8(Wave *w, const Inst *i) {
    Shape s = shape_of(i->op);
    uint32_t tmp[3][2 * LANES], out[LANES / 2][LANES];
    const uint32_t *a = source_rows(w, &i->s[0], tmp[0]), *b = source_rows(w, &i->s[1], tmp[1]);
    int lane, regs = s.m == 4 ? 4 : s.blocks * s.m * s.m / LANES;
    for (int block = 0; block < s.blocks; block++)
        for (int r = 0; r < s.m; r++)
            for (int j = 0; j < s.m; j++) {
                int reg = place(&s, block, r, &lane);
                uint32_t sum = i->s[2].where == W_VGPR ? V(w, i->s[2].reg + reg)[lane + j] : source_rows(w, &i->s[2], tmp[2])[0];
                for (int k = 0; k < s.k; k++) {
                    int g = k / s.per_lane * s.m * s.blocks, e = k % s.per_lane;
                    int8_t x = (int8_t)(a[g + a_block(i, block) * s.m + r] >> 8 * e);
                    int8_t y = (int8_t)(b[b_lane(i->blgp, g + block * s.m + j)] >> 8 * e);
                    sum += (uint32_t)(x * y);
                }
                out[reg][lane + j] = sum;
            }
    memcpy(V(w, i->d.reg), out, (size_t)regs * LANES * 4);
}

static double pair_at(const uint32_t *v, int l) { return f64_of_bits((uint64_t)v[l] | (uint64_t)v[LANES + l] << 32); }

static void mfma_f64(Wave *w, const Inst *i) {
    Shape s = shape_of(i->op);
    uint32_t tmp[3][2 * LANES], out[8][LANES];
    const uint32_t *a = source_rows(w, &i->s[0], tmp[0]), *b = source_rows(w, &i->s[1], tmp[1]);
    int row_lanes = s.m * s.blocks, regs = s.m * s.m * s.blocks / LANES;
    for (int block = 0; block < s.blocks; block++)
        for (int r = 0; r < s.m; r++)
            for (int j = 0; j < s.m; j++) {
                int lane = r % 4 * row_lanes + block * s.m + j, reg = r / 4;
                double sum = pair_at(i->s[2].where == W_VGPR ? V(w, i->s[2].reg + 2 * reg) : source_rows(w, &i->s[2], tmp[2]), lane);
                for (int k = 0; k < s.k; k++)
                    sum = FMA(pair_at(a, k * row_lanes + block * s.m + r), pair_at(b, k * row_lanes + block * s.m + j), sum);
                uint64_t u = bits_of_f64(sum);
                out[2 * reg][lane] = (uint32_t)u, out[2 * reg + 1][lane] = (uint32_t)(u >> 32);
            }
    memcpy(V(w, i->d.reg), out, (size_t)regs * 2 * LANES * 4);
}

void run_mfma(Wave *w, const Inst *i) {
    switch (i->op->dt) {
    case T_i32: mfma_i8(w, i); return;
    case T_f64: mfma_f64(w, i); return;
    default: mfma_f32(w, i); return;
    }
}
