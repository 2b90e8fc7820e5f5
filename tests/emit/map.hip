#line 1 "tokens_N1"
namespace tokens_N1_ {
constexpr int COLUMNS = 1;
constexpr int R = 1;
constexpr int OWN_ROW = 0;

struct Args {
    const int *step;
    const int *src;
    const int *last;
    int *y;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Column n of row t of every result.
DEVICE void each(const Args &a, real row, int t, int n) {
    const int src_0 = load(a.src, t);
    const int last_1 = load(a.last, src_0 < 0 ? -1 - src_0 : 0);
    const int tokens0 = src_0 >= 0 ? src_0 : last_1;
    store(a.y, t, tokens0);
}

#line 5 "map.hip"
// All is generated: ops whose elements each depend on a few others. A thread an element; R rows a token.
// NMSE in fast: SwiGLU in float.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t < row_count(a) * R && n < COLUMNS) each(a, 0, t, n);
}
}
extern "C" __global__ __launch_bounds__(256) void tokens_N1(const int *__restrict__ step, const int *__restrict__ src, const int *__restrict__ last, int *__restrict__ y) {
    overlap_wait();
    overlap_next();
    tokens_N1_::run({step, src, last, y});
}

#line 1 "embed_N64"
namespace embed_N64_ {
constexpr int COLUMNS = 64;
constexpr int R = 1;
constexpr int OWN_ROW = 0;

struct Args {
    const int *step;
    const int *ids;
    const bf16 *w;
    float *y;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Column n of row t of every result.
DEVICE void each(const Args &a, real row, int t, int n) {
    const int ids_0 = load(a.ids, t);
    const float embed0 = (load(a.w, (long)((unsigned)ids_0 < 512 ? ids_0 : 0) * 64 + n));
    store(a.y, (long)t * 64 + n, embed0);
}

#line 5 "map.hip"
// All is generated: ops whose elements each depend on a few others. A thread an element; R rows a token.
// NMSE in fast: SwiGLU in float.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t < row_count(a) * R && n < COLUMNS) each(a, 0, t, n);
}
}
extern "C" __global__ __launch_bounds__(256) void embed_N64(const int *__restrict__ step, const int *__restrict__ ids, const bf16 *__restrict__ w, float *__restrict__ y) {
    overlap_wait();
    overlap_next();
    embed_N64_::run({step, ids, w, y});
}

#line 1 "combine_add_N64"
namespace combine_add_N64_ {
constexpr int COLUMNS = 64;
constexpr int R = 1;
constexpr int OWN_ROW = 0;

struct Args {
    const int *step;
    const float *a;
    const float *p;
    const float *y;
    float *y1;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Column n of row t of every result.
DEVICE void each(const Args &a, real row, int t, int n) {
    double combine1_sum = 0;
    for (int r = 0; r < 2; r++) {
        const double sum = combine1_sum;
        combine1_sum = add_product((load(a.p, (long)t * 2 + r)), (load(a.y, (long)(t * 2 + r) * 64 + n)), sum);
    }
    const float combine1 = (float)combine1_sum;
    const float add2 = (load(a.a, (long)t * 64 + n)) + combine1;
    store(a.y1, (long)t * 64 + n, add2);
}

#line 5 "map.hip"
// All is generated: ops whose elements each depend on a few others. A thread an element; R rows a token.
// NMSE in fast: SwiGLU in float.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t < row_count(a) * R && n < COLUMNS) each(a, 0, t, n);
}
}
extern "C" __global__ __launch_bounds__(256) void combine_add_N64(const int *__restrict__ step, const float *__restrict__ a, const float *__restrict__ p, const float *__restrict__ y, float *__restrict__ y1) {
    overlap_wait();
    overlap_next();
    combine_add_N64_::run({step, a, p, y, y1});
}

#line 1 "rows_N64"
namespace rows_N64_ {
constexpr int COLUMNS = 64;
constexpr int R = 1;
constexpr int OWN_ROW = 0;

struct Args {
    const int *step;
    const int *index;
    const float *x;
    float *y;
};
DEVICE int row_count(const Args &a) { return a.step[1]; }

// Column n of row t of every result.
DEVICE void each(const Args &a, real row, int t, int n) {
    const int index_0 = load(a.index, t);
    const float rows0 = (load(a.x, (long)index_0 * 64 + n));
    store(a.y, (long)t * 64 + n, rows0);
}

#line 5 "map.hip"
// All is generated: ops whose elements each depend on a few others. A thread an element; R rows a token.
// NMSE in fast: SwiGLU in float.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t < row_count(a) * R && n < COLUMNS) each(a, 0, t, n);
}
}
extern "C" __global__ __launch_bounds__(256) void rows_N64(const int *__restrict__ step, const int *__restrict__ index, const float *__restrict__ x, float *__restrict__ y) {
    overlap_wait();
    overlap_next();
    rows_N64_::run({step, index, x, y});
}

#line 1 "set_last_N1"
namespace set_last_N1_ {
constexpr int COLUMNS = 1;
constexpr int R = 1;
constexpr int OWN_ROW = 0;

struct Args {
    const int *step;
    const int *ids;
    const int *slot;
    int *last;
};
DEVICE int row_count(const Args &a) { return a.step[1]; }

// Column n of row t of every result.
DEVICE void each(const Args &a, real row, int t, int n) {
    const int ids_0 = load(a.ids, t);
    const int slot_1 = load(a.slot, t);
    store(a.last, slot_1, ids_0);
}

#line 5 "map.hip"
// All is generated: ops whose elements each depend on a few others. A thread an element; R rows a token.
// NMSE in fast: SwiGLU in float.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t < row_count(a) * R && n < COLUMNS) each(a, 0, t, n);
}
}
extern "C" __global__ __launch_bounds__(256) void set_last_N1(const int *__restrict__ step, const int *__restrict__ ids, const int *__restrict__ slot, int *__restrict__ last) {
    overlap_wait();
    overlap_next();
    set_last_N1_::run({step, ids, slot, last});
}
