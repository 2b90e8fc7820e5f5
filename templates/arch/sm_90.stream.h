// sm_90.stream.h - lib/matrix.h's Stream: each warp has a ring of bulk copies in shared memory, of which lane 0 starts the next as soon
// as one was read. One m16n8k16 a step, so a slab's results are one chain: about 25 clocks a step (H200, 2026-11-28).

// --- a unit's products ---

DEVICE int stream_token() { return threadIdx.x % 8; }

// B of two steps: lane l gives the address of row l % 8, k 8 * (l / 8); x[0], x[1] are the first step's.
DEVICE void load_x(unsigned *x, unsigned a) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(a));
}

template <class W, int GROUPS> struct Fed { // a unit, and the tokens' part for it
    Unit<W> w;
    unsigned x[GROUPS][2 * STEPS];
    METHOD void load(const char *unit, const unsigned *xa, int at) {
        w = Unit<W>::read(unit);
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < STEPS / 2; i++) load_x(x[g] + 4 * i, xa[g] + at + 64 * i);
    }
    METHOD void multiply(Acc *acc, const Dequant &d) const {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            const AFragment a = w.step(s, d);
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                BFragment b;
                b.r[0] = x[g][2 * s], b.r[1] = x[g][2 * s + 1];
                mma(acc[g], a, b);
            }
        }
    }
};

// --- the ring ---

template <class W, int K> struct Stream {
    // Stages of about 4 KB of bf16 or 2.7 KB of MXFP4, 16 KB or 11 KB in all: the best of those measured at T = 1 (H200, 2026-11-29)
    enum {
        BYTES = Unit<W>::BYTES, UNITS = (K + UNIT_K - 1) / UNIT_K, U = BYTES > 1024 ? 2 : 5, PARTS = (UNITS + U - 1) / U, LAST = UNITS - (PARTS - 1) * U,
        STAGES = 4, STAGE = U * BYTES, RING = (STAGES * STAGE + STAGES * 8 + 127) / 128 * 128
    };
    char *ring;
    unsigned data, bars;
    u64 policy;
    const char *src;       // lane 0: the next copy,
    int at, count, part, to; // part `part` of slab `at`, into stage `to`
    int stage;
    unsigned phase;

    template <class Where> METHOD void issue(const Where &where) {
        if (at >= count) return;
        const int bytes = part == PARTS - 1 ? LAST * BYTES : (int)STAGE;
        barrier_expect(bars + to * 8, bytes);
        copy_bulk(data + to * STAGE, src, bytes, bars + to * 8, policy);
        src += bytes;
        if (++to == STAGES) to = 0;
        if (++part < PARTS) return;
        part = 0;
        if (++at < count) src = where(at);
    }
    template <class Where> METHOD void begin(const Where &where, int slabs, char *lds) {
        ring = lds, data = shared_address(lds), bars = data + STAGES * STAGE, policy = evict_first();
        at = 0, count = slabs, part = 0, to = 0, stage = 0, phase = 0;
        if (threadIdx.x % WAVE == 0 && slabs > 0) {
            for (int s = 0; s < STAGES; s++) barrier_init(bars + s * 8, 1);
            barrier_init_fence();
            src = where(0);
            for (int s = 0; s < STAGES; s++) issue(where);
        }
        __syncwarp();
    }
    METHOD const char *arrived() const {
        barrier_wait(bars + stage * 8, phase);
        return ring + stage * STAGE;
    }
    template <class Where> METHOD void release(const Where &where) { // all that the stage holds is in registers
        __syncwarp();
        if (threadIdx.x % WAVE == 0) issue(where);
        if (++stage == STAGES) stage = 0, phase ^= 1u;
    }
    template <int GROUPS, class Row, class Where> METHOD void slab(Acc *acc, Row row, const Where &where, const Dequant &d) {
        enum { STEP = UNIT_K * 2 };
        unsigned xa[GROUPS];
        int k = 0;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) xa[g] = shared_address(row(g * TILE_N + stream_token())) + threadIdx.x % WAVE / 8 * 16;
        Fed<W, GROUPS> now, next;
        const char *p = arrived();
        now.load(p, xa, k);
#pragma unroll 1
        for (int i = 0; i < PARTS - 1; i++) {
#pragma unroll
            for (int u = 1; u < U; u++) {
                next.load(p + u * BYTES, xa, k + u * STEP);
                now.multiply(acc, d);
                now = next;
            }
            release(where);
            p = arrived(), k += U * STEP;
            next.load(p, xa, k);
            now.multiply(acc, d);
            now = next;
        }
#pragma unroll
        for (int u = 1; u < LAST; u++) {
            next.load(p + u * BYTES, xa, k + u * STEP);
            now.multiply(acc, d);
            now = next;
        }
        release(where);
        now.multiply(acc, d);
    }
};
