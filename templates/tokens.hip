//! kernel tokens(src: i32[T], last: i32[B]) -> (y: i32[T])
//! grid  ceil(T, 256)
//! block 256
// Token ids of the step: given by the host, or the last sample of a slot.

DEVICE void run(const Args &a) {
    const int t = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a)) return;
    const int s = a.src[t];
    a.y[t] = s >= 0 ? s : a.last[-1 - s];
}
