//! kernel attention(q: f32|bf16[T,W], state: f32|bf16[_,2,NKV,PAGE,D], sinks: f32[NH], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32[T,W])
//! attr   WINDOW = attention.window
//! attr   P_BF16 = attention.p
//! where  W == NH * D && NH % NKV == 0 && D % 16 == 0
//! const  GROUP = NH / NKV
//! grid   NKV, T
//! block  1
//! reduce f64, D in 16 lanes, lanes in halves; all keys, ascending
//! hook   out
//! tol    strict 1e-13 fast 1e-13
// A block is one token and the query heads of one kv head. All scores first, then their exponentials, then the values.

DEVICE void run(const Args a, int kv, int t, Room *room) {
    if (t >= row_count(a)) return;
    const int pos = a.pos[t], first = WINDOW && pos >= WINDOW ? pos - WINDOW + 1 : 0, keys = pos - first + 1;
    double *p = (double *)room_of(room, (long)GROUP * keys * 8), total[GROUP], sum[GROUP][D];
    float q[GROUP][D], row[D];
    row_floats(q[0], a.q, TYPE_OF(a.q), (long)t * NKV + kv, GROUP * D, 0);
    for (int j = 0; j < keys; j++) {
        const long page = a.blocks[(long)a.slot[t] * M + (first + j) / PAGE];
        row_floats(row, a.state, TYPE_OF(a.state), (page * 2 * NKV + kv) * PAGE + (first + j) % PAGE, D, 0);
        for (int h = 0; h < GROUP; h++) p[(long)h * keys + j] = dot_f64(q[h], row, D) / __builtin_sqrt((double)D);
    }
    for (int h = 0; h < GROUP; h++) {
        double *s = p + (long)h * keys, sink = a.sinks[kv * GROUP + h], top = sink;
        for (int j = 0; j < keys; j++) top = s[j] > top ? s[j] : top;
        total[h] = 0;
        for (int j = 0; j < keys; j++) {
            s[j] = __builtin_exp(s[j] - top);
            total[h] += s[j];
            if (P_BF16) s[j] = f32_of(bf16_of((float)s[j]));
        }
        total[h] += __builtin_exp(sink - top);
        for (int d = 0; d < D; d++) sum[h][d] = 0;
    }
    for (int j = 0; j < keys; j++) {
        const long page = a.blocks[(long)a.slot[t] * M + (first + j) / PAGE];
        row_floats(row, a.state, TYPE_OF(a.state), ((page * 2 + 1) * NKV + kv) * PAGE + (first + j) % PAGE, D, 0);
        for (int h = 0; h < GROUP; h++)
            for (int d = 0; d < D; d++) sum[h][d] += p[(long)h * keys + j] * (double)row[d];
    }
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < D; d++) out(a, t, (kv * GROUP + h) * D + d, (float)(sum[h][d] / total[h]));
}
