//! kernel topk_softmax(x: f32[T,E]) -> (y: f32[T,R], ids: i32[T,R])
//! where E <= 1024 && R <= 8
//! grid  T
//! block WAVE
//! reduce f64, in rank order
//! tol   strict 1e-16 fast 1e-16
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
