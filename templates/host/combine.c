//! kernel combine(y: f32[T,R,H], p: f32[T,R]) -> (z: f32[T,H])
//! grid   T
//! block  1
//! reduce f64, in rank order
//! hook   out
//! tol    strict 1e-13 fast 1e-13

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const float *row = a.y + (long)t * R * H, *p = a.p + (long)t * R;
    for (int h = 0; h < H; h++) {
        double sum = 0;
        for (int r = 0; r < R; r++) sum += (double)p[r] * (double)row[(long)r * H + h];
        out(a, t, h, (float)sum);
    }
}
