//! kernel attention(q: f32|bf16[T,W], state: f32|bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  W == NH * D && NH % NKV == 0 && D <= 128 && PAGE == 64
//! const  KEYS = PAGE / WAVE
//! const  COLUMNS = ceil(D, WAVE)
//! grid   NH, T
//! block  WAVE
//! reduce f64, key tiles of 64 at multiples of 64 by {WAVE} lanes, ascending, online
//! hook   out
//! tol    strict 1e-16 fast 1e-5
// One wave a (token, head): a lane holds KEYS keys of the tile (lane, lane + WAVE …), then COLUMNS value columns. The softmax is
// online, in double; the sink joins its maximum and its denominator only.
// NMSE with bf16 weights (--precision fast --kv32): see attention.pages.hip.

DEVICE void run(const Args &a) {
    __shared__ double query[D], weight[PAGE];
    const int h = blockIdx.x, t = blockIdx.y, lane = threadIdx.x;
    if (t >= row_count(a)) return;
    const int pos = a.pos[t], first = WINDOW && pos >= WINDOW ? pos - WINDOW + 1 : 0;
    for (int d = lane; d < D; d += WAVE) query[d] = load(a.q, (long)t * W + h * D + d);
    __syncthreads();
    double top = a.sinks[h], total = 1, sum[COLUMNS] = {}; // the sink alone: weight 1 at its own maximum
    for (int tile = first / PAGE; tile <= pos / PAGE; tile++) {
        const long page = a.blocks[(long)a.slot[t] * M + tile];
        const long keys = (page * 2 * NKV + h / (NH / NKV)) * PAGE * D, values = keys + (long)NKV * PAGE * D;
        double s[KEYS], high = -__builtin_inf(), added = 0;
        for (int i = 0; i < KEYS; i++) {
            const int at = lane + i * WAVE, key = tile * PAGE + at;
            s[i] = -__builtin_inf();
            if (key < first || key > pos) continue;
            s[i] = 0;
            for (int d = 0; d < D; d++) s[i] = __builtin_fma(query[d], (double)load(a.state, keys + at * D + d), s[i]);
            s[i] = s[i] / sqrt((double)D);
            high = s[i] > high ? s[i] : high;
        }
        high = wave_max(high);
        const double now = high > top ? high : top, keep = exp(top - now);
        for (int i = 0; i < KEYS; i++) {
            const double p = exp(s[i] - now); // 0 of a key that is not seen
            weight[lane + i * WAVE] = P_BF16 ? (double)f32_of(bf16_of((float)p)) : p;
            added += p;
        }
        total = total * keep + wave_sum(added);
        for (int c = 0; c < COLUMNS; c++) sum[c] *= keep;
        top = now;
        __syncthreads();
        const int from = first > tile * PAGE ? first - tile * PAGE : 0, to = pos - tile * PAGE < PAGE - 1 ? pos - tile * PAGE : PAGE - 1;
        for (int j = from; j <= to; j++)
            for (int c = 0; c < COLUMNS; c++)
                if (lane + c * WAVE < D) sum[c] = __builtin_fma(weight[j], (double)load(a.state, values + j * D + lane + c * WAVE), sum[c]);
        __syncthreads();
    }
    for (int c = 0; c < COLUMNS; c++)
        if (lane + c * WAVE < D) out(a, t, h * D + lane + c * WAVE, (float)(sum[c] / total));
}
