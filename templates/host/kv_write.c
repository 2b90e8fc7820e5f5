//! kernel kv_write(state: f32|bf16[_,2,NKV,PAGE,D], k: f32|bf16[T,W], v: f32|bf16[T,W], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32|bf16[_,2,NKV,PAGE,D])
//! where W == NKV * D
//! grid  T
//! block 1
// Each token's keys and values go to its row of its slot's page.

DEVICE void run(const Args a, int t, int y, Room *room) {
    (void)y, (void)room;
    if (t >= row_count(a)) return;
    const int pos = a.pos[t];
    const long page = a.blocks[(long)a.slot[t] * M + pos / PAGE], size = sizeof *a.k * D;
    for (int h = 0; h < NKV; h++) {
        const long at = ((page * 2 * NKV + h) * PAGE + pos % PAGE) * D;
        __builtin_memcpy(a.state + at, a.k + (long)t * W + h * D, size);
        __builtin_memcpy(a.state + at + (long)NKV * PAGE * D, a.v + (long)t * W + h * D, size);
    }
}
