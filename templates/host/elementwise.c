//! kernel elementwise(x: f32|bf16[T,(R),N]) -> (y: f32|bf16[T,(R),N])
//! grid  T
//! block 1
//! hook  out
// A copy: every elementwise op, alone or in a chain, is inlined as its hook.

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    for (int r = t * R; r < (t + 1) * R; r++)
        for (int n = 0; n < N; n++) out(a, r, n, load(a.x, (long)r * N + n));
}
