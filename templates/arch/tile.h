// tile.h - the block main loops of matrix kernels: weights are the M side (16 rows), tokens the N side (16 columns), K in the
// chunks of 16-byte loads. A line is a row of W or a column of X. The arch's prelude has
//   LINES                 lines of each side that a lane loads: 16 * 4 / WAVE
//   tile_line(i)          which of the 16 they are
//   tile_part()           which quarter of a chunk's k this lane loads
//   Tile                  this lane's part of the 16x16 result; {} is zero
//   tile_add(sum, w, x)   sum += W X^T over the 32 k of w[LINES], x[LINES] of the wave's lanes, 8 consecutive k each
//   tile_store(sum, to)   to[row][column] = sum, by the wave

// Eight MXFP4 codes (4 bytes, low nibble first) times 2^(scale - 127) as bf16: exact for 1 < scale <= 252.
DEVICE s16x8 mxfp4_8(unsigned codes, float scale) {
    s16x8 r;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const unsigned c = codes >> (4 * i);
        r[i] = (short)(as_u32(as_f32((c & 8u) << 28 | (c & 7u) << 22) * 0x1p126f * scale) >> 16);
    }
    return r;
}

// sum += W[row[i]][k] X[k][tile_line(i)] for the k of chunks first … last - 1, where x(i, k) gives X[k … k+7] of line i.
// rows: of the whole tensor. A chunk is 32 k of bf16 (a part has 8) or 128 k of MXFP4 (a part has 32). Beyond K: zero.
template <class W> struct Rows;
template <> struct Rows<bf16> {
    enum { CHUNK = 32 };
    template <class X> DEVICE void product(const bf16 *w, const int *row, long, int K, int first, int last, X x, Tile &sum) {
        for (int c = first; c < last; c++) {
            const int k = c * CHUNK + tile_part() * 8;
            s16x8 a[LINES] = {}, b[LINES] = {};
#pragma unroll
            for (int i = 0; i < LINES; i++) {
                if (k >= K) continue;
                a[i] = *(const s16x8 *)(w + (long)row[i] * K + k);
                b[i] = x(i, k);
            }
            tile_add(sum, a, b);
        }
    }
};
template <> struct Rows<mxfp4> {
    enum { CHUNK = 128 };
    template <class X> DEVICE void product(const mxfp4 *w, const int *row, long rows, int K, int first, int last, X x, Tile &sum) {
        const mxfp4 *scales = w + rows * (K / 2);
        for (int c = first; c < last; c++) {
            const int at = c * 4 + tile_part();
            const bool inside = at < K / 32;
            u32x4 codes[LINES] = {};
            float scale[LINES] = {};
#pragma unroll
            for (int i = 0; i < LINES; i++) {
                const long block = (long)row[i] * (K / 32) + at;
                if (!inside) continue;
                codes[i] = *(const u32x4 *)(w + block * 16);
                scale[i] = as_f32((unsigned)scales[block] << 23);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s16x8 a[LINES], b[LINES] = {};
#pragma unroll
                for (int i = 0; i < LINES; i++) {
                    a[i] = mxfp4_8(codes[i][j], scale[i]);
                    if (inside) b[i] = x(i, at * 32 + j * 8);
                }
                tile_add(sum, a, b);
            }
        }
    }
};

// One block's 16 rows x 16 tokens: its 256 / WAVE waves take equal runs of the chunks; part[wave][row][token] then holds their
// sums, to be added in ascending order (block_sum) after __syncthreads().
template <class W, class X>
DEVICE void block_product(const W *w, const int *row, long rows, int K, X x, float (*part)[16][17]) {
    const int wave = threadIdx.x / WAVE, waves = 256 / WAVE;
    const int chunks = (K + Rows<W>::CHUNK - 1) / Rows<W>::CHUNK, each = (chunks + waves - 1) / waves;
    const int first = wave * each, last = first + each < chunks ? first + each : chunks;
    Tile sum = {};
    Rows<W>::product(w, row, rows, K, first, last, x, sum);
    tile_store(sum, part[wave]);
}
DEVICE float block_sum(const float (*part)[16][17], int row, int token) {
    float sum = part[0][row][token];
#pragma unroll
    for (int w = 1; w < 256 / WAVE; w++) sum += part[w][row][token];
    return sum;
}
