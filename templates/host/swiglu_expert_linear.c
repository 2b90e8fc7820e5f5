//! kernel swiglu_expert_linear(h: f32[T,R,G], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! cast   S = swiglu
//! where  K % 32 == 0 && G == 2 * K
//! const  ROWS = 32
//! const  TILE = 64
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  1
//! reduce f64, K in 16 lanes, lanes in halves
//! hook   out
//! tol    strict 1e-13 fast 1e-13
// expert_linear.c with SwiGLU computed as the rows are made floats.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, *tile = a.tiles + y * 4;
    if (y >= E + row_count(a) * R || tile[2] == 0) return;
    const int expert = tile[0], count = tile[2], *pair = a.perm + tile[1];
    float *rows = (float *)room_of(room, (TILE + 1) * K * 4L), *w = rows + TILE * K;
    if (room_fresh(room, y))
        for (int i = 0; i < count; i++)
            for (int k = 0; k < K; k++) {
                const float *h = a.h + (long)pair[i] * G + 2 * k;
                const float v = swiglu(h[0], h[1], LIMIT, ALPHA);
                rows[(long)i * K + k] = S_BF16 ? f32_of(bf16_of(v)) : v;
            }
    for (int n = n0; n < min_int(n0 + ROWS, N); n++) {
        const double bias = a.b[(long)expert * N + n];
        row_floats(w, a.w, TYPE_OF(a.w), (long)expert * N + n, K, (long)E * N);
        for (int i = 0; i < count; i++) out(a, pair[i], n, (float)(dot_f64(rows + (long)i * K, w, K) + bias));
    }
}
