//! kernel rmsnorm_linear(x: f32[T,K], g: f32[K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! attr   EPS = rmsnorm.eps
//! cast   XN = rmsnorm
//! where  K % 16 == 0
//! const  ROWS = 32
//! const  TOKENS = 64
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  1
//! reduce f64, K in 16 lanes, lanes in halves, twice
//! hook   out
//! tol    strict 1e-12 fast 1e-12
// linear.c with the rows normalised as they are made floats.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, t0 = y * TOKENS, count = min_int(row_count(a) - t0, TOKENS);
    if (count <= 0) return;
    float *rows = (float *)room_of(room, (TOKENS + 1) * K * 4L), *w = rows + TOKENS * K;
    if (room_fresh(room, y))
        for (int t = 0; t < count; t++) {
            float *to = rows + (long)t * K;
            normalise(to, a.x + (long)(t0 + t) * K, a.g, K, EPS);
            for (int k = 0; XN_BF16 && k < K; k++) to[k] = f32_of(bf16_of(to[k]));
        }
    for (int n = n0; n < min_int(n0 + ROWS, N); n++) {
        row_floats(w, a.w, TYPE_OF(a.w), n, K, N);
        for (int t = 0; t < count; t++) out(a, t0 + t, n, (float)(dot_f64(rows + (long)t * K, w, K) + (HAS_B ? (double)a.b[n] : 0)));
    }
}
