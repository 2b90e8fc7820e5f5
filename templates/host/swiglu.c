//! kernel swiglu(x: f32[T,(R),N]) -> (y: f32[T,(R),I])
//! attr  LIMIT = swiglu.limit
//! attr  ALPHA = swiglu.alpha
//! where N == 2 * I
//! grid  T
//! block 1
//! hook  out
//! tol   strict 1e-13 fast 1e-13
// Even columns gate, odd ones up.

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    for (int r = t * R; r < (t + 1) * R; r++) {
        const float *x = a.x + (long)r * N;
        for (int i = 0; i < I; i++) out(a, r, i, swiglu(x[2 * i], x[2 * i + 1], LIMIT, ALPHA));
    }
}
