//! kernel swiglu_expert_linear(h: f32[T,R,G], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! priority 10
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! cast   S = swiglu
//! where  K % 32 == 0 && G == 2 * K && S_BF16
//! const  TILE = 64
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, 32), min(E, T * R) + T * R / TILE
//! block  1
//! reduce host product: bf16, f32 sums, K ascending in chunks of 32
//! hook   out
//! tol    fast 1e-12
// expert_linear.fast.c with SwiGLU computed and rounded as the rows are packed.

DEVICE void pack(const Args a, char *panel, const int *pair, int count, bf16 *rows) {
    const bf16 *from[PANEL];
    for (int i = 0; i < count; i++) {
        const float *h = a.h + (long)pair[i] * G;
        bf16 *to = rows + (long)i * K;
        for (int k = 0; k < K; k += 16) {
            float gate[16], up[16], v[16];
            for (int n = 0; n < 16; n++) gate[n] = h[2 * (k + n)], up[n] = h[2 * (k + n) + 1];
            for (int n = 0; n < 16; n += VF) vf_store(v + n, swiglu_vf(vf_load(gate + n), vf_load(up + n), LIMIT, ALPHA));
            for (int n = 0; n < 16; n++) to[k + n] = bf16_of(v[n]);
        }
        from[i] = to;
    }
    panel_pack(panel, from, count, K);
}

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * 32, some_rows = min_int(N - n0, 32), *tile = a.tiles + y * 4;
    if (y >= E + row_count(a) * R || tile[2] == 0) return;
    const int expert = tile[0], count = tile[2], *pair = a.perm + tile[1];
    const size_t strip_bytes = strip_size(K), row_bytes = PANEL * K * 2L;
    char *strip = room_of(room, strip_bytes + row_bytes + panel_size(K)), *rows = strip + strip_bytes, *panel = rows + row_bytes;
    if (room_fresh(room, y)) pack(a, panel, pair, count, (bf16 *)rows);
    float sum[32][PANEL];
    const float *bias = a.b + (long)expert * N + n0;
    product(a.w, (long)expert * N + n0, some_rows, K, (long)E * N, panel, count, strip, next_expert_row(room, 32, a.tiles, E + row_count(a) * R, N), sum);
    for (int i = 0; i < count; i++)
        for (int r = 0; r < some_rows; r++) out(a, pair[i], n0 + r, sum[r][i] + bias[r]);
}
