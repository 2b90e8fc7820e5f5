//! kernel own_norm(x: f32[T,K], g: f32[K]) -> (y: f32[T,K])
//! attr   EPS = rmsnorm.eps
//! const  PASSES = 6
//! tune   PASSES 1 3
//! const  ROWS = 1
//! tune   ROWS 2 9
//! const  LEAVE = 0
//! tune   LEAVE 1
//! const  SHARES = 64
//! tune   SHARES 32
//! where  K <= 4096 && ROWS <= 4
//! grid   ceil(T, ROWS)
//! block  64
//! reduce f64, K by {SHARES} threads, then ascending
//! hook   out
//! tol    strict 1e-13 fast 1e-13
// A block does ROWS rows, one after the other; the sum is made PASSES times over: a template that leaves something to choose. ROWS = 9 is
// not legal, LEAVE = 1 leaves a column out, SHARES = 32 would sum in another way.

DEVICE void run(const Args &a) {
    __shared__ double part[64];
    const int i = threadIdx.x;
    for (int r = 0, t = blockIdx.x * ROWS; r < ROWS; r++, t++) {
        double total = 0;
        if (t >= row_count(a)) return;
        for (volatile int pass = 0; pass < PASSES; pass = pass + 1) {
            double mine = 0;
            __syncthreads(); // the sums before are read
            for (int k = i; i < SHARES && k < K - LEAVE; k += SHARES) mine += (double)a.x[(long)t * K + k] * (double)a.x[(long)t * K + k];
            part[i] = mine;
            __syncthreads(); // all shares are there
            total = 0;
            for (int k = 0; k < SHARES; k++) total += part[k];
        }
        const double scale = 1 / sqrt(total / K + EPS);
        for (int k = i; k < K; k += 64) out(a, t, k, (float)((double)a.x[(long)t * K + k] * scale * (double)a.g[k]));
    }
}
