//! kernel fetch(x: f32|bf16[T,(R),K], ids: i32[T,R]) -> (y: f32|bf16[T,(R),K])
//! where  K % 8 == 0
//! const  ROW = x_RANK == 3 ? R * K : K
//! grid   T
//! block  256
// A block copies the row of a token that chose an expert of this device; x may lie on another device, whose memory is read once.

DEVICE void run(const Args &a) {
    const int t = blockIdx.x;
    if (t >= row_count(a)) return;
    bool wanted = false;
    for (int r = 0; r < R; r++) wanted |= a.ids[(long)t * R + r] >= 0;
    if (!wanted) return;
    const u32x4 *from = (const u32x4 *)(a.x + (long)t * ROW);
    u32x4 *to = (u32x4 *)(a.y + (long)t * ROW);
    strided<ROW * (int)sizeof(*a.x) / 16, 256>(threadIdx.x, [&](int i) { return from[i]; }, [&](int i, const u32x4 &v) { to[i] = v; });
}
