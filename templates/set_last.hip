//! kernel set_last(last: i32[B], ids: i32[T], slot: i32[T]) -> (y: i32[B])
//! grid  ceil(T, 256)
//! block 256

DEVICE void run(const Args &a) {
    const int s = blockIdx.x * 256 + threadIdx.x;
    if (s < row_count(a)) a.last[a.slot[s]] = a.ids[s];
}
