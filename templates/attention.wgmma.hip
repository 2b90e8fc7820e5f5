//! kernel attention(q: bf16[T,W], state: bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! precision fast
//! arch   sm_90
//! over   256
//! priority 20
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  P_BF16 == 1
//! where  W == NH * D && NH % (8 * NKV) == 0 && D == 64 && PAGE == 64
//! const  GROUP = NH / NKV
//! const  WAVES = 4
//! const  CHUNK = WINDOW && WINDOW <= 512 ? M : 8
//! const  SPAN = 4
//! const  TEAMS = 3
//! tune   TEAMS 2
//! const  MOST = 8192
//! const  STAGES = (LDS_ALL - TEAMS * 26624 - MOST * 2 - 2048) / 16384
//! grid   132, ceil(T, MOST)
//! block  TEAMS * 128 + 128
//! lds    STAGES * 16384 + TEAMS * 26624 + min(T, MOST) * 2 + 2
//! workspace CHUNK < M ? ceil(T, MOST) * 132 * TEAMS * 18432 : 0
//! counters ceil(T, MOST)
//! overlaps
//! reduce mma16; pages of 64 keys, page i to wave i % {WAVES}, online; waves of a chunk of {CHUNK} pages, chunks of {SPAN}, those: each ascending
//! hook   out
//! tol    fast 1e-5
// Many tokens, by wgmma. A tile is up to 8 neighbouring tokens of one slot times 8 query heads of one kv head, 64 rows, one warpgroup's (a
// team's): S = Q K^T and O = P V with Q and P from registers. TEAMS of them share a block, one a multiprocessor of an H100 or H200, with a
// warpgroup that moves pages into a ring of STAGES. Where a block's tiles are of one slot, as in a prompt, all teams use each page; else each
// has its own, in turn. Blocks take the next tiles when they have done theirs, the last tokens, which see most, first.
//
// The order of the sums is that of attention.pages.hip, to the bit: a team does the work of its WAVES waves one after the other. A lane has
// rows g and g + 8 of its warp's 16, which are one head of two tokens, and of each 8 keys or columns two, 2 p and 2 p + 1 (PTX ISA: wgmma).
//
// NMSE: as attention.pages.hip.

enum { TEAM = 128, THREADS = (TEAMS + 1) * TEAM, TOKENS = 8, HEADS = 8 };
enum { PART = PAGE * D * 2, PAIR = 2 * PART, SAVED = 9 * TEAM * 16, OWN = SAVED + 4 * TEAM * 16 }; // bytes: keys or values of a page, both; of a team
enum { TAKE = TEAMS == 3 ? 160 : 224, GIVE = TEAMS == 3 ? 32 : 56 }; // registers of who multiplies, who moves: together what a launch of so many threads has

// --- the tiles ---

typedef unsigned short Row; // of the block's MOST rows, the first of which is base_row()
DEVICE int base_row() { return blockIdx.y * MOST; }

// Where the tiles begin, in order, then `rows`; returns how many. A tile begins with a slot and with every TOKENS-th row.
DEVICE int list_tiles(const int *slots, int rows, Row *list) {
    __shared__ int sums[THREADS / WAVE];
    const int each = (rows + THREADS - 1) / THREADS, from = lesser(threadIdx.x * each, rows), to = lesser(from + each, rows), warp = threadIdx.x / WAVE;
    auto begins = [&](int t) { return t % TOKENS == 0 || slots[t] != slots[t - 1]; };
    int own = 0, at = 0, all = 0;
    for (int t = from; t < to; t++) own += begins(t);
    int upto = own; // of the warp's tiles, those of this lane and the ones before it
#pragma unroll
    for (int d = 1; d < WAVE; d *= 2) {
        const int other = __shfl_up_sync(~0u, upto, d);
        if ((int)threadIdx.x % WAVE >= d) upto += other;
    }
    if (threadIdx.x % WAVE == WAVE - 1) sums[warp] = upto;
    __syncthreads();
    for (int w = 0; w < THREADS / WAVE; w++) at += w < warp ? sums[w] : 0, all += sums[w];
    at += upto - own;
    for (int t = from; t < to; t++)
        if (begins(t)) list[at++] = t;
    if (threadIdx.x == 0) list[all] = rows;
    __syncthreads();
    return all;
}

