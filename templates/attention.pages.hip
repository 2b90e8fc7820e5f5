//! kernel attention(q: bf16[T,W], state: bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! precision fast
//! priority 10
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  MATRIX && P_BF16 == 1
//! where  W == NH * D && NH % NKV == 0 && D % 16 == 0 && D <= 128 && PAGE == 64
//! const  GROUP = NH / NKV
//! const  HEADS = WAVE == 32 ? 8 : 16
//! const  TILES = ceil(GROUP, HEADS)
//! const  HELD = min(GROUP, HEADS)
//! const  SIDE = WAVE == 64 && HEADS >= 2 * GROUP ? 2 : 1
//! const  WAVES = 4
//! const  CHUNK = WINDOW && WINDOW <= 512 ? M : 8
//! const  SPAN = 4
//! const  FINE = 64
//! const  UNITS = min(ceil(M, CHUNK), max(FINE, ceil(M, CHUNK * SPAN)))
//! const  RING = WAVE == 32 ? 128 * (D * 2 + 16) : 0
//! const  TOKENS = WAVE == 32 && D <= 64 ? (CHUNK < M ? 4 : 2) : 1
//! grid   NKV * TILES, T > 64 && T * NKV * TILES > 128 ? ceil(T, TOKENS * SIDE) : T, max(1, min(UNITS, 256 / (T * NKV * TILES)))
//! block  WAVES * WAVE
//! lds    WAVES * RING
//! workspace UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES * UNITS * HELD * (D + 2) * 4 : 0
//! counters  UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES : 0
//! overlaps
//! reduce mma16; pages of 64 keys, page i to wave i % {WAVES}, online; waves of a chunk of {CHUNK} pages, chunks of {SPAN}, those: each ascending
//! hook   out
//! tol    fast 1e-5
// A token and up to HEADS query heads of one kv head by a few blocks; where there are many tokens, SIDE of them side by side in a tile of
// HEADS columns (columns beyond them repeat), and up to TOKENS tiles by one block, which reads a page once for those that have it in common
// (of a window's few pages that saves nothing: prefill of 2,048 tokens, H200, 2026-11-29: 621 µs for 814 where all is seen, 290 either way
// for a window of 128).
//
// The order of the sums is a function of positions alone. Pages are cut at multiples of CHUNK; in a chunk each wave takes every
// WAVES-th page with a maximum of its own; then the waves are folded into the chunk's sum, SPAN chunks into a span's and spans into the
// sink, always ascending. A fold into nothing changes nothing, so it does not matter where the intermediate results lie: a token with one chunk, and
// all of them when there are many tokens, are one block's (alone); else blocks take units in turn, chunks or, past FINE of these, spans,
// and the last one to arrive folds what all left in the workspace. A window's pages are one chunk.
//
// NMSE: bf16 weights against a running, not the final, maximum.
//
// Keys are the M side of S = K q^T, columns of V that of O^T = V^T P^T. The arch has (arch/*.attention.h), with Acc and the rest of lib/matrix.h:
//   Pages<D>     a wave's keys and values. begin(lds), LDS bytes of its own. Then, in turn, fetch_keys(page, lo, hi, used): begins to load
//                rows lo … hi, the others count as anything finite; if not used, all do; fetch_values(); for N tokens, scores<N>(s, query): of 4 x 16 keys;
//                add<N>(part, weights), to part[…].o. Query: ask(q), q of head lane_head()
//   TILES, column(tile, row)     o[tile]'s rows are columns of V; from D on they are none. A lane's four are of the same 16 columns
//   power_of_2(x)                2^x
//   ACC_HEADS, HEAD_LANES        c[i] of an Acc is of head acc_token(i % ACC_HEADS); HEAD_LANES neighbouring lanes have different heads

enum { THREADS = WAVES * WAVE };

// Keys first … last, cut into units of `pages` pages.
struct Sight {
    int first, last, pages, unit0, units;
    METHOD Sight(int pos) : first(first_key(pos, WINDOW)), last(pos) { cut(CHUNK); }
    METHOD void cut(int n) {
        pages = n, unit0 = first / PAGE / n, units = last / PAGE / n - unit0 + 1;
    }
    METHOD int from(int unit) const { return greater((unit0 + unit) * pages, first / PAGE); }
    METHOD int to(int unit) const { return lesser((unit0 + unit + 1) * pages, last / PAGE + 1); }
};

