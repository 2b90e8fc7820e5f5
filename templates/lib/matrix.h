// matrix.h - contractions on the matrix units. Weights are the M side, 16 rows (a slab) at a time; tokens the N side.
//
// Signature "mma16": each result is one float accumulator, +0 at first, to which the 16-wide groups of k are added in ascending
// order, each by one matrix instruction (all that a target has give the same bits). Nothing else enters: not the tile, the wave,
// how often a row is loaded.
//
// Weights lie in fragment layout (repack.hip): [E][slabs][units], a unit being the 16 rows x UNIT_K k of a slab, in the order in
// which a wave's lanes load it, 16 bytes each. The arch's prelude has
//   TILE_N                    tokens of an accumulator
//   Acc {c[4]}                this lane's part of 16 rows x TILE_N tokens; {} is zero. c[i] and c[i + 2], i < 2, are members 0 and 1
//   acc_group(i), acc_token(i)    of group acc_group(i) of the slab's 8, of token acc_token(i)
//   tile_row(group, member)   their row in the slab
//   value_row(lane, w, i), value_k(lane, w, i)    which element of its unit is the i-th of 8 in word w of bf16 (a word: 16 bytes of a lane)
//   code_row, code_k          the same of MXFP4, w one of 4 words of 4 bytes; code_word(codes) packs 8 of them
//   scale_row(w, i), scale_block(w, i)    which scale is byte i of a unit's scale word w; scale_word() this lane's
//   AFragment, BFragment, bf16_fragment(part, s), b_fragment(row, k), mma(acc, a, b)
//   Dequant                   what turning codes into bf16 takes; LDS_BYTES of shared memory, open(lds) by the block, and
//                             fragment(codes, scale, s)
//   Stream<W, K, PIECE, STAGES>    a wave's slabs, streamed in STAGES pieces of PIECE units: RING bytes of shared memory a wave, begin, slab (below)
//   overlap_wait(), overlap_next()   a launch that overlaps the one before it waits; lets the next one begin, not before it has waited: so
//                             that what the launch before it wrote is there for the next one at once (early, compiler/template.h)

enum { UNIT_K = 2 * WAVE, STEPS = UNIT_K / 16, SLAB = 16 };

template <class W> struct Unit;
template <> struct Unit<bf16> {
    enum { BYTES = SLAB * UNIT_K * 2, LDS_BYTES = 0 };
    u32x4 part[4];
    DEVICE Unit read(const char *unit) {
        Unit u;
#pragma unroll
        for (int i = 0; i < 4; i++) u.part[i] = *(const u32x4 *)(unit + (i * WAVE + threadIdx.x % WAVE) * 16);
        return u;
    }
    METHOD AFragment step(int s, const Dequant &) const { return bf16_fragment(part, s); }
    DEVICE Dequant dequant(char *) { return Dequant(); }
};
template <> struct Unit<mxfp4> {
    enum { BYTES = SLAB * UNIT_K / 2 + SLAB * UNIT_K / 32, LDS_BYTES = Dequant::LDS_BYTES };
    u32x4 codes;
    unsigned scales;
    DEVICE Unit read(const char *unit) {
        Unit u;
        u.codes = *(const u32x4 *)(unit + threadIdx.x % WAVE * 16);
        u.scales = *(const unsigned *)(unit + SLAB * UNIT_K / 2 + scale_word() * 4);
        return u;
    }
    METHOD AFragment step(int s, const Dequant &d) const { return d.fragment(codes, scales, s); }
    DEVICE Dequant dequant(char *lds) {
        Dequant d;
        d.open(lds);
        return d;
    }
};

DEVICE constexpr int slabs_of(int n) { return (n + SLAB - 1) / SLAB; }
DEVICE constexpr int units_of(int k) { return (k + UNIT_K - 1) / UNIT_K; }

// Where slab `slab` of w, whose rows are k wide, begins.
template <class W> DEVICE const char *slab_at(const W *w, long slab, int k) { return (const char *)w + slab * units_of(k) * Unit<W>::BYTES; }

// Stream<W, K, PIECE, STAGES> s: a wave computes whole slabs, one after the other, its loads running ahead of it and on into the next slab.
//   s.begin(where, n, ring)      where(i): the address of its i-th slab of n, by any lane. Reads weights only, so that it may come
//                                before overlap_wait(). ring: its RING bytes, 128-byte aligned
//   s.slab<G>(acc, row, where, d)    acc[0 … G-1] += the next slab times G * TILE_N tokens; row(t): token t's, in shared memory, zero from K on

// acc[…] += the stream's next slab times `count` tokens, at most TOKENS.
template <int TOKENS, class Stream, int ROW, class Where>
DEVICE void slab_product(Stream &s, Acc *acc, const bf16 (*rows)[ROW], int count, const Where &where, const Dequant &d) {
    static_assert(TOKENS <= 2 * TILE_N, "two groups");
    auto row = [&](int t) { return rows[t < count ? t : count - 1]; };
    if (TOKENS > TILE_N && count > TILE_N) return s.template slab<(TOKENS > TILE_N) + 1>(acc, row, where, d);
    s.template slab<1>(acc, row, where, d);
}

