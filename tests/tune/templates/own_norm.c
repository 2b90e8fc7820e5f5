//! kernel own_norm(x: f32[T,K], g: f32[K]) -> (y: f32[T,K])
//! attr   EPS = rmsnorm.eps
//! const  PASSES = 100
//! tune   PASSES 1
//! grid   T
//! block  1
//! reduce f64, ascending
//! hook   out
//! tol    strict 1e-13 fast 1e-13

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const float *x = a.x + (long)t * K;
    double sum = 0;
    for (volatile int pass = 0; pass < PASSES; pass = pass + 1) {
        sum = 0;
        for (int k = 0; k < K; k++) sum += (double)x[k] * (double)x[k];
    }
    const double scale = 1 / __builtin_sqrt(sum / K + EPS);
    for (int k = 0; k < K; k++) out(a, t, k, (float)((double)x[k] * scale * (double)a.g[k]));
}
