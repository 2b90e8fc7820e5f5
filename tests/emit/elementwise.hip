#line 1 "elementwise_R1_N64"
namespace elementwise_R1_N64_ {
constexpr int x_RANK = 2;
constexpr int N = 64;
constexpr int y_RANK = 2;
constexpr int R = 1;
constexpr int OUT_COLUMNS = 64;

struct Args {
    const int *step;
    const float *x;
    bf16 *y;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Row t, column n of the kernel's result is v.
DEVICE void out(const Args &a, int t, int n, float v) {
    const long at = (long)t * OUT_COLUMNS + n;
    v = cast_bf16(v); // cast
    store(a.y, at, v);
}

#line 5 "elementwise.hip"
// A copy: every elementwise op, alone or in a chain, is inlined as its hook.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) * R || n >= N) return;
    out(a, t, n, load(a.x, (long)t * N + n));
}
}
extern "C" __global__ __launch_bounds__(256) void elementwise_R1_N64(const int *__restrict__ step, const float *__restrict__ x, bf16 *__restrict__ y) {
    elementwise_R1_N64_::run({step, x, y});
}