// Columns of a tile: GROUP of each of SIDE tokens; those beyond are the last one's again.
DEVICE int side_of(int column) { return SIDE > 1 ? lesser(column / GROUP, SIDE - 1) : 0; }
DEVICE int head_of(int column) { return column - side_of(column) * GROUP; }

// Keys that all tokens of a tile see, that some do, and that those of this lane's columns do.
struct Seen {
    int all0, all1, some0, some1, own0[ACC_HEADS], own1[ACC_HEADS];
    METHOD Seen() : all0(0), all1(0x7fffffff), some0(0x7fffffff), some1(0) {}
    METHOD void add(int side, int pos) {
        const int first = first_key(pos, WINDOW);
        all0 = greater(all0, first), all1 = lesser(all1, pos), some0 = lesser(some0, first), some1 = greater(some1, pos);
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++)
            if (SIDE == 1 || side_of(acc_token(h)) == side) own0[h] = first, own1[h] = pos;
    }
};

// The pages that a wave reads, in order; then, again and again, the last key's row.
struct Walk {
    const int *table;
    int wave, unit, page, id, lo, hi; // rows lo … hi of the page; id: where it lies
    METHOD void seek(const Sight &s, int from) {
        page = own_page<WAVES>(wave, from);
        for (; page >= s.to(unit) && unit + (int)gridDim.z < s.units; page = own_page<WAVES>(wave, s.from(unit))) unit += gridDim.z;
        const bool over = page >= s.to(unit);
        if (over) page = s.last / PAGE;
        lo = over ? s.last % PAGE : greater(s.first - page * PAGE, 0);
        hi = lesser(s.last - page * PAGE, PAGE - 1);
        id = table[page];
    }
};

// A wave's part of a chunk.
struct Online {
    float top[ACC_HEADS], sum[ACC_HEADS]; // of this lane's keys; top: the highest score, the same in all that have the head
    Acc o[Pages<D>::TILES];
    METHOD Online() : o{} {
        for (int h = 0; h < ACC_HEADS; h++) top[h] = -__builtin_inff(), sum[h] = 0;
    }
    METHOD static void hide(Acc *s, int page, const Seen &seen) { // keys that are not seen
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = page * PAGE + m * 16 + tile_row(acc_group(i % 2), i / 2);
                s[m].c[i] = key >= seen.own0[i % ACC_HEADS] && key <= seen.own1[i % ACC_HEADS] ? s[m].c[i] : -__builtin_inff();
            }
    }
    // Scores of the page's keys, of which some are seen, to their weights, and all before to the same maximum. (Of one token of a tile
    // there may be none, and none before.)
    METHOD void weigh(Acc *s, int page, const Seen &seen) {
        float high[ACC_HEADS], keep[ACC_HEADS];
        if (page * PAGE < seen.all0 || page * PAGE + PAGE - 1 > seen.all1) hide(s, page, seen);
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) high[h] = top[h];
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) high[i % ACC_HEADS] = higher(high[i % ACC_HEADS], s[m].c[i]);
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) {
#pragma unroll
            for (int d = HEAD_LANES; d < WAVE; d *= 2) high[h] = higher(high[h], shuffle_xor(high[h], d));
            const float now = high[h];
            if (SIDE > 1 && now == -__builtin_inff()) high[h] = 0;
            keep[h] = power_of_2((top[h] - high[h]) * SCORE_SCALE(D));
            top[h] = now, sum[h] *= keep[h], high[h] *= SCORE_SCALE(D);
        }
#pragma unroll
        for (int j = 0; j < Pages<D>::TILES; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[j].c[i] *= keep[i % ACC_HEADS];
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[m].c[i] = power_of_2(__builtin_fmaf(s[m].c[i], SCORE_SCALE(D), -high[i % ACC_HEADS]));
                sum[i % ACC_HEADS] += s[m].c[i];
            }
    }
};

