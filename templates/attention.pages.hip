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
//! grid   NKV * TILES, T, max(1, min(UNITS, 256 / (T * NKV * TILES)))
//! block  WAVES * WAVE
//! lds    WAVES * RING
//! workspace UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES * UNITS * HELD * (D + 2) * 4 : 0
//! counters  UNITS > 1 && T * NKV * TILES <= 128 ? T * NKV * TILES : 0
//! overlaps
//! reduce mma16; pages of 64 keys, page i to wave i % {WAVES}, online; waves of a chunk of {CHUNK} pages, chunks of {SPAN}, those: each ascending
//! hook   out
//! tol    fast 1e-5
// Decode attention: a token and up to HEADS query heads of one kv head (columns of a tile beyond them repeat) by a few blocks.
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
//   Pages<D>     a wave's keys and values. begin(lds), LDS bytes of its own; ask(q): q of head lane_head(). Then, in turn, fetch_keys(page, lo, hi):
//                begins to load rows lo … hi, the others count as anything finite; fetch_values(); scores(s): of 4 x 16 keys; add(o, weights)
//   TILES, column(tile, row)     o[tile]'s rows are columns of V; from D on they are none. A lane's four are of the same 16 columns
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

DEVICE void run(const Args &a) {
    extern __shared__ __attribute__((aligned(128))) char lds[];
    __shared__ Meeting meeting;
    static_assert(Pages<D>::LDS == RING, "the head knows the pages' size");
    const int t = blockIdx.y, kv = blockIdx.x / TILES, head0 = blockIdx.x % TILES * HEADS, wave = uniform(threadIdx.x / WAVE);
    if (t >= row_count(a)) return;
    Sight sight(a.pos[t]);
    const bool alone = gridDim.z == 1 || sight.units == 1, fine = !alone && sight.units <= FINE;
    if (!fine) sight.cut(CHUNK * SPAN);
    if ((int)blockIdx.z >= sight.units) return;
    Walk now, ahead = {a.blocks + (long)a.slot[t] * M, wave, (int)blockIdx.z};
    ahead.seek(sight, sight.from(blockIdx.z));
    overlap_wait();
    overlap_next();

    auto head = [&](int h) { return kv * GROUP + lesser(head0 + h, GROUP - 1); };
    auto keys = [&](int id) { return a.state + ((long)id * 2 * NKV + kv) * PAGE * D; };
    auto values = [&](int id) { return keys(id) + (long)NKV * PAGE * D; };
    Pages<D> pages;
    pages.begin(lds + wave * RING);
    auto next = [&] {
        now = ahead;
        ahead.seek(sight, now.page + 1);
        pages.fetch_keys(keys(now.id), now.lo, now.hi);
    };
    next();
    pages.fetch_values(values(now.id), now.lo, now.hi);
    pages.ask(a.q + (long)t * W + head(lane_head()) * D);

    Folded total, span;
    Folded::each([&](int k, int h, int) { total.take(k, a.sinks[head(h)], 1, 0); });
    float *left = (float *)a.workspace + (long)(t * gridDim.x + blockIdx.x) * UNITS * (HELD * (D + 2));
#pragma unroll 1
    for (int unit = blockIdx.z; unit < sight.units; unit += gridDim.z) {
        span = Folded();
#pragma unroll 1
        for (int from = sight.from(unit), to; from < sight.to(unit); from = to) {
            to = lesser((from / CHUNK + 1) * CHUNK, sight.to(unit));
            Online part;
#pragma unroll 1
            for (int page = own_page(wave, from); page < to; page += WAVES) {
                Acc s[4] = {};
                pages.scores(s);
                next();
                part.weigh(s, page, sight.first, sight.last);
                pages.add(part.o, s);
                pages.fetch_values(values(now.id), now.lo, now.hi);
            }
            meeting.leave(wave, part);
            __syncthreads();
            span.take(meeting);
            __syncthreads();
        }
        if (alone) total.take(span);
        else span.save(left + (long)unit * (HELD * (D + 2)));
    }
    if (!alone) {
        if (!last_of(a.counters + t * gridDim.x + blockIdx.x, lesser(gridDim.z, sight.units))) return;
        span = Folded();
#pragma unroll 1
        for (int unit = 0; unit < sight.units; unit++) {
            span.take(left + (long)unit * (HELD * (D + 2)));
            if (fine && (sight.unit0 + unit + 1) % SPAN && unit + 1 < sight.units) continue;
            total.take(span);
            span = Folded();
        }
    }
    Folded::each([&](int k, int h, int d) {
        if (head0 + h < GROUP) out(a, t, head(h) * D + d, total.o[k] / total.sum[k]);
    });
}
