//! kernel rope(x: f32[T,W], pos: i32[T], table: f32[P,HALF,2]) -> (y: f32[T,W])
//! const D = 2 * HALF
//! grid  T
//! block 1
//! hook  out
//! tol   strict 1e-13 fast 1e-13
// Rotate-half: element i pairs with i + D/2; products in double, rounded once.

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const float *x = a.x + (long)t * W, *turn = a.table + (long)a.pos[t] * HALF * 2;
    for (int h = 0; h < W; h += D)
        for (int i = 0; i < HALF; i++) {
            const double c = turn[i * 2], s = turn[i * 2 + 1], v = x[h + i], w = x[h + i + HALF];
            out(a, t, h + i, (float)(v * c - w * s));
            out(a, t, h + i + HALF, (float)(w * c + v * s));
        }
}
