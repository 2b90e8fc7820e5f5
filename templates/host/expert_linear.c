//! kernel expert_linear(x: f32|bf16[T,(R),K], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! front  x
//! behind pairs
//! where  K % 32 == 0
//! const  ROWS = UNIT * max(32 / UNIT, 1)
//! const  TILE = 64
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  1
//! reduce f64, K in 16 lanes, lanes in halves
//! tol    strict 1e-13 fast 1e-8
// ROWS weight rows of one expert, a tile of the pairs routed to it; products and sums in double.
// NMSE in fast: SwiGLU in front, in float, may round to the other bf16 neighbour.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, rows = min_int(N - n0, ROWS), *tile = a.tiles + y * 4;
    if (y >= E + row_count(a) * R || tile[2] == 0) return;
    const int expert = tile[0], count = tile[2], *pair = a.perm + tile[1];
    float *of = (float *)room_of(room, (TILE + 1) * K * 4L), *w = of + TILE * K, sum[TILE][ROWS];
    if (room_fresh(room, y))
        for (int i = 0; i < count; i++) make_x(a, of + (long)i * K, x_RANK == 3 ? pair[i] : pair[i] / R);
    for (int r = 0; r < rows; r++) {
        const long row = (long)expert * N + n0 + r;
        row_floats(w, a.w, TYPE_OF(a.w), row, K, (long)E * N);
        for (int i = 0; i < count; i++) sum[i][r] = (float)(dot_f64(of + (long)i * K, w, K) + (double)a.b[row]);
    }
    for (int i = 0; i < count; i++) give(a, pair[i], n0, rows, sum[i]);
}