// By THREADS threads, of which this is one: a row of K bf16 as it lies, asked for, then kept in shared memory; zero from K on.
template <int THREADS, int K, int ROW> struct RowCopy {
    static_assert(ROW % 8 == 0 && K % 8 == 0, "cells of 16 bytes");
    enum { CELLS = ROW / 8, EACH = (CELLS + THREADS - 1) / THREADS };
    u32x4 cell[EACH];
    METHOD void ask(const bf16 *from, int thread) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const u32x4 zero = {};
            cell[i] = (thread + i * THREADS) * 8 < K ? *(const u32x4 *)(from + (thread + i * THREADS) * 8) : zero;
        }
    }
    METHOD void keep(bf16 (&to)[ROW], int thread) const {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (i < CELLS / THREADS || thread + i * THREADS < CELLS) *(u32x4 *)&to[(thread + i * THREADS) * 8] = cell[i];
    }
};
template <int THREADS, int K, int ROW> DEVICE void stage_row(bf16 (&to)[ROW], const bf16 *from, int thread) {
    RowCopy<THREADS, K, ROW> row;
    row.ask(from, thread);
    row.keep(to, thread);
}
// The same of a row that is made: x(k) is its element k.
template <int THREADS, int K, int ROW, class X> DEVICE void make_row(bf16 (&to)[ROW], int thread, X x) {
    strided<ROW, THREADS>(thread, [&](int k) { return k < K ? bf16_of(x(k)) : (bf16)0; }, [&](int k, bf16 v) { to[k] = v; });
}
// The same of a row that is made of weights, too: asked for by ask(column) before the rest of it is there, column(k) being what element k
// needs of them; make(to, x): x(k, what column(k) gave). A row of more than 32 turns (strided) is made without.
template <int THREADS, int K, int ROW, class Column> struct RowMaker {
    enum { TURNS = (ROW + THREADS - 1) / THREADS, EARLY = TURNS <= 32 };
    Column held[EARLY ? TURNS : 1];
    int thread;
    METHOD RowMaker(int thread) : thread(thread) {}
    template <class Get> METHOD void ask(Get column) {
#pragma unroll
        for (int i = 0; EARLY && i < TURNS; i++) held[i] = column(thread + i * THREADS < K ? thread + i * THREADS : K - 1);
    }
    template <class X, class Get> METHOD void make(bf16 (&to)[ROW], X x, Get column) const {
        if constexpr (!EARLY) make_row<THREADS, K>(to, thread, [&](int k) { return x(k, column(k)); });
        bf16 made[EARLY ? TURNS : 1];
#pragma unroll
        for (int i = 0; EARLY && i < TURNS; i++) made[i] = thread + i * THREADS < K ? bf16_of(x(thread + i * THREADS, held[i])) : (bf16)0;
#pragma unroll
        for (int i = 0; EARLY && i < TURNS; i++)
            if (i < ROW / THREADS || thread + i * THREADS < ROW) to[thread + i * THREADS] = made[i];
    }
};
// By a block of WAVES: row(i) of `count`, a wave a row.
template <int WAVES, int K, int ROW, class Row> DEVICE void stage_rows(bf16 (*to)[ROW], int count, Row row) {
    for (int i = threadIdx.x / WAVE; i < count; i += WAVES) stage_row<WAVE, K>(to[i], row(i), threadIdx.x % WAVE);
}

// --- a block's rows times up to TOKENS tokens: each wave has a slab, all share the tokens' rows ---

template <int K, int TOKENS, int THREADS> struct Tile {
    enum { TILES = TOKENS / TILE_N, STRIDE = UNIT_K + 8, CELLS = TOKENS * (UNIT_K / 8), EACH = CELLS / THREADS };
    static_assert(CELLS % THREADS == 0, "each thread loads as many 16-byte cells");
    struct Lds {
        __attribute__((aligned(16))) bf16 x[2][TOKENS][STRIDE];
    };

    template <class Row> DEVICE void fetch(u32x4 *cell, Row row, int count, int unit) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = i * THREADS + threadIdx.x, token = at / (UNIT_K / 8), k = unit * UNIT_K + at % (UNIT_K / 8) * 8;
            const u32x4 zero = {};
            cell[i] = token < count && k < K ? *(const u32x4 *)(row(token) + k) : zero;
        }
    }
    DEVICE void keep(Lds &lds, const u32x4 *cell, int unit) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = i * THREADS + threadIdx.x;
            *(u32x4 *)&lds.x[unit & 1][at / (UNIT_K / 8)][at % (UNIT_K / 8) * 8] = cell[i];
        }
    }

    // acc[i] += the slab times tokens i * TILE_N … of row(token), of which there are `count`. Every thread of the block comes here.
    template <class W, class Row> DEVICE void product(Acc *acc, const char *slab, Row row, int count, Lds &lds, const W *, const Dequant &d) {
        enum { UNITS = (K + UNIT_K - 1) / UNIT_K };
        u32x4 cell[EACH];
        fetch(cell, row, count, 0);
        Unit<W> next = Unit<W>::read(slab);
        for (int u = 0; u < UNITS; u++) {
            const Unit<W> now = next;
            keep(lds, cell, u);
            const int ahead = u + 1 < UNITS ? u + 1 : u;
            next = Unit<W>::read(slab + (long)ahead * Unit<W>::BYTES);
            fetch(cell, row, count, ahead);
            __syncthreads();
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                const AFragment a = now.step(s, d);
#pragma unroll
                for (int i = 0; i < TILES; i++)
                    if (i * TILE_N < count) mma(acc[i], a, b_fragment(&lds.x[u & 1][i * TILE_N][0], STRIDE, s * 16));
            }
        }
    }
};

