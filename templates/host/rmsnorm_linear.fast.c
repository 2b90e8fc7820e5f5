//! kernel rmsnorm_linear(x: f32[T,K], g: f32[K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! priority 10
//! attr   EPS = rmsnorm.eps
//! cast   XN = rmsnorm
//! where  K % 32 == 0 && XN_BF16
//! const  SPAN = 512
//! grid   ceil(N, 32), ceil(T, SPAN)
//! block  1
//! reduce f64, K in 16 lanes; host product: bf16, f32 sums, K ascending in chunks of 32
//! hook   out
//! tol    fast 1e-12
// linear.fast.c with the rows normalised and rounded as they are packed.

DEVICE void pack(const Args a, char *panel, int t, int count, bf16 *rows) {
    const bf16 *from[PANEL];
    float v[K];
    for (int i = 0; i < count; i++) {
        bf16 *to = rows + (long)i * K;
        normalise(v, a.x + (long)(t + i) * K, a.g, K, EPS);
        for (int k = 0; k < K; k++) to[k] = bf16_of(v[k]);
        from[i] = to;
    }
    panel_pack(panel, from, count, K);
}

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * 32, some_rows = min_int(N - n0, 32), t0 = y * SPAN, count = min_int(row_count(a) - t0, SPAN);
    if (count <= 0) return;
    const size_t strip_bytes = strip_size(K), row_bytes = PANEL * K * 2L;
    char *strip = room_of(room, strip_bytes + row_bytes + SPAN / PANEL * panel_size(K)), *rows = strip + strip_bytes, *panels = rows + row_bytes;
    const bool fresh = room_fresh(room, y);
    for (int t = 0; t < count; t += PANEL) {
        const int some = min_int(count - t, PANEL);
        char *panel = panels + t / PANEL * panel_size(K);
        if (fresh) pack(a, panel, t0 + t, some, (bf16 *)rows);
        float sum[32][PANEL];
        product(a.w, n0, some_rows, K, N, panel, some, strip, t + PANEL < count ? -1 : next_row(room, 32), sum);
        for (int i = 0; i < some; i++)
            for (int r = 0; r < some_rows; r++) out(a, t0 + t + i, n0 + r, sum[r][i] + (HAS_B ? a.b[n0 + r] : 0.f));
    }
}
