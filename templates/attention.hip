//! kernel attention(q: f32|bf16[T,W], state: f32|bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  W == NH * D && NH % NKV == 0 && D <= 128 && PAGE == 64
//! grid   NH, T
//! block  64
//! reduce f64, key tiles of 64 at multiples of 64, ascending, online
//! hook   out
//! tol    strict 1e-16 fast 1e-5
// One wave a (token, head): lane j holds key j of the tile, then lane d holds value columns d and d + 64. The softmax is online,
// in double; the sink joins its maximum and its denominator only.
// NMSE with bf16 weights (--precision fast --kv32): see attention.mfma.hip.

DEVICE void run(const Args &a) {
    __shared__ double query[D], weight[PAGE];
    const int h = blockIdx.x, t = blockIdx.y, lane = threadIdx.x;
    if (t >= row_count(a)) return;
    const int pos = a.pos[t], first = WINDOW && pos >= WINDOW ? pos - WINDOW + 1 : 0;
    for (int d = lane; d < D; d += WAVE) query[d] = load(a.q, (long)t * W + h * D + d);
    __syncthreads();
    double top = a.sinks[h], total = 1, sum0 = 0, sum1 = 0; // the sink alone: weight 1 at its own maximum
    for (int tile = first / PAGE; tile <= pos / PAGE; tile++) {
        const long page = a.blocks[(long)a.slot[t] * M + tile];
        const long keys = (page * 2 * NKV + h / (NH / NKV)) * PAGE * D, values = keys + (long)NKV * PAGE * D;
        const int key = tile * PAGE + lane;
        const bool seen = key >= first && key <= pos;
        double s = -__builtin_inf();
        if (seen) {
            s = 0;
            for (int d = 0; d < D; d++) s = __builtin_fma(query[d], (double)load(a.state, keys + lane * D + d), s);
            s = s / __builtin_sqrt((double)D);
        }
        const double high = wave_max(s), now = high > top ? high : top, keep = exp(top - now);
        const double p = seen ? exp(s - now) : 0;
        weight[lane] = P_BF16 ? (double)f32_of(bf16_of((float)p)) : p;
        total = total * keep + wave_sum(p);
        sum0 *= keep;
        sum1 *= keep;
        top = now;
        __syncthreads();
        const int from = first > tile * PAGE ? first - tile * PAGE : 0, to = pos - tile * PAGE < PAGE - 1 ? pos - tile * PAGE : PAGE - 1;
        for (int j = from; j <= to; j++) {
            if (lane < D) sum0 = __builtin_fma(weight[j], (double)load(a.state, values + j * D + lane), sum0);
            if (lane + WAVE < D) sum1 = __builtin_fma(weight[j], (double)load(a.state, values + j * D + lane + WAVE), sum1);
        }
        __syncthreads();
    }
    if (lane < D) out(a, t, h * D + lane, (float)(sum0 / total));
    if (lane + WAVE < D) out(a, t, h * D + lane + WAVE, (float)(sum1 / total));
}