// f(m, j): group j of the slab's columns, which acc holds at i: at i and i + 2 a group of two, at i + 2 m one of one. THERE: it is a slab
// of these rows, not one behind them.
template <int GROUP, bool THERE = true, class Do> DEVICE void slab_groups(int i, int slab, int rows, Do f) {
    const int group = acc_group(i);
    const bool whole = THERE && rows % SLAB == 0; // no row of it is missing
    if (GROUP == 2) {
        if (whole || slab * (SLAB / 2) + group < rows / 2) f(0, slab * (SLAB / 2) + group);
        return;
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
        if (whole || slab * SLAB + tile_row(group, m) < rows) f(m, slab * SLAB + tile_row(group, m));
}

// The biases of what this lane's acc will hold; asked for before a product, they are there behind it. slab_out then wants none.
template <int GROUP, bool THERE = true, class OutRow> DEVICE Acc slab_bias(int slab, int rows, const float *bias, OutRow out_row) {
    Acc b = {};
    if (!bias) return b;
#pragma unroll
    for (int i = 0; i < 2; i++)
        slab_groups<GROUP, THERE>(i, slab, rows, [&](int m, int j) {
            for (int k = 0; k < GROUP; k++) b.c[i + 2 * (m + k)] = bias[out_row(j, k)];
        });
    return b;
}
DEVICE void add_bias(Acc &acc, const Acc &bias) {
#pragma unroll
    for (int i = 0; i < 4; i++) acc.c[i] += bias.c[i];
}

// What acc holds at i, plus its rows' bias (0: none), to out(j, v): a group of two columns, or two groups of one.
template <int GROUP, class OutRow, class Out>
DEVICE void slab_out(const Acc &acc, int i, int slab, int rows, const float *bias, OutRow out_row, Out out) {
    slab_groups<GROUP>(i, slab, rows, [&](int m, int j) {
        float v[2] = {acc.c[i + 2 * m], acc.c[i + 2]};
        for (int k = 0; k < GROUP; k++) v[k] += bias ? bias[out_row(j, k)] : 0.f;
        out(j, v);
    });
}

// What is behind what acc holds at i, all of one token, through the kernel's Behind (hooks.h), in two halves: asked, a read for each
// group, may be there before acc is.
template <class Behind, bool THERE = true> struct Groups {
    typename Behind::Asks asked[2 / Behind::GROUP];
    METHOD void ask(const Behind &out, const typename Behind::Token &token, int row, int i, int slab, int rows) {
        slab_groups<Behind::GROUP, THERE>(i, slab, rows, [&](int m, int j) { asked[m] = out.ask(token, row, j); });
    }
    METHOD void give(const Behind &out, const typename Behind::Token &token, int row, const Acc &acc, int i, int slab, int rows) const {
        slab_groups<Behind::GROUP, THERE>(i, slab, rows, [&](int m, int j) {
            const float v[2] = {acc.c[i + 2 * m], acc.c[i + 2]};
            out.give(token, row, j, v, asked[m]);
        });
    }
};

// What is behind a slab's products with up to ACCS * TILE_N tokens: what a token needs of itself and
// what its results need is asked for before the product, and given with them.
template <class Behind, int ACCS> struct Ending {
    int count, row[ACCS][2]; // of the results
    typename Behind::Token token[ACCS][2];
    Groups<Behind> groups[ACCS][2];
    Acc bias;
    // f(k, i): accumulator k holds a token at i and i + 2.
    template <class Do> METHOD void each(Do f) const {
#pragma unroll
        for (int k = 0; k < ACCS; k++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (k * TILE_N + acc_token(i) < count) f(k, i);
    }
    template <class Row> METHOD void begin(const Behind &out, int tokens, Row row_of) { // row_of(t): token t's row
        count = tokens;
        each([&](int k, int i) { row[k][i] = row_of(k * TILE_N + acc_token(i)), token[k][i] = out.token(row[k][i]); });
    }
    METHOD void ask(const Behind &out, int slab, int rows, const float *b) {
        bias = slab_bias<Behind::GROUP>(slab, rows, b, Behind::column);
        each([&](int k, int i) { groups[k][i].ask(out, token[k][i], row[k][i], i, slab, rows); });
    }
    METHOD void give(const Behind &out, Acc *acc, int slab, int rows) const {
#pragma unroll
        for (int k = 0; k < ACCS; k++) add_bias(acc[k], bias);
        each([&](int k, int i) { groups[k][i].give(out, token[k][i], row[k][i], acc[k], i, slab, rows); });
    }
};
