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
//! const  WAVES = 4
//! const  CHUNK = WINDOW && WINDOW <= 512 ? M : 8
//! const  SPAN = 4
//! const  FINE = 64
//! const  UNITS = min(ceil(M, CHUNK), max(FINE, ceil(M, CHUNK * SPAN)))
//! const  RING = WAVE == 32 ? 128 * (D * 2 + 16) : 0
//! const  TOKENS = WAVE == 32 && D <= 64 && CHUNK < M ? 4 : 1
//! grid   NKV * TILES, T > 64 && T * NKV * TILES > 128 ? ceil(T, TOKENS) : T, max(1, min(UNITS, 256 / (T * NKV * TILES)))
//! block  WAVES * WAVE
//! lds    WAVES * RING
//! workspace UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES * UNITS * HELD * (D + 2) * 4 : 0
//! counters  UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES : 0
//! overlaps
//! reduce mma16; pages of 64 keys, page i to wave i % {WAVES}, online; waves of a chunk of {CHUNK} pages, chunks of {SPAN}, those: each ascending
//! hook   out
//! tol    fast 1e-5
// A token and up to HEADS query heads of one kv head (columns of a tile beyond them repeat) by a few blocks; where there are many tokens,
// up to TOKENS of them by one block, which reads a page once for those that have it in common (of a window's few pages that saves nothing:
// prefill of 2,048 tokens, H200, 2026-11-29: 621 µs for 814 where all is seen, 290 either way for a window of 128).
//
// The order of the sums is a function of positions alone. Pages are cut at multiples of CHUNK; in a chunk each wave takes every
// WAVES-th page with a maximum of its own; then the waves are merged, SPAN chunks folded into a span and spans into the sink, always
// ascending. A fold into nothing changes nothing, so it does not matter where the intermediate results lie: a token with one chunk, and
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
//   unknown(i)                   i, of which the compiler knows nothing
//   ACC_HEADS, HEAD_LANES        c[i] of an Acc is of head acc_token(i % ACC_HEADS); HEAD_LANES neighbouring lanes have different heads

enum { THREADS = WAVES * WAVE, EACH = (HELD * D + THREADS - 1) / THREADS };

DEVICE int lesser(int a, int b) { return a < b ? a : b; }
DEVICE int greater(int a, int b) { return a > b ? a : b; }

// Keys first … last, cut into units of `pages` pages.
struct Sight {
    int first, last, pages, unit0, units;
    METHOD Sight(int pos) : first(WINDOW ? greater(pos - WINDOW + 1, 0) : 0), last(pos) { cut(CHUNK); }
    METHOD void cut(int n) {
        pages = n, unit0 = first / PAGE / n, units = last / PAGE / n - unit0 + 1;
    }
    METHOD int from(int unit) const { return greater((unit0 + unit) * pages, first / PAGE); }
    METHOD int to(int unit) const { return lesser((unit0 + unit + 1) * pages, last / PAGE + 1); }
};

DEVICE int own_page(int wave, int from) { return from + ((wave - from) & (WAVES - 1)); }

// The pages that a wave reads, in order; then, again and again, the last key's row.
struct Walk {
    const int *table;
    int wave, unit, page, id, lo, hi; // rows lo … hi of the page; id: where it lies
    METHOD void seek(const Sight &s, int from) {
        page = own_page(wave, from);
        for (; page >= s.to(unit) && unit + (int)gridDim.z < s.units; page = own_page(wave, s.from(unit))) unit += gridDim.z;
        const bool over = page >= s.to(unit);
        if (over) page = s.last / PAGE;
        lo = over ? s.last % PAGE : greater(s.first - page * PAGE, 0);
        hi = lesser(s.last - page * PAGE, PAGE - 1);
        id = table[page];
    }
};

