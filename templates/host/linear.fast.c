//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! priority 10
//! front  x
//! behind pairs
//! with   product
//! where  K % 32 == 0
//! const  ROWS = UNIT * max(32 / UNIT, 1)
//! const  SPAN = 512
//! tune   SPAN 128 256 1024
//! grid   ceil(N, ROWS), ceil(T, SPAN)
//! block  1
//! reduce host product: bf16, f32 sums, K ascending in chunks of 32
//! tol    fast 1e-12
// ROWS weight rows for SPAN tokens, a panel at a time; a thread makes the panels once for all its blocks.

DEVICE void pack(const Args a, char *panel, int t, int count, bf16 *rows) {
    const bf16 *from[PANEL];
    for (int i = 0; i < count; i++) {
        bf16 *to = rows + (long)i * K;
        if (!X_PLAIN) make_x(a, to, t + i);
        from[i] = X_PLAIN ? a.x + (long)(t + i) * K : to;
    }
    panel_pack(panel, from, count, K);
}

DEVICE void run(const Args a, int x, int y, Room *room) {
    const int n0 = x * ROWS, rows = N % ROWS ? min_int(N - n0, ROWS) : ROWS /* known: experts 15% faster */, t0 = y * SPAN, count = min_int(row_count(a) - t0, SPAN);
    if (count <= 0) return;
    const size_t strip_bytes = strip_size(K), row_bytes = X_PLAIN ? 0 : PANEL * K * 2L;
    char *strip = room_of(room, strip_bytes + row_bytes + SPAN / PANEL * panel_size(K)), *made = strip + strip_bytes, *panels = made + row_bytes;
    const bool fresh = room_fresh(room, y);
    for (int t = 0; t < count; t += PANEL) {
        const int some = min_int(count - t, PANEL);
        char *panel = panels + t / PANEL * panel_size(K);
        const long after = t + PANEL < count ? -1 : next_row(room, ROWS);
        if (fresh) pack(a, panel, t0 + t, some, (bf16 *)made);
        float sum[ROWS][PANEL], v[ROWS];
        for (int r = 0; r < rows; r += 32)
            product(a.w, n0 + r, min_int(rows - r, 32), K, N, panel, some, strip, r + 32 < rows ? n0 + r + 32 : after, sum + r);
        for (int i = 0; i < some; i++) {
            for (int r = 0; r < rows; r++) v[r] = sum[r][i] + (HAS_B ? a.b[n0 + r] : 0.f);
            give(a, t0 + t + i, n0, rows, v);
        }
    }
}
