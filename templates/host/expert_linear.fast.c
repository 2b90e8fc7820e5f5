//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! priority 10
//! where  K % 32 == 0
//! const  TILE = 64
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, 32), min(E, T * R) + T * R / TILE
//! block  1
//! reduce host product: bf16, f32 sums, K ascending in chunks of 32
//! hook   out
//! tol    fast 1e-12
// 32 weight rows of one expert for a tile of the pairs routed to it; a thread packs their rows once for all its blocks.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * 32, rows = min_int(N - n0, 32), *tile = a.tiles + y * 4;
    if (y >= E + row_count(a) * R || tile[2] == 0) return;
    const int expert = tile[0], count = tile[2], *pair = a.perm + tile[1];
    char *strip = room_of(room, strip_size(K) + panel_size(K)), *panel = strip + strip_size(K);
    if (room_fresh(room, y)) {
        const bf16 *from[PANEL];
        for (int i = 0; i < count; i++) from[i] = a.x + (long)(x_RANK == 3 ? pair[i] : pair[i] / R) * K;
        panel_pack(panel, from, count, K);
    }
    float sum[32][PANEL];
    const float *bias = a.b + (long)expert * N + n0;
    product(a.w, (long)expert * N + n0, rows, K, (long)E * N, panel, count, strip, next_expert_row(room, 32, a.tiles, E + row_count(a) * R, N), sum);
    for (int i = 0; i < count; i++)
        for (int r = 0; r < rows; r++) out(a, pair[i], n0 + r, sum[r][i] + bias[r]);
}