// A wave's part of a chunk.
struct Online {
    float top[ACC_HEADS], sum[ACC_HEADS]; // of this lane's keys
    Acc o[Pages<D>::TILES];
    METHOD Online() : o{} {
        for (int h = 0; h < ACC_HEADS; h++) top[h] = -__builtin_inff(), sum[h] = 0;
    }
    // Scores of the page's keys to their weights, and all before to the same maximum.
    METHOD void weigh(Acc *s, int page, int lo, int hi) {
        float high[ACC_HEADS], keep[ACC_HEADS];
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) high[h] = top[h];
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = page * PAGE + m * 16 + tile_row(acc_group(i % 2), i / 2), h = i % ACC_HEADS;
                const float v = key >= lo && key <= hi ? s[m].c[i] * (float)(1 / sqrt((double)D)) : -__builtin_inff();
                s[m].c[i] = v, high[h] = v > high[h] ? v : high[h];
            }
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) {
#pragma unroll
            for (int d = HEAD_LANES; d < WAVE; d *= 2) {
                const float other = shuffle_xor(high[h], d);
                high[h] = other > high[h] ? other : high[h];
            }
            keep[h] = expf(top[h] - high[h]);
            top[h] = high[h], sum[h] *= keep[h];
        }
#pragma unroll
        for (int j = 0; j < Pages<D>::TILES; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[j].c[i] *= keep[i % ACC_HEADS];
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[m].c[i] = expf(s[m].c[i] - high[i % ACC_HEADS]);
                sum[i % ACC_HEADS] += s[m].c[i];
            }
    }
};

struct Meeting { // of the waves, in shared memory
    float top[WAVES][HEADS], sum[WAVES][HEADS], o[WAVES][D][HEADS + 1];
    METHOD void leave(int wave, const Online &part) {
#pragma unroll
        for (int h = 0; h < ACC_HEADS; h++) {
            float all = part.sum[h];
#pragma unroll
            for (int d = HEAD_LANES; d < WAVE; d *= 2) all += shuffle_xor(all, d);
            if (threadIdx.x % WAVE < HEAD_LANES) top[wave][acc_token(h)] = part.top[h], sum[wave][acc_token(h)] = all;
        }
#pragma unroll
        for (int j = 0; j < Pages<D>::TILES; j++) {
            if (Pages<D>::column(j, tile_row(acc_group(0), 0)) / 16 >= D / 16) continue; // all four; a mask an element would spill
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int d = Pages<D>::column(j, tile_row(acc_group(i % 2), i / 2));
                o[wave][d][acc_token(i % ACC_HEADS)] = part.o[j].c[i];
            }
        }
    }
};