// TEAMS tiles and a kv head's part. Lanes 8 g … 8 g + 7 have what is team g's; the last ones what is the last team's.
struct Work {
    int kv, head0; // which query heads: head0 …
    int first, count, slot, lo, hi; // tokens; the first and last key that one of them sees
    bool joined; // all are of one slot
    METHOD static int groups(int tiles) { return (tiles + TEAMS - 1) / TEAMS; }
    METHOD static int works(int tiles) { return groups(tiles) * (NH / HEADS); }
    METHOD Work(const Args &a, const Row *list, int tiles, int i) {
        const int lane = threadIdx.x % WAVE, team = lesser(lane / 8, TEAMS - 1), part = i % (NH / HEADS);
        const int tile = (groups(tiles) - 1 - i / (NH / HEADS)) * TEAMS + team, there = lesser(tile, tiles - 1);
        head0 = part * HEADS, kv = head0 / GROUP;
        const int end = base_row() + list[there + 1];
        first = base_row() + list[there], count = tile < tiles ? end - first : 0;
        const int t = lesser(first + lane % 8, end - 1);
        slot = a.slot[t], hi = a.pos[t], lo = first_key(hi, WINDOW);
#pragma unroll
        for (int d = 1; d < 8; d *= 2) hi = greater(hi, shuffle_xor(hi, d)), lo = lesser(lo, shuffle_xor(lo, d));
        joined = __all_sync(~0u, slot == __shfl_sync(~0u, slot, 0));
    }
    METHOD int of(int v, int team) const { return __shfl_sync(~0u, v, team * 8); }
    // The keys whose pages are fetched for a team, none if hi < lo.
    METHOD void fetched(int team, int *from, int *to) const {
        *from = of(lo, team), *to = of(hi, team);
        if (joined) {
#pragma unroll
            for (int g = 0; g < TEAMS; g++) *from = lesser(*from, of(lo, g)), *to = greater(*to, of(hi, g));
        }
        if (joined ? team > 0 : of(count, team) == 0) *to = *from - 1;
    }
};

DEVICE int pages_of(int lo, int hi) { return hi < lo ? 0 : hi / PAGE - lo / PAGE + 1; } // of keys lo … hi

// These pages in the order in which they are folded.
struct Walk {
    int first, last, chunk, wave, page;
    METHOD void begin(int lo, int hi) {
        first = lo / PAGE, last = hi < lo ? -1 : hi / PAGE, chunk = first / CHUNK, wave = 0, page = own_page<WAVES>(0, first);
        settle();
    }
    METHOD bool more() const { return chunk * CHUNK <= last; }
    METHOD void next() { page += WAVES, settle(); }
    METHOD void settle() {
        while (more() && page >= lesser((chunk + 1) * CHUNK, last + 1)) {
            if (++wave == WAVES) wave = 0, chunk++;
            page = own_page<WAVES>(wave, greater(chunk * CHUNK, first));
        }
    }
};

// --- the ring: a stage holds 64 keys, then their values, in rows of 128 swizzled bytes as wgmma reads them ---

struct Barriers {
    u64 full[STAGES], empty[STAGES]; // arrivals: of each thread that moves, when its copies are there; of each warp that multiplies
    u64 told[2], heard[2];           // of who says which work comes next; of each warp that multiplies
    int work[2];                     // -1: none
};
struct Ring { // by the number of a page among all that the block uses
    Barriers &b;
    unsigned data;
    METHOD unsigned full(unsigned i) const { return shared_address(b.full + i % STAGES); }
    METHOD unsigned empty(unsigned i) const { return shared_address(b.empty + i % STAGES); }
    METHOD void wait_full(unsigned i) const { barrier_wait(full(i), i / STAGES & 1); }
    METHOD void wait_empty(unsigned i) const { barrier_wait(empty(i), ~(i / STAGES) & 1); }
    METHOD unsigned keys(unsigned i) const { return data + i % STAGES * PAIR; }
    METHOD void release(unsigned i, int warps) const { // a warp's part, or that of so many
        if (elected()) barrier_arrive(empty(i), warps);
    }
};

// --- who moves pages: a thread has 16 bytes of every 16th row ---

