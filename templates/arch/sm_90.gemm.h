// sm_90.gemm.h - products of many tokens by wgmma. Weights are A, from registers: 64 rows a warpgroup, a slab a warp, turned into bf16
// while the tensor cores work on the unit before. Tokens are B, from shared memory. Each result is one accumulator to which the k16 steps
// are added in ascending order: the signature of lib/matrix.h, and the bits of mma.sync (H200, 2026-11-29).
//
// All of a block's warpgroups but the last multiply; the last one moves data around a ring, whose stages hold STEP units of k:
//   warp 0      weights, a bulk copy a slab and stage
//   warps 1-3   tokens' rows, gathered by cp.async into tiles of 128-byte swizzled rows, as wgmma reads them, a unit a tile
//   full        one arrival with the weights' bytes, and one of each token warp, LAG stages late, when its copies are there and fenced
//   empty       one arrival a multiplying warp
// A block goes from item to item (a row tile times a token tile) without draining the ring. The CLUSTER blocks of a cluster have the same
// row tiles and different tokens: each fetches its share of the slabs for all of them, once all have used what lay there.

// --- wgmma (PTX ISA: wgmma.mma_async m64nNk16) ---

// d += A times B: d[4 j], d[4 j + 1] are row g of tokens 8 j + 2 p, + 1, d[4 j + 2], d[4 j + 3] row g + 8, as of mma_16x8x16. a: the warp's
// slab. b: descriptor of the tokens' k16 step.
template <int N> struct Wgmma;
#define WGMMA(N, D, AB, ...) \
    template <> struct Wgmma<N> { \
        DEVICE void multiply(float *d, const AFragment &a, u64 b) { \
            asm volatile("{ .reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" D "}, " AB ", p, 1, 1, 0; }" \
                         : __VA_ARGS__ : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(b)); \
        } \
    };
#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D8(i) D4(i), D4(i + 4)
#define D16(i) D8(i), D8(i + 8)
#define D32(i) D16(i), D16(i + 16)
#define D64(i) D32(i), D32(i + 32)
#define R4 "%0,%1,%2,%3"
#define R8 R4 ",%4,%5,%6,%7"
#define R16 R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define R24 R16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define R32 R24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define R40 R32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define R48 R40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define R56 R48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define R64 R56 ",%56,%57,%58,%59,%60,%61,%62,%63"
WGMMA(8, R4, "{%4,%5,%6,%7}, %8", D4(0))
WGMMA(16, R8, "{%8,%9,%10,%11}, %12", D8(0))
WGMMA(32, R16, "{%16,%17,%18,%19}, %20", D16(0))
WGMMA(48, R24, "{%24,%25,%26,%27}, %28", D16(0), D8(16))
WGMMA(64, R32, "{%32,%33,%34,%35}, %36", D32(0))
WGMMA(80, R40, "{%40,%41,%42,%43}, %44", D32(0), D8(32))
WGMMA(96, R48, "{%48,%49,%50,%51}, %52", D32(0), D16(32))
WGMMA(112, R56, "{%56,%57,%58,%59}, %60", D32(0), D16(32), D8(48))
WGMMA(128, R64, "{%64,%65,%66,%67}, %68", D64(0))
#undef WGMMA

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); } // all but the last N

// --- what generic writes need before wgmma reads them ---

DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int N> DEVICE void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }

template <class T> DEVICE T of_lane(const T &v, int lane) { // v of that lane; T: ints
    T r;
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 4); i++) ((int *)&r)[i] = __shfl_sync(~0u, ((const int *)&v)[i], lane);
    return r;
}

// --- a block's work ---

struct Item { // slabs slab … of expert `expert` times tokens first …, `count` of them; 0: there are no more items; -1: none, the cluster's others have some
    int expert, slab, first, count;
};

