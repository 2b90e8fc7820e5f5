//! kernel tokens(src: i32[T], last: i32[B]) -> (y: i32[T])
//! grid  1
//! block 1
// Token ids of the step: given by the host, or the last sample of a slot.

DEVICE void run(const Args a, int x, int y, Room *room) {
    (void)x, (void)y, (void)room;
    for (int t = 0; t < row_count(a); t++) a.y[t] = a.src[t] >= 0 ? a.src[t] : a.last[-1 - a.src[t]];
}
