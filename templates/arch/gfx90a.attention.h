// gfx90a.attention.h - what templates/attention.pages.hip asks for. Pages come to registers, where values are transposed: row r of a
// tile of V^T may be any column as long as a tile has 16 of them, so that lane r takes four neighbours and spreads them over four tiles.

enum { ACC_HEADS = 1, HEAD_LANES = 16 };

DEVICE int lane_head() { return lane_line(); }

template <int D> struct Pages {
    enum { PARTS = (D + 31) / 32, SEGMENTS = (D + 63) / 64, TILES = SEGMENTS * 4, LDS = 0 };
    typedef unsigned u32x2 __attribute__((vector_size(8)));
    struct Query {
        s16x8 part[PARTS];
        METHOD void ask(const bf16 *q) {
#pragma unroll
            for (int c = 0; c < PARTS; c++) {
                const s16x8 zero = {};
                part[c] = c * 32 + lane_quarter() * 8 < D ? *(const s16x8 *)(q + c * 32 + lane_quarter() * 8) : zero;
            }
        }
    };
    s16x8 key[4][PARTS]; // 8 neighbours: of two steps, by the same order of k on both sides
    u32x2 value[4][4][SEGMENTS];       // of keys 4 * quarter …

    // Columns from D on are copies of others and never stored.
    METHOD static int column(int tile, int row) { return tile / 4 * 64 + row * 4 + tile % 4; }
    METHOD static int row_of(int row, int lo, int hi) { return row < lo ? lo : row > hi ? hi : row; }
    METHOD void begin(char *) {}
    METHOD void fetch_keys(const bf16 *page, int lo, int hi, bool) {
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int c = 0; c < PARTS; c++) {
                const int k = c * 32 + lane_quarter() * 8;
                key[m][c] = *(const s16x8 *)(page + row_of(m * 16 + lane_line(), lo, hi) * D + (k < D ? k : D - 8));
            }
    }
    METHOD void fetch_values(const bf16 *page, int lo, int hi, bool) {
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int c = 0; c < SEGMENTS; c++) {
                    const int n = c * 64 + lane_line() * 4;
                    value[m][i][c] = *(const u32x2 *)(page + row_of(m * 16 + lane_quarter() * 4 + i, lo, hi) * D + (n < D ? n : D - 4));
                }
    }
    template <int N> METHOD void scores(Acc (*s)[4], const Query *q) const {
#pragma unroll
        for (int c = 0; c < PARTS; c++)
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int t = 0; t < N; t++) s[t][m].c = mfma_8k(key[m][c], q[t].part[c], s[t][m].c);
    }
    template <int N, class Part> METHOD void add(Part *part, const Acc (*weight)[4]) const {
#pragma unroll
        for (int m = 0; m < 4; m++) {
            s16x4 b[N];
#pragma unroll
            for (int t = 0; t < N; t++)
#pragma unroll
                for (int i = 0; i < 4; i++) b[t][i] = (short)bf16_of(weight[t][m].c[i]);
#pragma unroll
            for (int j = 0; j < TILES; j++) {
                const unsigned half = j % 2 ? 0x07060302u : 0x05040100u;
                const u32x2 *v[4] = {&value[m][0][j / 4], &value[m][1][j / 4], &value[m][2][j / 4], &value[m][3][j / 4]};
                const u32x2 a = {__builtin_amdgcn_perm((*v[1])[j / 2 % 2], (*v[0])[j / 2 % 2], half), __builtin_amdgcn_perm((*v[3])[j / 2 % 2], (*v[2])[j / 2 % 2], half)};
#pragma unroll
                for (int t = 0; t < N; t++) mma(part[t].o[j], __builtin_bit_cast(s16x4, a), b[t]);
            }
        }
    }
};