// What is folded so far, of this thread's elements: column d of head h.
struct Folded {
    float top[EACH], sum[EACH], o[EACH];
    METHOD Folded() {
        for (int k = 0; k < EACH; k++) top[k] = -__builtin_inff(), sum[k] = o[k] = 0;
    }
    METHOD void take(int k, float t, float s, float v) {
        const float now = t > top[k] ? t : top[k], keep = expf(top[k] - now), share = expf(t - now);
        top[k] = now, sum[k] = __builtin_fmaf(sum[k], keep, s * share), o[k] = __builtin_fmaf(o[k], keep, v * share);
    }
    METHOD void take(const Folded &f) {
#pragma unroll
        for (int k = 0; k < EACH; k++) take(k, f.top[k], f.sum[k], f.o[k]);
    }
    METHOD void take(const Meeting &m) {
        each([&](int k, int h, int d) {
            float t = m.top[0][h], s = 0, v = 0;
#pragma unroll
            for (int w = 1; w < WAVES; w++) t = m.top[w][h] > t ? m.top[w][h] : t;
#pragma unroll
            for (int w = 0; w < WAVES; w++) {
                const float share = expf(m.top[w][h] - t);
                s = __builtin_fmaf(m.sum[w][h], share, s), v = __builtin_fmaf(m.o[w][d][h], share, v);
            }
            take(k, t, s, v);
        });
    }
    template <class Do> METHOD static void each(Do f) {
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const int i = k * THREADS + threadIdx.x;
            if (i < HELD * D) f(k, i / D, i % D);
        }
    }
    // In the workspace: HELD * D of o, then top and sum of each head.
    METHOD void save(float *to) const {
        each([&](int k, int h, int d) {
            to[h * D + d] = o[k];
            if (d == 0) to[HELD * D + h] = top[k], to[HELD * (D + 1) + h] = sum[k];
        });
    }
    METHOD void take(const float *from) {
        each([&](int k, int h, int d) { take(k, from[HELD * D + h], from[HELD * (D + 1) + h], from[h * D + d]); });
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
DEVICE const bf16 *keys_of(const Args &a, int page, int kv) { return a.state + ((long)page * 2 * NKV + kv) * PAGE * D; }
DEVICE const bf16 *values_of(const Args &a, int page, int kv) { return keys_of(a, page, kv) + (long)NKV * PAGE * D; }

DEVICE Folded sink_of(const Args &a, int kv, int head0) {
    Folded f;
    Folded::each([&](int k, int h, int) { f.take(k, a.sinks[query_head(kv, head0, h)], 1, 0); });
    return f;
}
DEVICE void give(const Args &a, int t, int kv, int head0, const Folded &f) {
    Folded::each([&](int k, int h, int d) {
        if (head0 + h < GROUP) out(a, t, query_head(kv, head0, h) * D + d, f.o[k] / f.sum[k]);
    });
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

    Pages<D> pages;
    typename Pages<D>::Query query;
    pages.begin(lds);
    auto next = [&] {
        now = ahead;
        ahead.seek(sight, now.page + 1);
        pages.fetch_keys(keys_of(a, now.id, kv), now.lo, now.hi, true);
    };
    next();
    pages.fetch_values(values_of(a, now.id, kv), now.lo, now.hi, true);
    query.ask(a.q + (long)t * W + query_head(kv, head0, lane_head()) * D);

    float *left = (float *)a.workspace + (long)(t * gridDim.x + blockIdx.x) * UNITS * (HELD * (D + 2));
#pragma unroll 1
    for (int unit = blockIdx.z; unit < sight.units; unit += gridDim.z) {
        Folded span;
#pragma unroll 1
        for (int from = sight.from(unit), to; from < sight.to(unit); from = to) {
            to = lesser((from / CHUNK + 1) * CHUNK, sight.to(unit));
            Online part;
#pragma unroll 1
            for (int page = own_page(wave, from); page < to; page += WAVES) {
                Acc s[1][4] = {};
                pages.template scores<1>(s, &query);
                next();
                part.weigh(s[0], page, sight.first, sight.last);
                pages.template add<1>(&part, s);
                pages.fetch_values(values_of(a, now.id, kv), now.lo, now.hi, true);
            }
            meeting.leave(wave, part);
            __syncthreads();
            span.take(meeting);
            __syncthreads();
        }
        span.save(left + (long)unit * (HELD * (D + 2)));
    }
    if (!last_of(a.counters + t * gridDim.x + blockIdx.x, lesser(gridDim.z, sight.units))) return;
    Folded total = sink_of(a, kv, head0), span;
#pragma unroll 1
    for (int unit = 0; unit < sight.units; unit++) {
        span.take(left + (long)unit * (HELD * (D + 2)));
        if (fine && (sight.unit0 + unit + 1) % SPAN && unit + 1 < sight.units) continue;
        total.take(span);
        span = Folded();
    }
    give(a, t, kv, head0, total);
}

// `count` tokens of one slot, from t on, by this block alone, N >= count.
template <int N> DEVICE void alone(const Args &a, int t, int count, int kv, int head0, char *lds, Meeting &meeting) {
    const int wave = uniform(threadIdx.x / WAVE), *table = a.blocks + (long)a.slot[t] * M;
    Pages<D> pages;
    typename Pages<D>::Query query[N];
    int first[N], last[N], lo = 0x7fffffff, hi = 0; // of the keys: each token's, and from the lowest to the highest
    pages.begin(lds);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int own = t + lesser(i, count - 1);
        const Sight sight(a.pos[own]);
        first[i] = sight.first, last[i] = sight.last;
        lo = lesser(lo, first[i]), hi = greater(hi, last[i]);
    }
    const int page0 = lo / PAGE, page1 = hi / PAGE;
    int ahead = own_page(wave, page0); // the page that is fetched; behind the last one: a row of that
    auto row = [&](int page, bool used) { return used ? greater(lo - page * PAGE, 0) : hi % PAGE; };
    auto keys = [&] {
        const int page = lesser(ahead, page1);
        pages.fetch_keys(keys_of(a, table[page], kv), row(page, page == ahead), lesser(hi - page * PAGE, PAGE - 1), page == ahead);
    };
    auto values = [&] {
        const int page = lesser(ahead, page1);
        pages.fetch_values(values_of(a, table[page], kv), row(page, page == ahead), lesser(hi - page * PAGE, PAGE - 1), page == ahead);
    };
    keys(), values();
#pragma unroll
    for (int i = 0; i < N; i++) query[i].ask(a.q + (long)(t + lesser(i, count - 1)) * W + query_head(kv, head0, lane_head()) * D);

    // Of several tokens these lie in local memory, since an index that the compiler does not know says so: registers there are not.
    Folded total[N], span[N];
    auto place = [](int i) { return N == 1 ? 0 : unknown(i); };
#pragma unroll 1
    for (int i = 0; i < N; i++) total[place(i)] = sink_of(a, kv, head0), span[place(i)] = Folded();
#pragma unroll 1
    for (int chunk = page0 / CHUNK; chunk <= page1 / CHUNK; chunk++) {
        const int from = greater(chunk * CHUNK, page0), to = lesser((chunk + 1) * CHUNK, page1 + 1);
        Online part[N];
#pragma unroll 1
        for (int page = own_page(wave, from); page < to; page += WAVES) {
            Acc s[N][4] = {};
            pages.template scores<N>(s, query);
            ahead += WAVES;
            keys();
#pragma unroll
            for (int i = 0; i < N; i++) {
                if (page >= first[i] / PAGE && page <= last[i] / PAGE) part[i].weigh(s[i], page, first[i], last[i]);
                else
                    for (int m = 0; m < 4; m++) s[i][m] = Acc(); // none of its keys: no weights
            }
            pages.template add<N>(part, s);
            values();
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (chunk < first[i] / PAGE / CHUNK || chunk > last[i] / PAGE / CHUNK || i >= count) continue;
            meeting.leave(wave, part[i]);
            __syncthreads();
            Folded now = span[place(i)];
            now.take(meeting);
            __syncthreads();
            if ((chunk + 1) % SPAN == 0 || chunk == last[i] / PAGE / CHUNK) {
                total[place(i)].take(now);
                now = Folded();
            }
            span[place(i)] = now;
        }
    }
#pragma unroll 1
    for (int i = 0; i < count; i++) give(a, t + i, kv, head0, total[place(i)]);
}

DEVICE void run(const Args &a) {
    extern __shared__ __attribute__((aligned(128))) char lds[];
    __shared__ Meeting meeting;
    static_assert(Pages<D>::LDS == RING, "the head knows the pages' size");
    const int kv = blockIdx.x / TILES, head0 = blockIdx.x % TILES * HEADS, rows = row_count(a), each = (rows + (int)gridDim.y - 1) / (int)gridDim.y;
    const int upto = lesser((blockIdx.y + 1) * each, rows);
    int t = blockIdx.y * each;
    char *own = lds + uniform(threadIdx.x / WAVE) * RING;
    if (t >= upto) return;
    if (gridDim.z > 1) {
        const Sight sight(a.pos[t]);
        if (sight.units > 1) return share(a, t, kv, head0, sight, own, meeting);
        if (blockIdx.z) return;
    }
    overlap_wait();
    overlap_next();
    for (int count; t < upto; t += count) {
        for (count = 1; t + count < upto && a.slot[t + count] == a.slot[t]; count++) continue;
        if (TOKENS > 1 && count > 1) alone<TOKENS>(a, t, count, kv, head0, own, meeting);
        else alone<1>(a, t, count, kv, head0, own, meeting);
    }
}
