//! kernel attention(q: bf16[T,W], state: bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! precision fast
//! priority 10
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  P_BF16 == 1
//! where  W == NH * D && NH % NKV == 0 && D % 16 == 0 && PAGE == 64
//! const  GROUP = NH / NKV
//! grid   NKV, T
//! block  1
//! reduce f32, D ascending; all keys, ascending
//! hook   out
//! with   product
//! tol    fast 1e-9
// A block is one token and the query heads of one kv head. All scores first, then their exponentials, then the values: with tiles
// (AMX), or with vectors in lanes of keys (a page of keys turned about) and of D. NMSE: measured 1.3e-10, 5.7e-10 on
// models/tiny (2026-11-29), most of it weights of which the score in float turned the rounding.

// The keys that a token sees: first … last, in pages from … to - 1.
typedef struct Span Span;
struct Span {
    int first, last, from, to, wide; // wide: positions in those pages
};

DEVICE const bf16 *page_of(const Args a, int t, int tile, int kv, bool values) {
    const long page = a.blocks[(long)a.slot[t] * M + tile];
    return a.state + ((page * 2 + values) * NKV + kv) * PAGE * D;
}

// D rows of 64 keys' floats from 64 rows of D.
DEVICE void turn(float (*to)[PAGE], const bf16 *keys, int count) {
    for (int j = 0; j < count; j++)
        for (int d = 0; d < D; d++) to[d][j] = f32_of(keys[j * D + d]);
}

DEVICE void scores(const Args a, int kv, int t, Span s, float *p) {
    float q[GROUP][D], keys[D][PAGE];
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D; d++) q[h][d] = f32_of(a.q[(long)t * W + (kv * GROUP + h) * D + d]);
    for (int tile = s.from; tile < s.to; tile++) {
        turn(keys, page_of(a, t, tile, kv, false), min_int(s.last - tile * PAGE + 1, PAGE));
        for (int h = 0; h < GROUP; h++) {
            float *to = p + (long)h * s.wide + (tile - s.from) * PAGE;
            vf sum[PAGE / VF] = {{0}};
            for (int d = 0; d < D; d++) {
                const vf v = vf_all(q[h][d]);
                UNROLL
                for (int j = 0; j < PAGE / VF; j++) sum[j] = fma_vf(v, vf_load(keys[d] + j * VF), sum[j]);
            }
            UNROLL
            for (int j = 0; j < PAGE / VF; j++) vf_store(to + j * VF, sum[j] * (float)(1 / __builtin_sqrt((double)D)));
        }
    }
}


// y[h] = sum of the weights p[h] times the values.
DEVICE void values(const Args a, int kv, int t, Span s, const bf16 *p, float (*y)[D]) {
    vf sum[GROUP][D / VF];
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D / VF; d++) sum[h][d] = vf_all(0);
    for (int tile = s.from; tile < s.to; tile++) {
        const bf16 *v = page_of(a, t, tile, kv, true), *weight = p + (tile - s.from) * PAGE;
        const int j0 = s.first > tile * PAGE ? s.first - tile * PAGE : 0, j1 = min_int(s.last - tile * PAGE + 1, PAGE);
        for (int j = j0; j < j1; j++)
            for (int d = 0; d < D / VF; d++) {
                const vf row = vf_bf16(v + j * D + d * VF);
                UNROLL
                for (int h = 0; h < GROUP; h++) sum[h][d] = fma_vf(vf_all(f32_of(weight[(long)h * s.wide + j])), row, sum[h][d]);
            }
    }
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D / VF; d++) vf_store(y[h] + d * VF, sum[h][d]);
}

#if defined __AMX_BF16__ && WIDE
enum { TILES = D % 64 == 0 && GROUP <= 16 };

// Tiles 0 … 3: sums, a row for each head; 4: queries or weights; 5: 16 pairs of k by 16 keys or columns.
DEVICE void tiles_begin(void) {
    TileConfig c = {.palette = 1};
    for (int i = 0; i < 6; i++) c.rows[i] = i == 5 ? 16 : GROUP, c.bytes[i] = 64;
    _tile_loadconfig(&c);
}

DEVICE void tile_scores(const Args a, int kv, int t, Span s, float *p) {
    _Alignas(64) uint32_t pairs[16 * 16];
    const bf16 *q = a.q + (long)t * W + (long)kv * GROUP * D;
    for (int tile = s.from; tile < s.to; tile++) {
        const bf16 *keys = page_of(a, t, tile, kv, false);
        for (int j = 0; j < PAGE; j += 16) {
            const uint32_t *from[16];
            for (int i = 0; i < 16; i++) from[i] = (const uint32_t *)(const void *)(keys + (j + i) * D);
            _tile_zero(0);
            for (int d = 0; d < D; d += 32) {
                transpose16(pairs, 16, from, d / 2);
                _tile_loadd(4, q + d, D * 2);
                _tile_loadd(5, pairs, 64);
                _tile_dpbf16ps(0, 4, 5);
            }
            _tile_stored(0, p + (tile - s.from) * PAGE + j, (long)s.wide * 4);
        }
    }
    const vf by = vf_all((float)(1 / __builtin_sqrt((double)D)));
    for (long i = 0; i < (long)GROUP * s.wide; i += VF) vf_store(p + i, vf_load(p + i) * by);
}

