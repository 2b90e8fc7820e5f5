// sm_90.attention.h - what templates/attention.pages.hip asks for. Pages come by asynchronous copies of 16 bytes, a page of keys and
// one of values being on their way while the others are used; rows that nobody may see come as zeros. In shared memory a row is one
// cell of 16 bytes longer than D, an odd number of cells in all, so that the eight rows of an ldmatrix meet no bank twice.

enum { ACC_HEADS = 2, HEAD_LANES = 4 };

DEVICE int lane_head() { return threadIdx.x % WAVE / 4; }

DEVICE void copies_wait_but_last() { // of keys and values in turn: all but those begun last are there
    copies_wait<1>();
    __syncwarp();
}
DEVICE void load_turned(unsigned *r, unsigned a) { // load_x, each 8x8 transposed
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a));
}
// An 8x8 of bf16, two of a row in each lane, transposed.
DEVICE unsigned turned(unsigned v) {
    unsigned r;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}
DEVICE unsigned pair_of(float low, float high) { // nearest even, as bf16_of
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

template <int D> struct Pages {
    enum { TILES = D / 16, CELLS = D / 8, STRIDE = D * 2 + 16, PART = 64 * STRIDE, LDS = 2 * PART };
    struct Query {
        BFragment part[D / 16];
        METHOD void ask(const bf16 *q) {
#pragma unroll
            for (int s = 0; s < D / 16; s++)
#pragma unroll
                for (int i = 0; i < 2; i++) part[s].r[i] = *(const unsigned *)(q + s * 16 + i * 8 + threadIdx.x % 4 * 2);
        }
    };
    unsigned keys, values;

    METHOD static int column(int tile, int row) { return tile * 16 + row; }
    METHOD void begin(char *lds) { keys = shared_address(lds), values = keys + PART; }
    // Unless used nothing is copied: it would come on top of what is fetched next.
    METHOD static void fetch(unsigned to, const bf16 *page, int lo, int hi, bool used) {
#pragma unroll 8 // 16 at once take 100 registers
        for (int i = 0; used && i < 64 * CELLS / WAVE; i++) {
            const int at = i * WAVE + threadIdx.x % WAVE, row = at / CELLS, cell = at % CELLS;
            copy_16(to + row * STRIDE + cell * 16, page + row * D + cell * 8, row >= lo && row <= hi);
        }
        copies_end();
    }
    METHOD void fetch_keys(const bf16 *page, int lo, int hi, bool used) { fetch(keys, page, lo, hi, used); }
    METHOD void fetch_values(const bf16 *page, int lo, int hi, bool used) { fetch(values, page, lo, hi, used); }
    template <int N> METHOD void scores(Acc (*s)[4], const Query *q) {
        const int lane = threadIdx.x % WAVE;
        copies_wait_but_last();
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            AFragment row[4];
#pragma unroll
            for (int m = 0; m < 4; m++) load_x(row[m].r, keys + (m * 16 + lane % 16) * STRIDE + (2 * k + lane / 16) * 16);
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int t = 0; t < N; t++) mma(s[t][m], row[m], q[t].part[k]);
        }
        __syncwarp();
    }
    template <int N, class Part> METHOD void add(Part *part, const Acc (*weight)[4]) {
        const int lane = threadIdx.x % WAVE;
        copies_wait_but_last();
#pragma unroll
        for (int m = 0; m < 4; m++) {
            BFragment b[N];
#pragma unroll
            for (int t = 0; t < N; t++)
#pragma unroll
                for (int i = 0; i < 2; i++) b[t].r[i] = turned(pair_of(weight[t][m].c[2 * i], weight[t][m].c[2 * i + 1]));
#pragma unroll
            for (int j = 0; j < D / 16; j++) {
                AFragment v;
                load_turned(v.r, values + (m * 16 + lane % 8 + lane / 16 * 8) * STRIDE + (2 * j + lane / 8 % 2) * 16);
#pragma unroll
                for (int t = 0; t < N; t++) mma(part[t].o[j], v, b[t]);
            }
        }
        __syncwarp();
    }
};

// --- what templates/attention.wgmma.hip asks for ---

// Rows of 128 bytes, 8 in 1,024 (PTX ISA: matrix descriptor), from `more` times 16 bytes behind `at` on.
DEVICE u64 swizzled_rows(unsigned at, int more) { return 0x4000004000000000ull | (1u << 16 | at >> 4) + more; }

// d = A times B, or that added to d: as Wgmma<64>; B is 64 rows of k, or, turned, k rows of 64.
template <int TURNED> DEVICE void wgmma_64(float *d, const AFragment &a, u64 b, bool add) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" R32 "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38; }"
                 : D32(0) : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(b), "r"((int)add), "n"(TURNED));
}
