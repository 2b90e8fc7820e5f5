//! kernel sample(logits: f32[T,V]) -> (ids: i32[T])
//! grid  T
//! block 256
// Greedy. One block a row: the largest (ordered value, ~index), so ties go to the lower index; -1 when the row has a NaN.

DEVICE void run(const Args &a) {
    __shared__ u64 part[256 / WAVE];
    const int s = blockIdx.x, i = threadIdx.x;
    if (s >= row_count(a)) return;
    u64 best = 0;
    for (int v = i; v < V; v += 256) {
        const float x = a.logits[(long)s * V + v] + 0.f; // -0 becomes +0
        const unsigned u = as_u32(x), key = x != x ? ~0u : u >> 31 ? ~u : u | 0x80000000u; // a NaN wins
        const u64 o = (u64)key << 32 | (unsigned)~v;
        best = o > best ? o : best;
    }
    for (int d = WAVE / 2; d; d /= 2) {
        const u64 o = shuffle_xor(best, d);
        best = o > best ? o : best;
    }
    if (i % WAVE == 0) part[i / WAVE] = best;
    __syncthreads();
    if (i) return;
    for (int w = 1; w < 256 / WAVE; w++) best = part[w] > best ? part[w] : best;
    a.ids[s] = best >> 32 == ~0u ? -1 : (int)~(unsigned)best;
}
