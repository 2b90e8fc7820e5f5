// sm_90.stream.h - lib/matrix.h's Stream: each warp has a ring of bulk copies in shared memory, of which it starts the next as soon as
// one was read. One m16n8k16 a step, so a slab's results are one chain: about 25 clocks a step (H200, 2026-11-28).

// --- a unit's products ---

DEVICE int stream_token() { return threadIdx.x % 8; }

// B of two steps: lane l gives the address of row l % 8, k 8 * (l / 8); x[0], x[1] are the first step's.
DEVICE void load_x(unsigned *x, unsigned a) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(a));
}

template <int GROUPS> struct Tokens { // their part for a unit
    unsigned x[GROUPS][2 * STEPS];
    METHOD void load(const unsigned *xa, int at) {
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < STEPS / 2; i++) load_x(x[g] + 4 * i, xa[g] + at + 64 * i);
    }
    METHOD void multiply(Acc *acc, int s, const AFragment &a) const {
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            BFragment b;
            b.r[0] = x[g][2 * s], b.r[1] = x[g][2 * s + 1];
            mma(acc[g], a, b);
        }
    }
};

// What a warp does with the units of a slab, one after the other, so that a product never waits for what it is made of:
//   begin(unit)                  the first one
//   step(acc, unit, xa, at)      the next one; xa, at: where the tokens' part for the one before it lies
//   end(acc, xa, at)             at: of the last one
//   mend<UNITS>(acc, slab, xa)   puts right what was left out for speed
// What a unit holds was used when the step after its own is done.
template <class W, int GROUPS> struct Feed;
template <int GROUPS> struct Feed<bf16, GROUPS> {
    Unit<bf16> now;
    METHOD void begin(const char *unit) { now = Unit<bf16>::read(unit); }
    METHOD void step(Acc *acc, const char *unit, const unsigned *xa, int at) {
        const Unit<bf16> next = Unit<bf16>::read(unit);
        end(acc, xa, at);
        now = next;
    }
    METHOD void end(Acc *acc, const unsigned *xa, int at) const {
        Tokens<GROUPS> x;
        x.load(xa, at);
#pragma unroll
        for (int s = 0; s < STEPS; s++) x.multiply(acc, s, bf16_fragment(now.part, s));
    }
    template <int> METHOD void mend(Acc *, const char *, const unsigned *) const {}
};
// While a unit is multiplied, the next one's codes become bf16, and the one behind that is read. Whether scales were among them that take
// two steps is asked once a slab: a question a unit costs a sixth of the time (H200, 2026-11-29).
template <int GROUPS> struct Feed<mxfp4, GROUPS> {
    AFragment now[STEPS];
    Tokens<GROUPS> x; // of now
    Unit<mxfp4> next;
    unsigned scales; // all that were there
    METHOD void begin(const char *unit) { // the products of zeros change nothing
        for (int s = 0; s < STEPS; s++) now[s] = AFragment();
        x = Tokens<GROUPS>();
        next = Unit<mxfp4>::read(unit), scales = 0;
    }
    METHOD void step(Acc *acc, const char *unit, const unsigned *xa, int at) {
        const Unit<mxfp4> after = Unit<mxfp4>::read(unit);
        turn(acc, xa, at);
        next = after;
    }
    METHOD void end(Acc *acc, const unsigned *xa, int at) {
        turn(acc, xa, at);
#pragma unroll
        for (int s = 0; s < STEPS; s++) x.multiply(acc, s, now[s]);
    }
    METHOD void turn(Acc *acc, const unsigned *xa, int at) {
        AFragment then[STEPS];
        Tokens<GROUPS> y;
        y.load(xa, at);
#pragma unroll
        for (int s = 0; s < STEPS; s++) x.multiply(acc, s, now[s]), then[s] = Dequant::near(next.codes[s], next.scales, s);
#pragma unroll
        for (int s = 0; s < STEPS; s++) now[s] = then[s];
        x = y, scales |= next.scales;
    }
    // The slab again, as it lies in memory, if its products are wrong.
    template <int UNITS> METHOD void mend(Acc *acc, const char *slab, const unsigned *xa) const {
        if (__builtin_expect(!Dequant::any_far(scales), 1)) return;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) acc[g] = Acc();
#pragma unroll 1
        for (int u = 0; u < UNITS; u++) {
            const Unit<mxfp4> unit = Unit<mxfp4>::read(slab + u * Unit<mxfp4>::BYTES);
            Tokens<GROUPS> y;
            y.load(xa, u * UNIT_K * 2);
#pragma unroll
            for (int s = 0; s < STEPS; s++) y.multiply(acc, s, Dequant::far(unit.codes[s], unit.scales, s));
        }
    }
};

