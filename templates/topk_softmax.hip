//! kernel topk_softmax(x: f32[T,E]) -> (y: f32[T,R], ids: i32[T,R])
//! where E <= 1024 && R <= 8
//! grid  T
//! block WAVE
//! reduce f64, in rank order
//! tol   strict 1e-16 fast 1e-16
// topk, then softmax over the R kept values, in double.
DEVICE void run(const Args &a) {
    __shared__ double power[R];
    const long t = blockIdx.x;
    if (t < row_count(a)) wave_choose<E, R>(a.x + t * E, a.ids + t * R, a.y + t * R, power);
}