struct Meeting { // of the waves, in shared memory; from here on tops are logarithms to base 2 of the highest weight
    float top[WAVES][HEADS], sum[WAVES][HEADS];
    __attribute__((aligned(16))) float o[WAVES][HEADS][D + 4];
    METHOD void leave(int wave, const Online &part) {
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) {
            float all = part.sum[h];
#pragma unroll
            for (int d = HEAD_LANES; d < WAVE; d *= 2) all += shuffle_xor(all, d);
            if (threadIdx.x % WAVE < HEAD_LANES) top[wave][acc_token(h)] = part.top[h] * SCORE_SCALE(D), sum[wave][acc_token(h)] = all;
        }
#pragma unroll
        for (int j = 0; j < Pages<D>::TILES; j++) {
            if (Pages<D>::column(j, tile_row(acc_group(0), 0)) / 16 >= D / 16) continue; // all four; a mask an element would spill
#pragma unroll
            for (int i = 0; i < 4; i++) o[wave][acc_token(i % ACC_HEADS)][Pages<D>::column(j, tile_row(acc_group(i % 2), i / 2))] = part.o[j].c[i];
        }
    }
};

// What is folded so far of a token, by N-th parts of the block: EACH columns of one head by a thread.
DEVICE constexpr int columns_each(int threads) {
    int n = (HELD * D + threads - 1) / threads;
    while (D % n) n++;
    return n;
}
template <int N> struct Folded {
    enum { EACH = columns_each(THREADS / N), PARTS = D / EACH };
    float top, sum, o[EACH];
    METHOD Folded() : top(-__builtin_inff()), sum(0), o{} {}
    METHOD static int part() { return threadIdx.x / (THREADS / N); } // whose token is this thread's
    METHOD static int own() { return threadIdx.x % (THREADS / N); }
    METHOD static int head() { return own() / PARTS; }
    METHOD static int column() { return own() % PARTS * EACH; }
    METHOD static bool some() { return own() < HELD * PARTS; }
    template <class Get> METHOD void take(float t, float s, Get v) {
        const Fold f = Fold::of(top, t);
        top = f.top, sum = __builtin_fmaf(sum, f.keep, s * f.share);
#pragma unroll
        for (int k = 0; k < EACH; k++) o[k] = __builtin_fmaf(o[k], f.keep, v(k) * f.share);
    }
    METHOD void take(const Folded &f) { take(f.top, f.sum, [&](int k) { return f.o[k]; }); }
    METHOD void take(const Meeting &m, int side) {
        if (!some()) return;
        const int h = side * HELD + head();
        Folded all;
#pragma unroll
        for (int w = 0; w < WAVES; w++) all.take(m.top[w][h], m.sum[w][h], [&](int k) { return m.o[w][h][column() + k]; });
        take(all);
    }
    // In the workspace: HELD * D of o, then top and sum of each head.
    METHOD void save(float *to) const {
        if (!some()) return;
#pragma unroll
        for (int k = 0; k < EACH; k++) to[head() * D + column() + k] = o[k];
        if (column() == 0) to[HELD * D + head()] = top, to[HELD * (D + 1) + head()] = sum;
    }
    METHOD void take(const float *from) {
        if (some()) take(from[HELD * D + head()], from[HELD * (D + 1) + head()], [&](int k) { return from[head() * D + column() + k]; });
    }
};

// Did all `blocks` of this counter arrive? Then what they wrote can be read.
DEVICE bool last_of(int *counter, int blocks) {
    __shared__ int before;
    device_fence();
    __syncthreads();
    if (threadIdx.x == 0) before = device_add(counter, 1);
    __syncthreads();
    if (before != blocks - 1) return false;
    device_fence();
    if (threadIdx.x == 0) *counter = 0;
    return true;
}

DEVICE int query_head(int kv, int head0, int h) { return kv * GROUP + lesser(head0 + h, GROUP - 1); }