struct Mover {
    const Args &a;
    Ring ring;
    unsigned at;
    METHOD static int thread() { return threadIdx.x - TEAMS * TEAM; }
    METHOD void send(const Cache<NKV, PAGE, D> &cache, int kv, int id, int lo, int hi) { // rows that nobody may see come as zeros
        const int row = thread() / 8, cell = thread() % 8, own = row * D + cell * 8;
        const bf16 *keys = cache.keys(id, kv) + own, *values = cache.values(id, kv) + own;
        ring.wait_empty(at);
        const unsigned to = ring.keys(at) + row * 128 + (cell ^ row % 8) * 16;
#pragma unroll
        for (int k = 0; k < PAGE / 16; k++) copy_16(to + k * 2048, keys + k * 16 * D, row + k * 16 >= lo && row + k * 16 <= hi);
#pragma unroll
        for (int k = 0; k < PAGE / 16; k++) copy_16(to + PART + k * 2048, values + k * 16 * D, row + k * 16 >= lo && row + k * 16 <= hi);
        copies_arrive(ring.full(at++));
    }
    // The pages' places are read a WAVE at a time.
    METHOD void work(const Work &w) {
        const Cache<NKV, PAGE, D> cache = {a.state};
        struct Line {
            int lo, hi, base, ids;
            const int *table;
            Walk walk;
            METHOD void read() {
                base = CHUNK < M ? walk.page / WAVE * WAVE : walk.first + (walk.page - walk.first) / WAVE * WAVE;
                ids = table[lesser(base + (int)threadIdx.x % WAVE, walk.last)];
            }
        } line[TEAMS];
#pragma unroll
        for (int g = 0; g < TEAMS; g++) {
            Line &l = line[g];
            w.fetched(g, &l.lo, &l.hi);
            l.walk.begin(l.lo, l.hi);
            l.table = a.blocks + (long)w.of(w.slot, g) * M;
            if (l.walk.more()) l.read();
        }
        for (bool some = true; some;) {
            some = false;
#pragma unroll
            for (int g = 0; g < TEAMS; g++) {
                Line &l = line[g];
                if (!l.walk.more()) continue;
                const int page = l.walk.page;
                if (page < l.base || page >= l.base + WAVE) l.read();
                send(cache, w.kv, __shfl_sync(~0u, l.ids, page - l.base), l.lo - page * PAGE, l.hi - page * PAGE);
                l.walk.next(), some = true;
            }
        }
    }
};
DEVICE void tell(Barriers &b, unsigned n, int work) { // the block's n-th; by one thread
    barrier_wait(shared_address(b.heard + n % 2), ~(n / 2) & 1);
    b.work[n % 2] = work;
    barrier_arrive(shared_address(b.told + n % 2));
}
DEVICE int hear(Barriers &b, unsigned n) {
    barrier_wait(shared_address(b.told + n % 2), n / 2 & 1);
    const int work = b.work[n % 2];
    if (elected()) barrier_arrive(shared_address(b.heard + n % 2));
    return work;
}
DEVICE void move(const Args &a, const Ring &ring, const Row *list, int tiles) {
    __shared__ int following[2];
    const int works = Work::works(tiles);
    const bool first = Mover::thread() == 0;
    Mover mover = {a, ring, 0};
    unsigned n = 0;
    for (int i = blockIdx.x; i < works; n++) {
        const int before = first ? device_add(a.counters + blockIdx.y, 1) : 0; // so many were taken, each followed by this
        if (first) tell(ring.b, n, i);
        __syncwarp();
        mover.work(Work(a, list, tiles, i));
        if (first) {
            following[n % 2] = (int)gridDim.x + before;
            if (before == works - 1) a.counters[blockIdx.y] = 0;
        }
        barrier_sync<TEAM>(1);
        i = following[n % 2];
    }
    if (first) tell(ring.b, n, -1);
}

// --- who multiplies ---

struct Sum { // of weights, of a lane's two rows
    float top[2], sum[2];
    METHOD Sum() : top{-__builtin_inff(), -__builtin_inff()}, sum{} {}
};

