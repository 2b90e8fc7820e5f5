//! kernel linear(x: f32|bf16[T,K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! front  x
//! behind pairs
//! where  K % 16 == 0
//! const  ROWS = UNIT * max(32 / UNIT, 1)
//! const  TOKENS = 64
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  1
//! reduce f64, K in 16 lanes, lanes in halves
//! tol    strict 1e-13 fast 1e-12
// Products and sums in double. A row of weights is made floats once for TOKENS tokens.
// NMSE in fast: what is computed in front and rounded to bf16 may go to the other neighbour.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, rows = min_int(N - n0, ROWS), t0 = y * TOKENS, count = min_int(row_count(a) - t0, TOKENS);
    if (count <= 0) return;
    float *of = (float *)room_of(room, (TOKENS + 1) * K * 4L), *w = of + TOKENS * K, sum[TOKENS][ROWS];
    if (room_fresh(room, y))
        for (int i = 0; i < count; i++) make_x(a, of + (long)i * K, t0 + i);
    for (int r = 0; r < rows; r++) {
        row_floats(w, a.w, TYPE_OF(a.w), n0 + r, K, N);
        for (int i = 0; i < count; i++) sum[i][r] = (float)(dot_f64(of + (long)i * K, w, K) + (HAS_B ? (double)a.b[n0 + r] : 0));
    }
    for (int i = 0; i < count; i++) give(a, t0 + i, n0, rows, sum[i]);
}
