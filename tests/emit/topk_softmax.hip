#line 1 "topk_softmax_E4_R2"
namespace topk_softmax_E4_R2_ {
constexpr int x_RANK = 2;
constexpr int E = 4;
constexpr int y_RANK = 2;
constexpr int R = 2;
constexpr int ids_RANK = 2;

struct Args {
    const int *step;
    const float *x;
    float *y;
    int *ids;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

#line 7 "topk_softmax.hip"
// topk, then softmax over the R kept values, in double.

// A float as an unsigned number of the same order; NaN below everything, so that an index is always valid.
DEVICE u64 ordered(float v, int index) {
    const unsigned u = as_u32(v + 0.f), key = v != v ? 0 : u >> 31 ? ~u : u | 0x80000000u;
    return (u64)key << 32 | (unsigned)~index;
}

DEVICE void run(const Args &a) {
    const int t = blockIdx.x, lane = threadIdx.x;
    if (t >= row_count(a)) return;
    u64 below = ~0ull;
    float kept[R];
    for (int r = 0; r < R; r++) {
        u64 best = 0;
        for (int e = lane; e < E; e += WAVE) {
            const u64 o = ordered(a.x[(long)t * E + e], e);
            if (o < below && o > best) best = o;
        }
        for (int d = WAVE / 2; d; d /= 2) {
            const u64 o = shuffle_xor(best, d);
            best = o > best ? o : best;
        }
        below = best;
        const int e = (int)~(unsigned)best;
        kept[r] = a.x[(long)t * E + e];
        if (lane == 0) a.ids[(long)t * R + r] = e;
    }
    double sum = 0;
    for (int r = 0; r < R; r++) sum += exp((double)kept[r] - (double)kept[0]);
    if (lane == 0)
        for (int r = 0; r < R; r++) a.y[(long)t * R + r] = (float)(exp((double)kept[r] - (double)kept[0]) / sum);
}
}
extern "C" __global__ __launch_bounds__(64) void topk_softmax_E4_R2(const int *__restrict__ step, const float *__restrict__ x, float *__restrict__ y, int *__restrict__ ids) {
    topk_softmax_E4_R2_::run({step, x, y, ids});
}
