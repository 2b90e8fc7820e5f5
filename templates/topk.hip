//! kernel topk(x: f32[T,E]) -> (y: f32[T,R], ids: i32[T,R])
//! where E <= 1024 && R <= 8
//! grid  T
//! block WAVE
// One wave a token: R times the largest of what is left; ties to the lower index.

DEVICE void run(const Args &a) {
    const int t = blockIdx.x;
    if (t >= row_count(a)) return;
    const float *x = a.x + (long)t * E;
    wave_best<E, R>([&](int e) { return x[e]; }, [&](int r, int e) {
        if (threadIdx.x == 0) a.ids[(long)t * R + r] = e, a.y[(long)t * R + r] = x[e];
    });
}
