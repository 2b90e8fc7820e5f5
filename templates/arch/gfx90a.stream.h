// gfx90a.stream.h - lib/matrix.h's Stream where loads go to registers: DEPTH units of a slab are on their way at a time.

DEVICE int stream_token() { return lane_line(); }
DEVICE void overlap_wait() {}
DEVICE void overlap_next() {}

template <class W, int K, int, int> struct Stream {
    enum { RING = 0, UNITS = (K + UNIT_K - 1) / UNIT_K, WANT = sizeof(Unit<W>) > 32 ? 4 : 8, DEPTH = UNITS < WANT ? UNITS : WANT, UP = (UNITS + DEPTH - 1) / DEPTH * DEPTH };
    Unit<W> unit[DEPTH];
    int at, count;

    template <class Where> METHOD void begin(const Where &where, int slabs, char *) {
        at = 0, count = slabs;
        if (slabs <= 0) return;
        const char *p = where(0);
#pragma unroll
        for (int j = 0; j < DEPTH; j++) unit[j] = Unit<W>::read(p + j * Unit<W>::BYTES);
    }
    template <int GROUPS, class Row, class Where> METHOD void slab(Acc *acc, Row row, const Where &where, const Dequant &d) {
        static_assert(GROUPS == 1, "as many tokens as an instruction has");
        const bf16 *x = row(stream_token());
        const char *p = where(at), *next = where(at + 1 < count ? at + 1 : at);
        at++;
#pragma unroll 1
        for (int u = 0; u < UP; u += DEPTH)
#pragma unroll
            for (int j = 0; j < DEPTH; j++) {
                if (u + j < UNITS) {
#pragma unroll
                    for (int s = 0; s < STEPS; s++) {
                        const int k = (u + j) * UNIT_K + s * 16 + lane_quarter() * 4;
                        const BFragment zero = {}, b = k < K ? *(const BFragment *)(x + k) : zero;
                        mma(acc[0], unit[j].step(s, d), b);
                    }
                }
                const int ahead = u + j + DEPTH;
                unit[j] = Unit<W>::read(ahead < UNITS ? p + ahead * Unit<W>::BYTES : next + j * Unit<W>::BYTES);
            }
    }
};