// Two rows of 32 values, word by word: two rows of a tile.
DEVICE void interleave(uint32_t *low, uint32_t *high, __m512i v, __m512i w) {
    const __m512i even = _mm512_unpacklo_epi16(v, w), odd = _mm512_unpackhi_epi16(v, w); // of each quarter
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_store_si512(low, _mm512_permutex2var_epi64(even, first, odd));
    _mm512_store_si512(high, _mm512_permutex2var_epi64(even, last, odd));
}

DEVICE void tile_values(const Args a, int kv, int t, Span s, const bf16 *p, float (*y)[D]) {
    _Alignas(64) uint32_t pairs[4][16 * 16];
    for (int d = 0; d < D; d += 64) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int at = s.from * PAGE; at <= s.last; at += 32) {
            const bf16 *v = page_of(a, t, at / PAGE, kv, true) + at % PAGE * D + d;
            for (int j = 0; j < 32; j += 2) { // what lies behind the last key may be anything, a NaN too
                const __mmask32 m0 = at + j <= s.last ? ~0u : 0, m1 = at + j + 1 <= s.last ? ~0u : 0;
                for (int n = 0; n < 2; n++)
                    interleave(pairs[2 * n] + j / 2 * 16, pairs[2 * n + 1] + j / 2 * 16, _mm512_maskz_loadu_epi16(m0, v + j * D + n * 32),
                               _mm512_maskz_loadu_epi16(m1, v + (j + 1) * D + n * 32));
            }
            _tile_loadd(4, p + at - s.from * PAGE, (long)s.wide * 2);
            _tile_loadd(5, pairs[0], 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_loadd(5, pairs[1], 64);
            _tile_dpbf16ps(1, 4, 5);
            _tile_loadd(5, pairs[2], 64);
            _tile_dpbf16ps(2, 4, 5);
            _tile_loadd(5, pairs[3], 64);
            _tile_dpbf16ps(3, 4, 5);
        }
        _tile_stored(0, &y[0][d], D * 4);
        _tile_stored(1, &y[0][d + 16], D * 4);
        _tile_stored(2, &y[0][d + 32], D * 4);
        _tile_stored(3, &y[0][d + 48], D * 4);
    }
}
#else
enum { TILES = 0 };
DEVICE void tiles_begin(void) {}
#define tile_scores scores
#define tile_values values
#define _tile_release()
#endif

// Scores of n keys to bf16 weights; returns the sum of the unrounded ones, with the sink's. Only keys first … last count.
DEVICE float weights(float *p, bf16 *to, Span s, float sink) {
    for (int j = 0; j < s.first - s.from * PAGE; j++) p[j] = -__builtin_inff();
    for (int j = s.last - s.from * PAGE + 1; j < s.wide; j++) p[j] = -__builtin_inff();
    vf most = vf_all(sink), total = vf_all(0);
    for (int j = 0; j < s.wide; j += VF) most = max_vf(vf_load(p + j), most);
    float lane[VF], top = sink;
    vf_store(lane, most);
    for (int i = 0; i < VF; i++) top = lane[i] > top ? lane[i] : top;
    for (int j = 0; j < s.wide; j += VF) {
        const vf e = exp_vf(vf_load(p + j) - top);
        total += e;
        *(vh_any *)(to + j) = round_bf16(e);
    }
    return sum_vf(total) + __builtin_expf(sink - top);
}

DEVICE void run(const Args a, int kv, int t, Room *room) {
    if (t >= row_count(a)) return;
    const int last = a.pos[t], first = WINDOW && last >= WINDOW ? last - WINDOW + 1 : 0, from = first / PAGE, to = last / PAGE + 1;
    const Span s = {first, last, from, to, (to - from) * PAGE};
    float *p = (float *)room_of(room, (long)GROUP * s.wide * 6), total[GROUP], y[GROUP][D];
    bf16 *weight = (bf16 *)(p + (long)GROUP * s.wide);
    if (TILES) tiles_begin();
    if (TILES) tile_scores(a, kv, t, s, p);
    else scores(a, kv, t, s, p);
    for (int h = 0; h < GROUP; h++) total[h] = weights(p + (long)h * s.wide, weight + (long)h * s.wide, s, a.sinks[kv * GROUP + h]);
    if (TILES) tile_values(a, kv, t, s, weight, y);
    else values(a, kv, t, s, weight, y);
    if (TILES) _tile_release();
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D; d++) out(a, t, (kv * GROUP + h) * D + d, y[h][d] / total[h]);
}
