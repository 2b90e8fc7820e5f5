//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! priority 10
//! where  K % 32 == 0
//! const  SPAN = 512
//! grid   ceil(N, 32), ceil(T, SPAN)
//! block  1
//! reduce host product: bf16, f32 sums, K ascending in chunks of 32
//! hook   out
//! tol    fast 1e-12
// 32 weight rows for SPAN tokens, a panel at a time; a thread packs the panels once for all its blocks.

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * 32, rows = min_int(N - n0, 32), t0 = y * SPAN, count = min_int(row_count(a) - t0, SPAN);
    if (count <= 0) return;
    char *strip = room_of(room, strip_size(K) + SPAN / PANEL * panel_size(K)), *panels = strip + strip_size(K);
    const bool fresh = room_fresh(room, y);
    for (int t = 0; t < count; t += PANEL) {
        const int some = min_int(count - t, PANEL);
        char *panel = panels + t / PANEL * panel_size(K);
        const bf16 *from[PANEL];
        for (int i = 0; i < some; i++) from[i] = a.x + (long)(t0 + t + i) * K;
        if (fresh) panel_pack(panel, from, some, K);
        float sum[32][PANEL];
        product(a.w, n0, rows, K, N, panel, some, strip, t + PANEL < count ? -1 : next_row(room, 32), sum);
        for (int i = 0; i < some; i++)
            for (int r = 0; r < rows; r++) out(a, t0 + t + i, n0 + r, sum[r][i] + (HAS_B ? a.b[n0 + r] : 0.f));
    }
}