template <int N> DEVICE Folded<N> sink_of(const Args &a, int kv, int head0) {
    Folded<N> f;
    if (f.some()) f.take(a.sinks[query_head(kv, head0, f.head())] * 1.4426950408889634f, 1, [](int) { return 0.f; });
    return f;
}
template <int N> DEVICE void give(const Args &a, int t, int kv, int head0, const Folded<N> &f) {
    if (!f.some() || head0 + f.head() >= GROUP) return;
    const float whole = 1.f / f.sum;
#pragma unroll
    for (int k = 0; k < f.EACH; k++) out(a, t, query_head(kv, head0, f.head()) * D + f.column() + k, f.o[k] * whole);
}

// One token by several blocks: units in turn, chunks or spans.
DEVICE void share(const Args &a, int t, int kv, int head0, Sight sight, char *lds, Meeting &meeting) {
    const int wave = uniform(threadIdx.x / WAVE);
    const bool fine = sight.units <= FINE;
    if (!fine) sight.cut(CHUNK * SPAN);
    if ((int)blockIdx.z >= sight.units) return;
    Walk now, ahead = {a.blocks + (long)a.slot[t] * M, wave, (int)blockIdx.z};
    ahead.seek(sight, sight.from(blockIdx.z));
    overlap_wait();
    overlap_next();

    const Cache<NKV, PAGE, D> cache = {a.state};
    Pages<D> pages;
    typename Pages<D>::Query query;
    pages.begin(lds);
    auto next = [&] {
        now = ahead;
        ahead.seek(sight, now.page + 1);
        pages.fetch_keys(cache.keys(now.id, kv), now.lo, now.hi, true);
    };
    next();
    pages.fetch_values(cache.values(now.id, kv), now.lo, now.hi, true);
    query.ask(a.q + (long)t * W + query_head(kv, head0, head_of(lane_head())) * D);
    Seen seen;
#pragma unroll
    for (int i = 0; i < SIDE; i++) seen.add(i, sight.last);

    float *left = (float *)a.workspace + (long)(t * gridDim.x + blockIdx.x) * UNITS * (HELD * (D + 2));
#pragma unroll 1
    for (int unit = blockIdx.z; unit < sight.units; unit += gridDim.z) {
        Folded<1> span;
#pragma unroll 1
        for (int from = sight.from(unit), to; from < sight.to(unit); from = to) {
            to = lesser((from / CHUNK + 1) * CHUNK, sight.to(unit));
            Online part;
#pragma unroll 1
            for (int page = own_page<WAVES>(wave, from); page < to; page += WAVES) {
                Acc s[1][4] = {};
                pages.template scores<1>(s, &query);
                next();
                part.weigh(s[0], page, seen);
                pages.template add<1>(&part, s);
                pages.fetch_values(cache.values(now.id, kv), now.lo, now.hi, true);
            }
            meeting.leave(wave, part);
            __syncthreads();
            span.take(meeting, 0);
            __syncthreads();
        }
        span.save(left + (long)unit * (HELD * (D + 2)));
    }
    if (!last_of(a.counters + t * gridDim.x + blockIdx.x, lesser(gridDim.z, sight.units))) return;
    Folded<1> total = sink_of<1>(a, kv, head0), span;
#pragma unroll 1
    for (int unit = 0; unit < sight.units; unit++) {
        span.take(left + (long)unit * (HELD * (D + 2)));
        if (fine && (sight.unit0 + unit + 1) % SPAN && unit + 1 < sight.units) continue;
        total.take(span);
        span = Folded<1>();
    }
    give(a, t, kv, head0, total);
}

