//! kernel softmax(x: f32[T,N]) -> (y: f32[T,N])
//! where  N <= 1024
//! grid   T
//! block  WAVE
//! reduce f64, N by {WAVE} lanes, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// One wave a row.

DEVICE void run(const Args &a) {
    const int t = blockIdx.x, lane = threadIdx.x;
    if (t >= row_count(a)) return;
    double top = -__builtin_inf(), sum = 0;
    for (int n = lane; n < N; n += WAVE) top = a.x[(long)t * N + n] > top ? a.x[(long)t * N + n] : top;
    top = wave_max(top);
    for (int n = lane; n < N; n += WAVE) sum += exp((double)a.x[(long)t * N + n] - top);
    sum = wave_sum(sum);
    for (int n = lane; n < N; n += WAVE) out(a, t, n, (float)(exp((double)a.x[(long)t * N + n] - top) / sum));
}
