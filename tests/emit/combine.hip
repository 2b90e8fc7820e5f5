#line 1 "combine_R2_H64"
namespace combine_R2_H64_ {
constexpr int y_RANK = 3;
constexpr int R = 2;
constexpr int H = 64;
constexpr int p_RANK = 2;
constexpr int z_RANK = 2;
constexpr int OUT_COLUMNS = 64;

struct Args {
    const int *step;
    const float *y;
    const float *p;
    float *z;
    const float *h0;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Row t, column n of the kernel's result is v.
DEVICE void out(const Args &a, int t, int n, float v) {
    const long at = (long)t * OUT_COLUMNS + n;
    v = load(a.h0, at) + v; // add
    store(a.z, at, v);
}

#line 7 "combine.hip"

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, h = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) || h >= H) return;
    double sum = 0;
    for (int r = 0; r < R; r++) sum = __builtin_fma((double)a.p[(long)t * R + r], (double)a.y[((long)t * R + r) * H + h], sum);
    out(a, t, h, (float)sum);
}
}
extern "C" __global__ __launch_bounds__(256) void combine_R2_H64(const int *__restrict__ step, const float *__restrict__ y, const float *__restrict__ p, float *__restrict__ z, const float *__restrict__ h0) {
    combine_R2_H64_::run({step, y, p, z, h0});
}