// All tokens times all rows. An item takes `each` of the tokens, a multiple of 16 up to `most`: so many that all is done first. For a unit
// of k a block multiplies (half a clock a slab and token), and has rows of 128 bytes come: at most 40 bytes a clock, its share
// of what the L2 gives being 24 (H200, 2026-11-29). Items that need the same weights follow each other.
template <int CLUSTER> struct Dense {
    int tokens, row_tiles, slabs, each, rounds; // rounds: of a row tile
    DEVICE Dense plan(int tokens, int rows, int slabs, int most) {
        Dense best = {tokens, (slabs_of(rows) + slabs - 1) / slabs, slabs, most, 1};
        const int clusters = (int)gridDim.x / CLUSTER;
        float least = 1e30f;
        for (int each = most; tokens > 0 && each >= 16; each -= 16) {
            const int rounds = (tokens + each * CLUSTER - 1) / (each * CLUSTER), items = rounds * best.row_tiles;
            const float own = (items + clusters - 1) / clusters, all = (float)items / clusters;
            const float multiply = slabs * each * 0.5f, fetch = (slabs * 16 + each) * 3.2f, from_l2 = (slabs * 16.f / CLUSTER + each) * 5.3f;
            const float cost = fmaxf(own * fmaxf(multiply, fetch), all * from_l2);
            if (cost < least) least = cost, best.each = each, best.rounds = rounds;
        }
        return best;
    }
    METHOD Item operator()(int i) const {
        const int at = blockIdx.x / CLUSTER + i * ((int)gridDim.x / CLUSTER), first = (at % rounds * CLUSTER + blockIdx.x % CLUSTER) * each, left = tokens - first;
        return {0, at / rounds * slabs, first, at / rounds >= row_tiles || tokens == 0 ? 0 : left <= 0 ? -1 : left < each ? left : each};
    }
};