// `count` tokens of one slot, from t on, by this block alone, N tiles of SIDE.
template <int N> DEVICE void alone(const Args &a, int t, int count, int kv, int head0, char *lds, Meeting *meeting) {
    const int wave = uniform(threadIdx.x / WAVE), *table = a.blocks + (long)a.slot[t] * M;
    const Cache<NKV, PAGE, D> cache = {a.state};
    Pages<D> pages;
    typename Pages<D>::Query query[N];
    Seen seen[N];
    int lo = 0x7fffffff, hi = 0; // of the keys, from the lowest to the highest
    auto token = [&](int i) { return t + lesser(i, count - 1); };
    pages.begin(lds);
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
        for (int k = 0; k < SIDE; k++) seen[i].add(k, a.pos[token(i * SIDE + k)]);
        lo = lesser(lo, seen[i].some0), hi = greater(hi, seen[i].some1);
    }
    const int page0 = lo / PAGE, page1 = hi / PAGE;
    int ahead = own_page<WAVES>(wave, page0); // the page that is fetched; behind the last one: a row of that
    auto row = [&](int page, bool used) { return used ? greater(lo - page * PAGE, 0) : hi % PAGE; };
    auto where = [&] { return table[lesser(ahead, page1)]; };
    auto keys = [&](int id) {
        const int page = lesser(ahead, page1);
        pages.fetch_keys(cache.keys(id, kv), row(page, page == ahead), lesser(hi - page * PAGE, PAGE - 1), page == ahead);
    };
    auto values = [&](int id) {
        const int page = lesser(ahead, page1);
        pages.fetch_values(cache.values(id, kv), row(page, page == ahead), lesser(hi - page * PAGE, PAGE - 1), page == ahead);
    };
    const int id = where();
    overlap_wait(); // for the first tokens: what came before is the step's inputs
    overlap_next();
    keys(id), values(id);
#pragma unroll
    for (int i = 0; i < N; i++) query[i].ask(a.q + (long)token(i * SIDE + side_of(lane_head())) * W + query_head(kv, head0, head_of(lane_head())) * D);

    const int mine = Folded<N * SIDE>::part(), pos = a.pos[token(mine)]; // of the tokens, this thread folds one
    const int chunk0 = Sight(pos).first / PAGE / CHUNK, chunk1 = pos / PAGE / CHUNK;
    Folded<N * SIDE> total = sink_of<N * SIDE>(a, kv, head0), span;
#pragma unroll 1
    for (int chunk = page0 / CHUNK; chunk <= page1 / CHUNK; chunk++) {
        const int from = greater(chunk * CHUNK, page0), to = lesser((chunk + 1) * CHUNK, page1 + 1);
        Online part[N];
#pragma unroll 1
        for (int page = own_page<WAVES>(wave, from); page < to; page += WAVES) {
            Acc s[N][4] = {};
            pages.template scores<N>(s, query);
            ahead += WAVES;
            keys(where());
#pragma unroll
            for (int i = 0; i < N; i++) {
                if (page >= seen[i].some0 / PAGE && page <= seen[i].some1 / PAGE) part[i].weigh(s[i], page, seen[i]);
                else
                    for (int m = 0; m < 4; m++) s[i][m] = Acc(); // none of its keys: no weights
            }
            pages.template add<N>(part, s);
            values(where());
        }
#pragma unroll
        for (int i = 0; i < N; i++) meeting[i].leave(wave, part[i]);
        __syncthreads();
        if (chunk >= chunk0 && chunk <= chunk1) {
            span.take(meeting[mine / SIDE], mine % SIDE);
            if ((chunk + 1) % SPAN == 0 || chunk == chunk1) total.take(span), span = Folded<N * SIDE>();
        }
        __syncthreads();
    }
    if (mine < count) give(a, t + mine, kv, head0, total);
}

DEVICE void run(const Args &a) {
    extern __shared__ __attribute__((aligned(128))) char lds[];
    __shared__ Meeting meeting[TOKENS];
    static_assert(Pages<D>::LDS == RING, "the head knows the pages' size");
    const int kv = blockIdx.x / TILES, head0 = blockIdx.x % TILES * HEADS, rows = row_count(a), each = (rows + (int)gridDim.y - 1) / (int)gridDim.y;
    const int upto = lesser((blockIdx.y + 1) * each, rows);
    int t = blockIdx.y * each;
    char *own = lds + uniform(threadIdx.x / WAVE) * RING;
    if (t >= upto) return;
    if (gridDim.z > 1) {
        const Sight sight(a.pos[t]);
        if (sight.units > 1) return share(a, t, kv, head0, sight, own, meeting[0]);
        if (blockIdx.z) return;
    }
    for (int count; t < upto; t += count) {
        for (count = 1; t + count < upto && a.slot[t + count] == a.slot[t]; count++) continue;
        if (TOKENS > 1 && count > SIDE) alone<TOKENS>(a, t, count, kv, head0, own, meeting);
        else alone<1>(a, t, count, kv, head0, own, meeting);
    }
}
