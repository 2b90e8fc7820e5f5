//! kernel softmax(x: f32[T,N]) -> (y: f32[T,N])
//! grid   T
//! block  1
//! reduce f64, ascending
//! hook   out
//! tol    strict 1e-13 fast 1e-13

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const float *x = a.x + (long)t * N;
    double top = x[0], sum = 0;
    for (int n = 1; n < N; n++) top = x[n] > top ? x[n] : top;
    for (int n = 0; n < N; n++) sum += __builtin_exp(x[n] - top);
    for (int n = 0; n < N; n++) out(a, t, n, (float)(__builtin_exp(x[n] - top) / sum));
}
