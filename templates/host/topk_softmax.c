//! kernel topk_softmax(x: f32[T,E]) -> (y: f32[T,R], ids: i32[T,R])
//! where R <= 8 && R <= E
//! grid  T
//! block 1
//! reduce f64, in rank order
//! tol   strict 1e-13 fast 1e-13
// topk, then softmax over the R kept values, in double.

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const float *x = a.x + (long)t * E;
    u64 below = ~0ull;
    double kept[R], sum = 0;
    for (int r = 0; r < R; r++) {
        u64 best = 0;
        for (int e = 0; e < E; e++) {
            const u64 o = ordered(x[e], e, NAN_FIRST);
            if (o < below && o > best) best = o;
        }
        below = best;
        a.ids[(long)t * R + r] = (int)~(unsigned)best;
        kept[r] = x[~(unsigned)best];
    }
    for (int r = 0; r < R; r++) sum += __builtin_exp(kept[r] - kept[0]);
    for (int r = 0; r < R; r++) a.y[(long)t * R + r] = (float)(__builtin_exp(kept[r] - kept[0]) / sum);
}
