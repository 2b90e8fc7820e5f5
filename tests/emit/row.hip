#line 1 "cast_N64"
namespace cast_N64_ {
constexpr int COLUMNS = 64;
constexpr int R = 1;
constexpr int OWN_ROW = 1;

struct Args {
    const int *step;
    const float *x;
    const float *g;
    bf16 *y;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Column n of row t of every result.
DEVICE real own_sum(const Args &a, int t, int q) {
    real sum = 0;
    strided<64, ROW_PARTS * WAVE>(q * WAVE + threadIdx.x % WAVE, [&](int n) {
        sum = add_square((load(a.x, (long)t * 64 + n)), sum);
    });
    return wave_sum(sum);
}
DEVICE real own_stat(real sum) { return rms_scale(sum, 64, 1.0000000000000001e-05); }
DEVICE void each(const Args &a, real row, int t, int n) {
    const float rmsnorm0 = normed((load(a.x, (long)t * 64 + n)), row, (load(a.g, n)));
    const float cast1 = cast_bf16(rmsnorm0);
    store(a.y, (long)t * 64 + n, cast1);
}

#line 5 "row.hip"
// All is generated, and takes a statistic of each row: a block a row.
// NMSE in fast: a scale in float.

DEVICE void run(const Args &a) {
    __shared__ real part[ROW_PARTS];
    const int t = blockIdx.x;
    if (t >= row_count(a) * R) return;
    const real row = own_stat(row_sum<256 / WAVE>([&](int q) { return own_sum(a, t, q); }, part));
    strided<COLUMNS, 256>(threadIdx.x, [&](int n) { each(a, row, t, n); });
}
}
extern "C" __global__ __launch_bounds__(256) void cast_N64(const int *__restrict__ step, const float *__restrict__ x, const float *__restrict__ g, bf16 *__restrict__ y) {
    overlap_wait();
    overlap_next();
    cast_N64_::run({step, x, g, y});
}

#line 1 "cast_N64v2"
namespace cast_N64v2_ {
constexpr int COLUMNS = 64;
constexpr int R = 1;
constexpr int OWN_ROW = 1;

struct Args {
    const int *step;
    const float *x;
    const float *g;
    bf16 *y;
};
DEVICE int row_count(const Args &a) { return a.step[1]; }

// Column n of row t of every result.
DEVICE real own_sum(const Args &a, int t, int q) {
    real sum = 0;
    strided<64, ROW_PARTS * WAVE>(q * WAVE + threadIdx.x % WAVE, [&](int n) {
        sum = add_square((load(a.x, (long)t * 64 + n)), sum);
    });
    return wave_sum(sum);
}
DEVICE real own_stat(real sum) { return rms_scale(sum, 64, 1.0000000000000001e-05); }
DEVICE void each(const Args &a, real row, int t, int n) {
    const float rmsnorm0 = normed((load(a.x, (long)t * 64 + n)), row, (load(a.g, n)));
    const float cast1 = cast_bf16(rmsnorm0);
    store(a.y, (long)t * 64 + n, cast1);
}

#line 5 "row.hip"
// All is generated, and takes a statistic of each row: a block a row.
// NMSE in fast: a scale in float.

DEVICE void run(const Args &a) {
    __shared__ real part[ROW_PARTS];
    const int t = blockIdx.x;
    if (t >= row_count(a) * R) return;
    const real row = own_stat(row_sum<256 / WAVE>([&](int q) { return own_sum(a, t, q); }, part));
    strided<COLUMNS, 256>(threadIdx.x, [&](int n) { each(a, row, t, n); });
}
}
extern "C" __global__ __launch_bounds__(256) void cast_N64v2(const int *__restrict__ step, const float *__restrict__ x, const float *__restrict__ g, bf16 *__restrict__ y) {
    overlap_wait();
    overlap_next();
    cast_N64v2_::run({step, x, g, y});
}