// --- the ring ---

template <class W, int K, int U, int STAGES> struct Stream {
    enum {
        BYTES = Unit<W>::BYTES, UNITS = (K + UNIT_K - 1) / UNIT_K, WHOLE = UNITS / U, REST = UNITS % U, PARTS = WHOLE + (REST > 0),
        STAGE = U * BYTES, RING = (STAGES * STAGE + STAGES * 8 + 127) / 128 * 128
    };
    char *ring;
    unsigned data, bars;
    u64 policy;
    const char *src;       // the next copy,
    int at, count, part, to; // part `part` of slab `at`, into stage `to`
    int done; // slabs
    int stage;
    unsigned phase;

    template <class Where> METHOD void issue(const Where &where) {
        if (at >= count) return;
        const int bytes = part == WHOLE ? REST * BYTES : (int)STAGE;
        if (elected()) {
            barrier_expect(bars + to * 8, bytes);
            copy_bulk(data + to * STAGE, src, bytes, bars + to * 8, policy);
        }
        src += bytes;
        if (++to == STAGES) to = 0;
        if (++part < PARTS) return;
        part = 0;
        if (++at < count) src = where(at);
    }
    template <class Where> METHOD void begin(const Where &where, int slabs, char *lds) {
        ring = lds, data = shared_address(lds), bars = data + STAGES * STAGE, policy = evict_first();
        at = 0, count = slabs, part = 0, to = 0, done = 0, stage = 0, phase = 0;
        if (slabs <= 0) return;
        if (elected()) {
            for (int s = 0; s < STAGES; s++) barrier_init(bars + s * 8, 1);
            barrier_init_fence();
        }
        __syncwarp();
        src = where(0);
        for (int s = 0; s < STAGES; s++) issue(where);
    }
    METHOD const char *arrived() { // the next stage
        barrier_wait(bars + stage * 8, phase);
        const char *p = ring + stage * STAGE;
        if (++stage == STAGES) stage = 0, phase ^= 1u;
        return p;
    }
    template <class Where> METHOD void release(const Where &where) { // the oldest stage: what it held was used
        __syncwarp();
        issue(where);
    }
    template <int GROUPS, class Row, class Where> METHOD void slab(Acc *acc, Row row, const Where &where, const Dequant &) {
        unsigned xa[GROUPS];
        int at = 0; // of the unit that was read last
#pragma unroll
        for (int g = 0; g < GROUPS; g++) xa[g] = shared_address(row(g * TILE_N + stream_token())) + threadIdx.x % WAVE / 8 * 16;
        Feed<W, GROUPS> feed;
        const char *p = arrived();
        auto step = [&](int u) { feed.step(acc, p + u * BYTES, xa, at), at += UNIT_K * 2; };
        auto turn = [&] { p = arrived(), step(0), release(where); };
        feed.begin(p);
#pragma unroll 1
        for (int i = 0; i < WHOLE; i++) {
            if (i) turn();
#pragma unroll
            for (int u = 1; u < U; u++) step(u);
        }
        if (WHOLE && REST) turn();
#pragma unroll
        for (int u = 1; u < REST; u++) step(u);
        feed.end(acc, xa, at);
        release(where);
        feed.template mend<UNITS>(acc, where(done++), xa);
    }
};