struct Team {
    const Args &a;
    // Each thread has 16 bytes of its own in each of the 2 KB pieces of: span, total (the values, 8, then Sum), queries (4), the first and the
    // last in shared memory. (Queries are read again for each page: ptxas 13.0 gives registers that wgmma reads as A to others although a
    // loop comes back to them.)
    f32x4 *span, *total, *queries;
    float o[D / 2], c[D / 2];    // of a part (the pages of a wave in a chunk), of the chunk: o[4 j + 2 r + i] is of row g + 8 r, column 8 j + 2 p + i
    float top[2], sum[2][2];     // of the part; sum: of even and odd keys apart
    Sum chunk;
    bool span_some, total_some; // is anything there?

    METHOD static int warp() { return threadIdx.x / WAVE % 4; }
    // From which token on the warp has two; of one token a tile, the warps that have it are of different schedulers.
    METHOD static int tokens() { return (threadIdx.x / WAVE + threadIdx.x / TEAM) % 4 * 2; }
    METHOD static int group() { return threadIdx.x % WAVE / 4; }
    METHOD static int pair() { return threadIdx.x % 4 * 2; }
    METHOD static f32x4 &own(f32x4 *place, int i) { return place[i * TEAM + threadIdx.x % TEAM]; }
    METHOD static int token(int row, int count) { return lesser(tokens() + row, greater(count - 1, 0)); }

