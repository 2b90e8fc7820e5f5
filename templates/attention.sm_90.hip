//! kernel attention(q: bf16[T,W], state: bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! precision fast
//! arch   sm_90
//! priority 10
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  P_BF16 == 1
//! where  W == NH * D && NH % NKV == 0 && D % 16 == 0 && D <= 128 && PAGE == 64
//! const  GROUP = NH / NKV
//! const  HEADS = ceil(GROUP, 8)
//! const  WAVES = 4
//! grid   NKV * HEADS, T
//! block  WAVES * WAVE
//! reduce mma 16x8x16 bf16, key tiles of 64 at multiples of 64, tile i to wave i % 4, online; waves ascending
//! hook   out
//! tol    fast 1e-5
// attention.mfma.hip for mma.sync: a block is one token and 8 query heads of one kv head (fewer: columns repeat). Keys are the M
// side of S = K q^T; movmatrix turns its result into the N side of O^T = V^T P^T.

// An 8x8 matrix of bf16, two of a row in each lane, transposed.
DEVICE unsigned transpose_8x8(unsigned v) {
    unsigned r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}
DEVICE unsigned pair(bf16 low, bf16 high) { return (unsigned)high << 16 | low; }

DEVICE void run(const Args &a) {
    __shared__ float tops[WAVES][8], sums[WAVES][8], part[WAVES][D][9];
    const int t = blockIdx.y, kv = blockIdx.x / HEADS, head0 = blockIdx.x % HEADS * 8;
    if (t >= row_count(a)) return;
    const int lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE, line = lane / 4, at2 = lane % 4 * 2;
    const int pos = a.pos[t], first = WINDOW && pos >= WINDOW ? pos - WINDOW + 1 : 0;
    const int in_group = head0 + line < GROUP ? head0 + line : GROUP - 1;
    const bf16 *q = a.q + (long)t * W + (kv * GROUP + in_group) * D;
    s16x8 query[(D + 31) / 32];
#pragma unroll
    for (int c = 0; c < (D + 31) / 32; c++) {
        const s16x8 zero = {};
        query[c] = c * 32 + at2 * 4 < D ? *(const s16x8 *)(q + c * 32 + at2 * 4) : zero;
    }
    float top[2] = {-__builtin_inff(), -__builtin_inff()}, sum[2] = {}; // of this lane's heads at2, at2 + 1
    float o[D / 16][4] = {};
    for (int tile = first / PAGE / WAVES * WAVES + wave; tile <= pos / PAGE; tile += WAVES) {
        if (tile < first / PAGE) continue;
        const long page = a.blocks[(long)a.slot[t] * M + tile];
        const bf16 *keys = a.state + (page * 2 * NKV + kv) * PAGE * D, *values = keys + (long)NKV * PAGE * D;
        float s[4][4] = {}, high[2] = {top[0], top[1]}; // s[m][i]: key m * 16 + line + i / 2 * 8, head at2 + i % 2
#pragma unroll
        for (int m = 0; m < 4; m++) {
#pragma unroll
            for (int c = 0; c < (D + 31) / 32; c++) {
                s16x8 k[2] = {};
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int key = m * 16 + line + i * 8;
                    if (c * 32 + at2 * 4 < D && tile * PAGE + key <= pos) k[i] = *(const s16x8 *)(keys + key * D + c * 32 + at2 * 4);
                }
                mma_8k(s[m], k[0], k[1], query[c]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = tile * PAGE + m * 16 + line + i / 2 * 8;
                s[m][i] = key >= first && key <= pos ? s[m][i] * (float)(1 / sqrt((double)D)) : -__builtin_inff();
                high[i % 2] = s[m][i] > high[i % 2] ? s[m][i] : high[i % 2];
            }
        }
        float keep[2], added[2] = {};
#pragma unroll
        for (int h = 0; h < 2; h++) {
            for (int d = 4; d < WAVE; d *= 2) {
                const float other = shuffle_xor(high[h], d);
                high[h] = other > high[h] ? other : high[h];
            }
            keep[h] = expf(top[h] - high[h]);
            top[h] = high[h];
        }
#pragma unroll
        for (int d = 0; d < D / 16; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[d][i] *= keep[i % 2];
#pragma unroll
        for (int m = 0; m < 4; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[m][i] = expf(s[m][i] - high[i % 2]);
                added[i % 2] += s[m][i];
            }
            const unsigned p0 = transpose_8x8(pair(bf16_of(s[m][0]), bf16_of(s[m][1]))), p1 = transpose_8x8(pair(bf16_of(s[m][2]), bf16_of(s[m][3])));
#pragma unroll
            for (int d = 0; d < D / 16; d++) { // rows of V^T: columns d * 16 + line and + 8; its k: keys at2, at2 + 1 and + 8
                unsigned v[2][2];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int key = m * 16 + i / 2 * 8 + at2, column = d * 16 + i % 2 * 8 + line;
                    const bf16 low = tile * PAGE + key <= pos ? values[key * D + column] : 0;
                    const bf16 next = tile * PAGE + key + 1 <= pos ? values[(key + 1) * D + column] : 0;
                    v[i / 2][i % 2] = pair(low, next);
                }
                mma_16x8x16(o[d], v[0][0], v[0][1], v[1][0], v[1][1], p0, p1);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            for (int d = 4; d < WAVE; d *= 2) added[h] += shuffle_xor(added[h], d);
            sum[h] = sum[h] * keep[h] + added[h];
        }
    }
    if (line == 0)
        for (int h = 0; h < 2; h++) {
            tops[wave][at2 + h] = top[h];
            sums[wave][at2 + h] = sum[h];
        }
#pragma unroll
    for (int d = 0; d < D / 16; d++)
#pragma unroll
        for (int i = 0; i < 4; i++) part[wave][d * 16 + line + i / 2 * 8][at2 + i % 2] = o[d][i];
    __syncthreads();
    for (int i = threadIdx.x; i < 8 * D; i += WAVES * WAVE) {
        const int d = i % D, h = i / D;
        if (head0 + h >= GROUP) return;
        const int head = kv * GROUP + head0 + h;
        float most = a.sinks[head];
        for (int w = 0; w < WAVES; w++) most = tops[w][h] > most ? tops[w][h] : most;
        float total = expf(a.sinks[head] - most), v = 0;
        for (int w = 0; w < WAVES; w++) {
            const float share = expf(tops[w][h] - most);
            total += sums[w][h] * share;
            v += part[w][d][h] * share;
        }
        out(a, t, head * D + d, v / total);
    }
}
