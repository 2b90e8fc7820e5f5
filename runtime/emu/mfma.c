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

static float element(const uint32_t *v, Type t, int l, int e) {
    if (t == T_f32) return f32_of_bits(v[l]);
    uint16_t h = (uint16_t)(v[(e >> 1) * LANES + l] >> 16 * (e & 1));
    return f32_flush(t == T_h16 ? f32_of_bf16(h & 0x7f80 ? h : h & 0x8000) : f32_of_f16(h & 0x7c00 ? h : h & 0x8000));
}

/* The register and first lane of D's row r of a block: columns follow in the next lanes. */
static int place(const Shape *s, int block, int row, int *lane) {
    if (s->m == 4) return *lane = block * 4, row;
    int groups = LANES / s->m;
    *lane = row / 4 % groups * s->m;
    return block * (s->m * s->m / LANES) + row / 4 / groups * 4 + row % 4;
}

typedef struct Tile Tile;
struct Tile {
    float a[M_MAX][K_MAX], b[K_MAX][M_MAX], c[M_MAX][M_MAX];
};

static void gather_f32(Wave *w, const Inst *i, const Shape *s, int block, const uint32_t *av, const uint32_t *bv, Tile *t) {
    Type type = i->op->dt;
    (void)w;
    for (int g = 0; g < s->groups; g++)
        for (int e = 0; e < s->per_lane; e++)
            for (int r = 0; r < s->m; r++) {
                int base = g * s->m * s->blocks + r;
                t->a[r][g * s->per_lane + e] = element(av, type, base + a_block(i, block) * s->m, e);
                t->b[g * s->per_lane + e][r] = element(bv, type, b_lane(i->blgp, base + block * s->m), e);
            }
}

/* Constant sizes let the compiler keep a row of the result in registers. */
#define MULTIPLY(name, M)                                                                                              \
    static inline void name(Tile *t, int k_size) {                                                                     \
        for (int r = 0; r < M; r++) {                                                                                  \
            float acc[M];                                                                                              \
            memcpy(acc, t->c[r], sizeof acc);                                                                          \
            for (int k = 0; k < k_size; k++) {                                                                         \
                float x = t->a[r][k];                                                                                  \
                for (int j = 0; j < M; j++) acc[j] = FMAF(x, t->b[k][j], acc[j]);                                      \
            }                                                                                                          \
            memcpy(t->c[r], acc, sizeof acc);                                                                          \
        }                                                                                                              \
    }
MULTIPLY(multiply4, 4)
MULTIPLY(multiply16, 16)
MULTIPLY(multiply32, 32)

static inline void multiply(Tile *t, int m, int k) {
    if (m == 32) multiply32(t, k);
    else if (m == 16) multiply16(t, k);
    else multiply4(t, k);
}

#if defined __x86_64__
__attribute__((target("avx512f,avx512vl,avx2,fma"))) static void multiply_avx512(Tile *t, int m, int k) { multiply(t, m, k); }
__attribute__((target("avx2,fma"))) static void multiply_avx2(Tile *t, int m, int k) { multiply(t, m, k); }
#endif
static void multiply_base(Tile *t, int m, int k) { multiply(t, m, k); }

static void multiply_best(Tile *t, int m, int k) {
#if defined __x86_64__
    if (lanes_best() == lanes_avx512) multiply_avx512(t, m, k);
    else if (lanes_best() == lanes_avx2) multiply_avx2(t, m, k);
    else
#endif
        multiply_base(t, m, k);
}

static void mfma_f32(Wave *w, const Inst *i) {
    Shape s = shape_of(i->op);
    uint32_t tmp[3][2 * LANES], out[LANES / 2][LANES];
    const uint32_t *a = source_rows(w, &i->s[0], tmp[0]), *b = source_rows(w, &i->s[1], tmp[1]);
    bool flushed = i->op->dt != T_f32;
    int lane, regs = s.m == 4 ? 4 : s.blocks * s.m * s.m / LANES;
    for (int block = 0; block < s.blocks; block++) {
        Tile t;
        gather_f32(w, i, &s, block, a, b, &t);
        for (int r = 0; r < s.m; r++) {
            int reg = place(&s, block, r, &lane);
            const uint32_t *c = i->s[2].where == W_VGPR ? V(w, i->s[2].reg + reg) + lane : source_rows(w, &i->s[2], tmp[2]);
            for (int j = 0; j < s.m; j++) t.c[r][j] = flushed ? f32_flush(f32_of_bits(c[j])) : f32_of_bits(c[j]);
        }
        multiply_best(&t, s.m, s.k);
        for (int r = 0; r < s.m; r++) {
            int reg = place(&s, block, r, &lane);
            for (int j = 0; j < s.m; j++) out[reg][lane + j] = bits_of_f32(flushed ? f32_flush(t.c[r][j]) : t.c[r][j]);
        }
    }
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