    METHOD void ask(int first, int count, int head0) {
#pragma unroll
        for (int s = 0; s < D / 16; s++) {
            AFragment q;
#pragma unroll
            for (int i = 0; i < 4; i++) q.r[i] = *(const unsigned *)(a.q + (long)(first + token(i % 2, count)) * W + (head0 + group()) * D + s * 16 + i / 2 * 8 + pair());
            own(queries, s) = __builtin_bit_cast(f32x4, q);
        }
    }
    METHOD static void hide(float *s, int page, const int *lo, const int *hi) { // keys that are not seen
#pragma unroll
        for (int i = 0; i < PAGE / 2; i++) {
            const int key = page * PAGE + i / 4 * 8 + pair() + i % 2, row = i / 2 % 2;
            s[i] = key >= lo[row] && key <= hi[row] ? s[i] : -__builtin_inff();
        }
    }
    // Scores of a page's keys to their weights, and all before, if there is any, to the same maximum. Rows that see none are as they were.
    METHOD void weigh(float *s, bool any) {
        float base[2], keep[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float some[4]; // one after the other they would wait for each other
#pragma unroll
            for (int i = 0; i < PAGE / 4; i++) some[i % 4] = i < 4 ? s[i / 2 * 4 + 2 * r + i % 2] : higher(some[i % 4], s[i / 2 * 4 + 2 * r + i % 2]);
            float high = higher(higher(some[0], some[1]), higher(some[2], some[3]));
            high = higher(high, shuffle_xor(high, 1)), high = higher(higher(high, top[r]), shuffle_xor(high, 2));
            base[r] = high == -__builtin_inff() ? 0.f : high;
            keep[r] = power_of_2((top[r] - base[r]) * SCORE_SCALE(D));
            top[r] = high, sum[r][0] *= keep[r], sum[r][1] *= keep[r], base[r] *= SCORE_SCALE(D);
        }
#pragma unroll
        for (int i = 0; any && i < D / 2; i++) o[i] *= keep[i / 2 % 2];
#pragma unroll
        for (int i = 0; i < PAGE / 2; i++) {
            s[i] = power_of_2(__builtin_fmaf(s[i], SCORE_SCALE(D), -base[i / 2 % 2]));
            sum[i / 2 % 2][i % 2] += s[i];
        }
    }
    METHOD static void there(float *d) { // not read above the wait before this
#pragma unroll
        for (int i = 0; i < 32; i++) asm volatile("" : "+f"(d[i])::"memory");
    }
    METHOD static void anything(float *d) { // what is in it does not matter
#pragma unroll
        for (int i = 0; i < 32; i++) asm volatile("" : "=f"(d[i]));
    }
    // A page of which some row may see a key, to what is in o already, if `any`. used: this warp has tokens.
    METHOD void page(const AFragment *query, unsigned keys, int page, const int *lo, const int *hi, bool any, bool used) {
        float s[PAGE / 2];
        anything(s);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < D / 16; k++) wgmma_64<0>(s, query[k], swizzled_rows(keys, 2 * k), k > 0);
        wgmma_commit();
        wgmma_wait<0>();
        there(s);
        if (used) {
            if (page * PAGE < greater(lo[0], lo[1]) || page * PAGE + PAGE - 1 > lesser(hi[0], hi[1])) hide(s, page, lo, hi);
            weigh(s, any);
        }
        AFragment p[PAGE / 16];
#pragma unroll
        for (int i = 0; i < PAGE / 4; i++) p[i / 4].r[i % 4] = pair_of(s[2 * i], s[2 * i + 1]);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < PAGE / 16; k++) wgmma_64<1>(o, p[k], swizzled_rows(keys, (PART + 2048 * k) / 16), any || k > 0);
        wgmma_commit();
        wgmma_wait<0>();
        there(o);
    }
    METHOD void begin_part() {
        anything(o);
        for (int r = 0; r < 2; r++) top[r] = -__builtin_inff(), sum[r][0] = sum[r][1] = 0;
    }
    METHOD void end_part() { // into the chunk
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float all = sum[r][0] + sum[r][1];
            all += shuffle_xor(all, 1), all += shuffle_xor(all, 2);
            const Fold f = Fold::of(chunk.top[r], top[r] * SCORE_SCALE(D));
            chunk.top[r] = f.top, chunk.sum[r] = __builtin_fmaf(chunk.sum[r], f.keep, all * f.share);
#pragma unroll
            for (int i = 0; i < D / 4; i++) {
                const int at = i / 2 * 4 + 2 * r + i % 2;
                c[at] = __builtin_fmaf(c[at], f.keep, o[at] * f.share);
            }
        }
    }
    METHOD void begin() { span_some = total_some = false; }
    METHOD void begin_chunk() {
        chunk = Sum();
#pragma unroll
        for (int i = 0; i < D / 2; i++) c[i] = 0;
    }
    METHOD void save(f32x4 *place) const {
#pragma unroll
        for (int j = 0; j < D / 8; j++) own(place, j) = {c[4 * j], c[4 * j + 1], c[4 * j + 2], c[4 * j + 3]};
        own(place, D / 8) = {chunk.top[0], chunk.top[1], chunk.sum[0], chunk.sum[1]};
    }
    // The chunk is folded into what was before it, whose values are in `place`, all 0 without one; c has the result.
    METHOD void onto(const float *top, const float *sum, f32x4 *place) {
        Fold f[2];
#pragma unroll
        for (int r = 0; r < 2; r++) f[r] = Fold::of(top[r], chunk.top[r]), chunk.top[r] = f[r].top, chunk.sum[r] = __builtin_fmaf(sum[r], f[r].keep, chunk.sum[r] * f[r].share);
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            const f32x4 was = place ? own(place, j) : f32x4{};
#pragma unroll
            for (int i = 0; i < 4; i++) c[4 * j + i] = __builtin_fmaf(was[i], f[i / 2].keep, c[4 * j + i] * f[i / 2].share);
        }
    }
    METHOD void onto(f32x4 *place) {
        const f32x4 was = own(place, D / 8);
        const float top[2] = {was[0], was[1]}, sum[2] = {was[2], was[3]};
        onto(top, sum, place);
    }
    METHOD void end_chunk(int head0, bool whole, bool last) { // into the span; that, when it is whole, into the total, which begins with the sink
        if (span_some) onto(span);
        span_some = !whole && !last;
        if (span_some) return save(span);
        const float sink = a.sinks[head0 + group()] * 1.4426950408889634f, top[2] = {sink, sink}, sum[2] = {1, 1};
        if (total_some) onto(total);
        else onto(top, sum, nullptr);
        total_some = true;
        if (!last) save(total);
    }
    METHOD void give(int first, int count, int head0) { // through shared memory, so that a warp writes neighbouring columns
#pragma unroll
        for (int r = 0; r < 2; r++) chunk.sum[r] = 1.f / chunk.sum[r];
#pragma unroll
        for (int i = 0; i < D / 2; i++) c[i] *= chunk.sum[i / 2 % 2];
        save(span);
        __syncwarp();
        const int lane = threadIdx.x % WAVE;
#pragma unroll 1
        for (int row = 0; row < 16; row++) {
            if (tokens() + row / 8 >= count) break;
#pragma unroll
            for (int n = lane; n < D; n += WAVE) {
                const float v = span[n / 8 * TEAM + warp() * WAVE + row % 8 * 4 + n % 8 / 2][row / 8 * 2 + n % 2];
                out(a, first + tokens() + row / 8, (head0 + row % 8) * D + n, v);
            }
        }
        __syncwarp();
    }
};

