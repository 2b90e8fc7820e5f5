#line 1 "linear_K64_N64"
namespace linear_K64_N64_ {
constexpr int x_RANK = 2;
constexpr int K = 64;
constexpr int w_RANK = 2;
constexpr int N = 64;
constexpr int HAS_B = 1;
constexpr int b_RANK = 1;
constexpr int y_RANK = 2;
constexpr int ROWS = 16;
constexpr int TOKENS = 16;
constexpr int WAVES = 4;
constexpr int OUT_COLUMNS = 64;

struct Args {
    const int *step;
    const bf16 *x;
    const bf16 *w;
    const float *b;
    float *y;
    const float *h0;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Row t, column n of the kernel's result is v.
DEVICE void out(const Args &a, int t, int n, float v) {
    const long at = (long)t * OUT_COLUMNS + n;
    v = load(a.h0, at) + v; // add
    store(a.y, at, v);
}

#line 14 "linear.mfma.hip"
// A block computes 16 weight rows for 16 tokens; columns beyond the step's tokens repeat the last one and are not stored.

DEVICE void run(const Args &a) {
    __shared__ float part[WAVES][ROWS][TOKENS + 1];
    const int n0 = blockIdx.x * ROWS, t0 = blockIdx.y * TOKENS, left = row_count(a) - t0;
    if (left <= 0) return;
    const bf16 *x[LINES];
    int row[LINES];
#pragma unroll
    for (int i = 0; i < LINES; i++) {
        const int at = tile_line(i);
        x[i] = a.x + (long)(t0 + (at < left ? at : left - 1)) * K;
        row[i] = n0 + at < N ? n0 + at : N - 1;
    }
    block_product(a.w, row, N, K, [&](int i, int k) { return *(const s16x8 *)(x[i] + k); }, part);
    __syncthreads();
    const int n = threadIdx.x % ROWS, t = threadIdx.x / ROWS;
    if (t < left && n0 + n < N) out(a, t0 + t, n0 + n, block_sum(part, n, t) + (HAS_B ? a.b[n0 + n] : 0.f));
}
}
extern "C" __global__ __launch_bounds__(256) void linear_K64_N64(const int *__restrict__ step, const bf16 *__restrict__ x, const bf16 *__restrict__ w, const float *__restrict__ b, float *__restrict__ y, const float *__restrict__ h0) {
    linear_K64_N64_::run({step, x, w, b, y, h0});
}
