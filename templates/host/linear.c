//! kernel linear(x: f32|bf16[T,K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! where  K % 16 == 0
//! const  ROWS = 32
//! const  TOKENS = 64
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  1
//! reduce f64, K in 16 lanes, lanes in halves
//! hook   out
//! tol    strict 1e-13 fast 1e-13
// Products and sums in double. A row of weights is made floats once for TOKENS tokens.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, t0 = y * TOKENS, count = min_int(row_count(a) - t0, TOKENS);
    if (count <= 0) return;
    float *rows = (float *)room_of(room, (TOKENS + 1) * K * 4L), *w = rows + TOKENS * K;
    if (room_fresh(room, y))
        for (int t = 0; t < count; t++) row_floats(rows + (long)t * K, a.x, TYPE_OF(a.x), t0 + t, K, 0);
    for (int n = n0; n < min_int(n0 + ROWS, N); n++) {
        row_floats(w, a.w, TYPE_OF(a.w), n, K, N);
        for (int t = 0; t < count; t++) out(a, t0 + t, n, (float)(dot_f64(rows + (long)t * K, w, K) + (HAS_B ? (double)a.b[n] : 0)));
    }
}