DEVICE void attend(const Args &a, const Ring &ring, const Row *list, int tiles, Team &team) {
    const int own = threadIdx.x / TEAM;
    unsigned base = 0, works = 0; // the number of the work's first page, and of the work behind it
    for (int next = hear(ring.b, works++); next >= 0;) {
        const Work w(a, list, tiles, next);
        const int first = w.of(w.first, own), count = w.of(w.count, own);
        team.ask(first, count, w.head0);
        int pages[TEAMS], all = 0, from, to, hi[2], lo[2]; // pages: fetched for each team
#pragma unroll
        for (int g = 0; g < TEAMS; g++) w.fetched(g, &from, &to), all += pages[g] = pages_of(from, to);
        w.fetched(w.joined ? 0 : own, &from, &to);
        for (int r = 0; r < 2; r++) hi[r] = a.pos[first + Team::token(r, count)], lo[r] = first_key(hi[r], WINDOW);
        const int page0 = w.of(w.lo, own) / PAGE, page1 = count ? w.of(w.hi, own) / PAGE : -1, end = to < from ? 0 : to / PAGE + 1;
        const bool used = Team::tokens() < count;
        auto place = [&](int n) { // of the team's n-th page
            if (w.joined) return base + n;
            unsigned at = base;
#pragma unroll
            for (int g = 0; g < TEAMS; g++) at += lesser(pages[g], n + (g < own));
            return at;
        };
        int n = 0;
        team.begin();
        for (int chunk = from / PAGE / CHUNK; chunk * CHUNK < end; chunk++) {
            const int low = greater(chunk * CHUNK, from / PAGE), high = lesser((chunk + 1) * CHUNK, end);
            team.begin_chunk();
#pragma unroll 1
            for (int wave = 0; wave < WAVES; wave++) {
                bool any = false;
                team.begin_part();
#pragma unroll 1
                for (int page = own_page<WAVES>(wave, low); page < high; page += WAVES) {
                    AFragment query[D / 16];
                    const unsigned at = place(n++);
#pragma unroll
                    for (int k = 0; k < D / 16; k++) query[k] = __builtin_bit_cast(AFragment, Team::own(team.queries, k));
                    ring.wait_full(at);
                    if (page >= page0 && page <= page1) {
                        proxy_fence();
                        team.page(query, ring.keys(at), page, lo, hi, any, used);
                        any = true;
                    }
                    ring.release(at, w.joined ? 1 : TEAMS);
                }
                if (any && used) team.end_part();
            }
            team.end_chunk(w.head0, (chunk + 1) % SPAN == 0, high == end);
        }
        base += all;
        next = hear(ring.b, works++);
        team.give(first, count, w.head0);
    }
}

DEVICE void run(const Args &a) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    __shared__ Barriers barriers;
    if (shared_address(lds) % 1024) __trap(); // the swizzle goes by addresses
    const Ring ring = {barriers, shared_address(lds)};
    char *saved = lds + STAGES * PAIR;
    Row *list = (Row *)(saved + TEAMS * OWN);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) barrier_init(shared_address(barriers.full + s), TEAM), barrier_init(shared_address(barriers.empty + s), 4 * TEAMS);
        for (int i = 0; i < 2; i++) barrier_init(shared_address(barriers.told + i), 1), barrier_init(shared_address(barriers.heard + i), 4 * TEAMS);
        barrier_init_fence();
        proxy_fence();
    }
    const int rows = lesser(row_count(a) - base_row(), MOST), team = threadIdx.x / TEAM;
    if (rows <= 0) return;
    const int tiles = list_tiles(a.slot + base_row(), rows, list);
    overlap_wait();
    overlap_next();
    if (team == TEAMS) {
        fewer_registers<GIVE>();
        move(a, ring, list, tiles);
    } else {
        more_registers<TAKE>();
        char *span = saved + team * OWN, *total = a.workspace + ((blockIdx.y * gridDim.x + blockIdx.x) * TEAMS + team) * SAVED;
        Team own = {a, (f32x4 *)span, (f32x4 *)total, (f32x4 *)(span + SAVED)};
        attend(a, ring, list, tiles, own);
    }
}