template <class W, int K, int N, int SLABS, int TOKENS, int STAGES, int STEP, int CLUSTER = 1> struct Gemm {
    enum {
        UNITS = (K + UNIT_K - 1) / UNIT_K, UNIT = Unit<W>::BYTES, PART = STEP * UNIT, WEIGHTS = SLABS * PART, ROW = UNIT_K * 2, TILE = TOKENS * ROW,
        GROUPS = (SLABS + 3) / 4, MOVERS = 96, APART = MOVERS / 8, EACH = (TOKENS + APART - 1) / APART, FEW = 2, // GROUPS: multiplying warpgroups, MOVERS: threads that gather tokens
        LAG = STAGES / 3 > 5 ? 5 : STAGES / 3,
        THERE = slabs_of(N) % SLABS == 0, // all slabs of a tile
        // Registers of who multiplies and of who moves: together what a launch of 384 threads (168 each), 512 (128) or 640 (96) has
        TAKE = GROUPS == 1 ? 0 : GROUPS == 4 ? 104 : GROUPS == 3 ? 152 : 208,
        GIVE = (GROUPS == 4 ? 480 : GROUPS == 3 ? 512 : 504) - GROUPS * TAKE,
        // Shared memory
        AT_WEIGHTS = STAGES * STEP * TILE, AT_BARRIERS = AT_WEIGHTS + STAGES * WEIGHTS, BYTES = AT_BARRIERS + STAGES * 16
    };
    static_assert(STAGES >= LAG + 2 && (TOKENS == 64 || TOKENS == 128) && UNIT % 16 == 0 && GROUPS <= 4, "a tile, and a ring that cannot lock up");
    static_assert(STEP == 1 || STEP == 2, "units are multiplied in pairs");

    struct Ring {
        char *lds;
        unsigned stage, phase;
        METHOD void next() {
            if (++stage == STAGES) stage = 0, phase ^= 1u;
        }
        METHOD unsigned full(unsigned s) const { return shared_address(lds) + AT_BARRIERS + 16 * s; }
        METHOD unsigned empty(unsigned s) const { return full(s) + 8; }
        METHOD void wait_full() const { barrier_wait(full(stage), phase); }
        METHOD void wait_empty() const { barrier_wait(empty(stage), phase ^ 1u); }
        METHOD unsigned tokens(int unit) const { return shared_address(lds) + (stage * STEP + unit) * TILE; }
        METHOD const char *weights(int slab, int unit) const { return lds + AT_WEIGHTS + stage * WEIGHTS + slab * PART + unit * UNIT; }
        METHOD void open() const { // by one thread
            for (int s = 0; s < STAGES; s++) barrier_init(full(s), 1 + MOVERS / WAVE), barrier_init(empty(s), 4 * GROUPS * CLUSTER);
        }
        METHOD unsigned before() const { return empty(stage ? stage - 1 : STAGES - 1); }
    };

    // --- warp 0 of the last warpgroup ---

    template <class Items> METHOD static void move_weights(const W *w, Ring r, Items items, bool once) {
        const int slabs = slabs_of(N), rank = CLUSTER == 1 ? 0 : cluster_rank();
        const u64 policy = once ? evict_first() : evict_normal();
        for (int i = 0;; i++) {
            const Item it = items(i);
            if (it.count == 0) break;
            const int live = slabs - it.slab < SLABS ? slabs - it.slab : SLABS;
            const char *from = slab_at(w, (long)it.expert * slabs + it.slab, K);
            for (int left = UNITS * UNIT; left > 0; left -= PART, from += PART, r.next()) {
                const int bytes = left < PART ? left : PART;
                r.wait_empty();
                if (!elected()) continue;
                barrier_expect(r.full(r.stage), live * bytes);
                auto copy = [&](int s) {
                    const unsigned to = shared_address(r.weights(s, 0));
                    if (CLUSTER == 1) copy_bulk(to, from + s * (UNITS * UNIT), bytes, r.full(r.stage), policy);
                    else copy_bulk_all(to, from + s * (UNITS * UNIT), bytes, r.full(r.stage), (1u << CLUSTER) - 1, policy);
                };
                if (SLABS % CLUSTER == 0 && live == SLABS) { // without a question a copy
#pragma unroll
                    for (int k = 0; k < SLABS / CLUSTER; k++) copy(k * CLUSTER + rank);
                } else {
#pragma unroll 1
                    for (int s = rank; s < live; s += CLUSTER) copy(s);
                }
            }
        }
    }

    // --- its other three ---

    // A thread has 16 bytes of every 12th row. Chunk c of row r lies where c ^ r % 8 would: 12 rows on, that differs in bit 2 alone.
    struct Gather {
        Ring r;
        int done, pending; // stages: the next to have arrived, those on their way
        METHOD void stage_sent() {
            copies_end();
            r.next();
            if (++pending <= LAG) return;
            copies_wait<LAG>();
            stage_arrived();
            pending--;
        }
        METHOD void stage_arrived() {
            proxy_fence();
            __syncwarp();
            if (threadIdx.x % WAVE == 0) barrier_arrive(r.full(done));
            done = done + 1 == STAGES ? 0 : done + 1;
        }
        // An item's rows, of which a thread has at most MOST.
        template <int MOST, class Row> METHOD void item(const bf16 *x, const Item &it, const Row &row) {
            const int t = threadIdx.x - GROUPS * 128 - WAVE, chunk = t % 8, first = t / 8;
            const unsigned even = first * ROW + (chunk ^ first % 8) * 16, odd = even ^ 64;
            unsigned at[MOST]; // clamped, so that where row(t) is t this is one register
#pragma unroll
            for (int k = 0; k < MOST; k++) at[k] = row(it.first + (first + k * APART < it.count ? first + k * APART : 0)) * (unsigned)(K * 2);
            const char *from = (const char *)x + chunk * 16;
            for (int u = 0; u < UNITS; stage_sent()) {
                r.wait_empty();
#pragma unroll 1 // registers
                for (int j = 0; j < STEP; j++, u++, from += ROW) {
                    if (j && u >= UNITS) break;
                    const bool there = K % UNIT_K == 0 || u * UNIT_K + chunk * 8 < K;
                    const unsigned to = r.tokens(j);
#pragma unroll
                    for (int k = 0; k < MOST; k++)
                        if (first + k * APART < it.count) copy_16(to + (k % 2 ? odd : even) + k * (APART * ROW), there ? from + at[k] : (const char *)x, there);
                }
            }
        }
    };
    template <class Items, class Row> METHOD static void move_tokens(const bf16 *x, Ring r, Items items, Row row) {
        Gather g = {r, 0, 0};
        for (int i = 0;; i++) {
            const Item it = items(i);
            if (it.count == 0) break;
            if (it.count <= FEW * APART) g.template item<FEW>(x, it, row);
            else g.template item<EACH>(x, it, row);
        }
        copies_wait<0>();
        for (; g.pending; g.pending--) g.stage_arrived();
    }

    // --- the others ---

    METHOD static Unit<W> read(const Ring &r, int unit) { // of the warp's slab; a warp without one reads what another does, to no avail
        const int own = threadIdx.x / WAVE;
        return Unit<W>::read(r.weights(SLABS % 4 == 0 || own < SLABS ? own : SLABS - 1, unit));
    }
    METHOD static void steps(AFragment *a, Unit<bf16> &u) {
#pragma unroll
        for (int s = 0; s < STEPS; s++) a[s] = bf16_fragment(u.part, s);
    }
    METHOD static void steps(AFragment *a, Unit<mxfp4> &u) {
        asm volatile("" : "+r"(u.codes[0]), "+r"(u.codes[1]), "+r"(u.codes[2]), "+r"(u.codes[3]), "+r"(u.scales)); // not above the wait
        Dequant::fragments(a, u.codes, u.scales);
    }
    METHOD static void release(unsigned empty) { // a stage's barrier: its last unit is done
        const int lane = threadIdx.x % WAVE;
        if (CLUSTER == 1 && lane == 0) barrier_arrive(empty);
        if (CLUSTER > 1 && lane < CLUSTER) barrier_arrive_at(empty, lane);
    }

    // Codes are read while the unit before is multiplied; bf16 would only take registers.
    enum { AHEAD = sizeof(W) == 1 };
    // Multiplies unit u, even or odd, whose A is a[ODD]; makes the next one's, if there is one, in the other. (What is read behind the
    // last one is what lies there. Without the question in front of steps(), ptxas finds no registers, and serialises wgmma.)
    template <int WIDTH, int ODD> METHOD static void unit(float *d, AFragment (*a)[STEPS], Ring &r, int u) {
        enum { AT = ODD % STEP, LAST = AT == STEP - 1 }; // of its stage
        // Tokens' rows: 128-byte swizzle, 8 rows in 1,024 bytes (PTX ISA: matrix descriptor)
        const unsigned tile = r.tokens(AT) >> 4 | 1u << 16, before = r.before();
        const u64 high = 0x4000004000000000ull;
        Unit<W> w;
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < STEPS; s++) Wgmma<WIDTH>::multiply(d, a[ODD][s], high | (tile + 2 * s));
        wgmma_commit();
        if (LAST) r.next();
        if (LAST && (UNITS % STEP || u + 1 < UNITS)) r.wait_full();
        if (AHEAD) w = read(r, LAST ? 0 : AT + 1);
        wgmma_wait<1>(); // the unit before this one is done: its A is free, and its stage, if it was that one's last
        if (AT == 0 && u > 0) release(before);
        if (!AHEAD) w = read(r, LAST ? 0 : AT + 1);
        if (u + 1 < UNITS) steps(a[!ODD], w);
    }
    template <int WIDTH> METHOD static void product(float *d, Ring &r) {
        AFragment a[2][STEPS];
        r.wait_full();
        Unit<W> w = read(r, 0);
        steps(a[0], w);
#pragma unroll 1
        for (int u = 0; u < UNITS; u += 2) {
            unit<WIDTH, 0>(d, a, r, u);
            asm volatile("" : "+r"(u)); // of an even number of units, ptxas finds no registers and serialises wgmma
            if (u + 1 < UNITS) unit<WIDTH, 1>(d, a, r, u + 1);
        }
        if (UNITS % STEP) r.next();
        wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) asm volatile("" : "+f"(d[i])::"memory"); // not read above the wait
        release(r.before());
    }
    // The narrowest of the widths that holds `count` tokens.
    template <int WIDTH, int... MORE> METHOD static void product_of(float *d, Ring &r, int count) {
        if constexpr (sizeof...(MORE) == 0) product<WIDTH>(d, r);
        else if (count <= WIDTH) product<WIDTH>(d, r);
        else product_of<MORE...>(d, r, count);
    }
    template <class Items, class Out> METHOD static void multiply(Ring r, Items items, const Out &out) {
        Item it = items(0);
        for (int i = 1; it.count; i++) {
            const Item next = items(i);
            const Line<Out> first = Line<Out>::of(it, 0, out); // on its way while the warp multiplies
            float d[TOKENS / 2];
#pragma unroll
            for (int k = 0; k < TOKENS / 2; k++) {
                d[k] = 0;
                asm volatile("" : "+f"(d[k])); // a register, no constant that each width would treat in its own way
            }
            if constexpr (TOKENS == 64) product_of<8, 16, 32, 48, 64>(d, r, it.count);
            else product_of<8, 16, 32, 48, 64, 80, 96, 112, 128>(d, r, it.count);
            if (threadIdx.x / WAVE < SLABS) give(d, it, first, it.slab + threadIdx.x / WAVE, out);
            it = next;
        }
    }
    // What is behind a product goes through the tokens CHUNK at a time. What a token needs of itself, a lane reads for one of them, for
    // the first ones before the product; what the results need is asked for before any is written.
    enum { CHUNK = 32 };
    template <class Out> struct Line {
        int row;
        typename Out::Token token;
        METHOD static Line of(const Item &it, int from, const Out &out) { // of token `from` + lane of the item, or its last
            const int t = from + (int)threadIdx.x % WAVE, row = out.row(it.count < 0 ? 0 : it.first + (t < it.count ? t : it.count - 1));
            return {row, out.token(row)};
        }
    };
    // f(j, i, t, line): what d holds at 4 j + i and 4 j + i + 2 is of token t of the chunk.
    template <class Out, class Do> METHOD static void each_token(const Line<Out> &lines, Do f) {
#pragma unroll
        for (int j = 0; j < CHUNK / 8; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) f(j, i, 8 * j + acc_token(i), of_lane(lines, 8 * j + acc_token(i)));
    }
    template <class Out> struct Questions {
        Groups<Out, THERE> groups[CHUNK / 8][2];
        METHOD void ask(const Line<Out> &lines, int slab, const Out &out) {
            each_token<Out>(lines, [&](int j, int i, int, const Line<Out> &k) { groups[j][i].ask(out, k.token, k.row, i, slab, N); });
        }
        METHOD void give(const float *d, const Acc &bias, int count, const Line<Out> &lines, int slab, const Out &out) const {
            each_token<Out>(lines, [&](int j, int i, int t, const Line<Out> &k) {
                if (t >= count) return;
                Acc acc = {{d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]}};
                add_bias(acc, bias);
                groups[j][i].give(out, k.token, k.row, acc, i, slab, N);
            });
        }
    };
    // The chunk at the front of d is written; the others then move up, so that the text is there once.
    template <class Out> METHOD static void give(float *d, const Item &it, Line<Out> now, int slab, const Out &out) {
        const Acc bias = slab_bias<Out::GROUP, THERE>(slab, N, out.bias(it), Out::column);
#pragma unroll 1
        for (int t = 0; t < it.count; t += CHUNK) {
            Questions<Out> x;
            x.ask(now, slab, out);
            x.give(d, bias, it.count - t, now, slab, out);
            now = Line<Out>::of(it, t + CHUNK, out);
#pragma unroll
            for (int k = 0; k < TOKENS / 2 - 16; k++) d[k] = d[k + 16];
        }
    }

    // items(i): the block's i-th. row(t): which row of x is token t. out: the kernel's Behind, to which it adds row(t), which row of the
    // results that is, and bias(item), its expert's. once: a weight is mostly read once. STATIC: which items there are does not depend on
    // the launch before, so that weights may be on their way before it ends.
    template <bool STATIC, class Items, class Row, class Out>
    DEVICE void run(const W *w, bool once, const bf16 *x, char *lds, Items items, Row row, const Out &out) {
        if (shared_address(lds) % 1024) __trap(); // the swizzle goes by addresses; the caller declares it so
        const Ring ring = {lds, 0, 0};
        if (threadIdx.x == 0) {
            ring.open();
            barrier_init_fence();
            proxy_fence();
        }
        if (CLUSTER > 1) cluster_sync();
        else __syncthreads();
        const int warp = threadIdx.x / WAVE - 4 * GROUPS;
        if (!STATIC || warp != 0) overlap_wait(), overlap_next();
        if (warp < 0) {
            if constexpr (TAKE) more_registers<TAKE>();
            multiply(ring, items, out);
        } else {
            if constexpr (TAKE) fewer_registers<GIVE>();
            if (warp == 0) move_weights(w, ring, items, once);
            else move_tokens(x, ring, items, row);
        }
        if (CLUSTER > 1) { // no block leaves while another writes to it
            __syncwarp();
            cluster_sync();
        }
    }
};
