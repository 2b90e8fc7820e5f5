//! kernel sample(logits: f32[T,V]) -> (ids: i32[T])
//! grid  T
//! block 1
// Greedy: the largest (ordered value, ~index), so ties go to the lower index; -1 when the row has a NaN.

DEVICE void run(const Args a, int s, int y, Room *room) {
    (void)y, (void)room;
    if (s >= row_count(a)) return;
    const float *x = a.logits + (long)s * V;
    u64 best = 0;
    for (int v = 0; v < V; v++) {
        const u64 o = ordered(x[v], v, ~0u); // a NaN wins
        best = o > best ? o : best;
    }
    a.ids[s] = best >> 32 == ~0u ? -1 : (int)~(unsigned)best;
}
