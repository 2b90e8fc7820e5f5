//! kernel attention(q: bf16[T,W], state: bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! precision fast
//! priority 10
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  P_BF16 == 1
//! where  W == NH * D && NH % NKV == 0 && D % 16 == 0 && PAGE == 64
//! const  GROUP = NH / NKV
//! grid   NKV, T
//! block  1
//! reduce f32, D ascending; all keys, ascending
//! hook   out
//! tol    fast 1e-6
// A block is one token and the query heads of one kv head. All scores first, in lanes of keys (a page of keys turned about), then
// their exponentials, then the values in lanes of D. NMSE: a weight in float may round to the other bf16 neighbour.

// D rows of 64 keys' floats from 64 rows of D.
DEVICE void turn(float (*to)[PAGE], const bf16 *keys, int count) {
    for (int j = 0; j < count; j++)
        for (int d = 0; d < D; d++) to[d][j] = f32_of(keys[j * D + d]);
}

DEVICE void scores(const Args a, int kv, int t, int from, int to, int last, float *p) {
    float q[GROUP][D], keys[D][PAGE];
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D; d++) q[h][d] = f32_of(a.q[(long)t * W + (kv * GROUP + h) * D + d]);
    for (int tile = from; tile < to; tile++) {
        const long page = a.blocks[(long)a.slot[t] * M + tile];
        turn(keys, a.state + (page * 2 * NKV + kv) * PAGE * D, min_int(last - tile * PAGE + 1, PAGE));
        for (int h = 0; h < GROUP; h++) {
            float *s = p + ((long)h * (to - from) + tile - from) * PAGE;
            vf sum[PAGE / VF] = {{0}};
            for (int d = 0; d < D; d++) {
                const vf v = vf_all(q[h][d]);
                UNROLL
                for (int j = 0; j < PAGE / VF; j++) sum[j] = fma_vf(v, vf_load(keys[d] + j * VF), sum[j]);
            }
            UNROLL
            for (int j = 0; j < PAGE / VF; j++) vf_store(s + j * VF, sum[j] * (float)(1 / __builtin_sqrt((double)D)));
        }
    }
}

// Scores of n keys to bf16 weights; the sum of the unrounded ones, with the sink's.
DEVICE float weights(float *p, int n, float sink) {
    float top = sink;
    for (int j = 0; j < n; j++) top = p[j] > top ? p[j] : top;
    vf total = vf_all(0);
    for (int j = 0; j < n; j += VF) {
        const vf e = exp_vf(vf_load(p + j) - top);
        total += e;
        vf_store(p + j, (vf)(__builtin_convertvector(round_bf16(e), vu) << 16));
    }
    return sum_vf(total) + __builtin_expf(sink - top);
}

DEVICE void run(const Args a, int kv, int t, Room *room) {
    if (t >= row_count(a)) return;
    const int pos = a.pos[t], first = WINDOW && pos >= WINDOW ? pos - WINDOW + 1 : 0;
    const int from = first / PAGE, to = pos / PAGE + 1, wide = (to - from) * PAGE;
    float *p = (float *)room_of(room, (long)GROUP * wide * 4), total[GROUP];
    scores(a, kv, t, from, to, pos, p);
    for (int h = 0; h < GROUP; h++) {
        float *s = p + (long)h * wide;
        for (int j = 0; j < first - from * PAGE; j++) s[j] = -__builtin_inff();
        for (int j = pos - from * PAGE + 1; j < wide; j++) s[j] = -__builtin_inff();
        total[h] = weights(s, wide, a.sinks[kv * GROUP + h]);
    }
    vf sum[GROUP][D / VF];
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D / VF; d++) sum[h][d] = vf_all(0);
    for (int tile = from; tile < to; tile++) {
        const long page = a.blocks[(long)a.slot[t] * M + tile];
        const bf16 *values = a.state + ((page * 2 + 1) * NKV + kv) * PAGE * D;
        const int j0 = first > tile * PAGE ? first - tile * PAGE : 0, j1 = min_int(pos - tile * PAGE + 1, PAGE);
        for (int j = j0; j < j1; j++)
            for (int d = 0; d < D / VF; d++) {
                const vf v = vf_bf16(values + j * D + d * VF);
                UNROLL
                for (int h = 0; h < GROUP; h++) sum[h][d] = fma_vf(vf_all(p[(long)h * wide + (tile - from) * PAGE + j]), v, sum[h][d]);
            }
    }
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D / VF; d++)
            for (int i = 0; i < VF; i++) out(a, t, (kv * GROUP + h) * D + d * VF + i, sum[h][d][i] / total[h]);
}
