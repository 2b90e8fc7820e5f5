//! kernel sample(logits: f32[T,V], params?: i32[T,8]) -> (ids: i32[T])
//! grid  T
//! const SPLIT = 1
//! block 256
// One block a row, or SPLIT in a cluster, whose first one draws; what is drawn, and how, is told in ops.def at sample. Greedy (no params, or temperature 0): the largest
// (ordered value, ~index), so ties go to the lower index; -1 when the row has a NaN.
// Else: where in the row's order a sum of weights (or of ones) passes a target is found by radix selection, 8 bits of the
// ordered value a pass; top-k, top-p and the draw itself are such selections. Sums are integers: no order of adding matters.
// Each function below is that of ir/sampling.h of the same name.

enum { THREADS = 256 };

DEVICE unsigned ordered(float x) {
    const unsigned u = as_u32(x + 0.f); // -0 becomes +0
    return x != x ? ~0u : u >> 31 ? ~u : u | 0x80000000u; // a NaN is above all
}
DEVICE float value(unsigned key) { return as_f32(key >> 31 ? key & 0x7fffffffu : ~key); }

DEVICE u64 random(const int *p) {
    unsigned a = p[7], b = p[6], c = 0, d = 0, k0 = p[4], k1 = p[5];
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const u64 x = (u64)0xD2511F53u * a, y = (u64)0xCD9E8D57u * c;
        a = (unsigned)(y >> 32) ^ b ^ k0, b = (unsigned)y;
        c = (unsigned)(x >> 32) ^ d ^ k1, d = (unsigned)x;
    }
    return (u64)b << 32 | a;
}

DEVICE u64 weight(float x, float most, double scale) { // scale: temperature * ln 2
    if (x == most) return 1ull << 40;
    const double ln2 = 0x1.62e42fefa39efp-1, t = ((double)x - (double)most) / scale;
    if (!(t > -41)) return 0;
    const double n = floor(t), y = (t - n) * ln2;
    double sum = 0x1.952c77030ad4ap-49;
    sum = fma(sum, y, 0x1.ae7f3e733b81fp-45), sum = fma(sum, y, 0x1.ae7f3e733b81fp-41), sum = fma(sum, y, 0x1.93974a8c07c9dp-37);
    sum = fma(sum, y, 0x1.6124613a86d09p-33), sum = fma(sum, y, 0x1.1eed8eff8d898p-29), sum = fma(sum, y, 0x1.ae64567f544e4p-26);
    sum = fma(sum, y, 0x1.27e4fb7789f5cp-22), sum = fma(sum, y, 0x1.71de3a556c734p-19), sum = fma(sum, y, 0x1.a01a01a01a01ap-16);
    sum = fma(sum, y, 0x1.a01a01a01a01ap-13), sum = fma(sum, y, 0x1.6c16c16c16c17p-10), sum = fma(sum, y, 0x1.1111111111111p-7);
    sum = fma(sum, y, 0x1.5555555555555p-5), sum = fma(sum, y, 0x1.5555555555555p-3), sum = fma(sum, y, 0.5);
    sum = fma(sum, y, 1.0), sum = fma(sum, y, 1.0);
    return (u64)(sum * __builtin_bit_cast(double, (u64)(1023 + 40 + (int)n) << 52));
}

DEVICE u64 enough(u64 total, float top_p) {
    const u64 p = (u64)((double)top_p * 0x1p32), e = (total >> 32) * p + (((total & 0xffffffffu) * p + 0xffffffffu) >> 32);
    return e ? e : 1;
}

DEVICE u64 scaled(u64 u, u64 total) { // sampling_scale
    const u64 uh = u >> 32, ul = u & 0xffffffffu, th = total >> 32, tl = total & 0xffffffffu;
    const u64 low = ul * tl, mid = uh * tl + (low >> 32), other = ul * th + (mid & 0xffffffffu);
    return uh * th + (mid >> 32) + (other >> 32);
}

struct Room { // of a block
    u64 weight[2][THREADS], part[THREADS / WAVE];
    int count[2][THREADS];
    u64 best[SPLIT]; // each block's
    unsigned key;
    u64 above;
    int above_count, id;
};

DEVICE u64 block_max(Room &r, u64 v) {
    for (int d = WAVE / 2; d; d /= 2) {
        const u64 o = shuffle_xor(v, d);
        v = o > v ? o : v;
    }
    if (threadIdx.x % WAVE == 0) r.part[threadIdx.x / WAVE] = v;
    __syncthreads();
    for (int w = 0; w < THREADS / WAVE; w++) v = r.part[w] > v ? r.part[w] : v;
    __syncthreads();
    return v;
}

DEVICE u64 block_sum(Room &r, u64 v) {
    for (int d = WAVE / 2; d; d /= 2) v += shuffle_xor(v, d);
    if (threadIdx.x % WAVE == 0) r.part[threadIdx.x / WAVE] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < THREADS / WAVE; w++) v += r.part[w];
    __syncthreads();
    return v;
}

// The value at which the sum over the row's order passes `target`: r.key, and what lies above it. Thread i owns the i-th bin
// from the top.
template <bool BY_COUNT> DEVICE void select(Room &r, const float *x, float most, double scale, u64 target) {
    const int i = threadIdx.x;
    unsigned key = 0;
    u64 above = 0;
    int above_count = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads();
        r.weight[0][i] = 0, r.count[0][i] = 0;
        __syncthreads();
        for (int v = i; v < V; v += THREADS) {
            const unsigned k = ordered(x[v]);
            if (shift < 24 && (k ^ key) >> (shift + 8)) continue;
            const int bin = 255 - (int)(k >> shift & 255u);
            const u64 w = weight(x[v], most, scale);
            if (w) lds_add(&r.weight[0][bin], w);
            if (BY_COUNT) lds_add(&r.count[0][bin], 1);
        }
        __syncthreads();
        int from = 0;
        for (int d = 1; d < THREADS; d *= 2, from ^= 1) { // inclusive sums
            r.weight[from ^ 1][i] = r.weight[from][i] + (i >= d ? r.weight[from][i - d] : 0);
            r.count[from ^ 1][i] = r.count[from][i] + (i >= d ? r.count[from][i - d] : 0);
            __syncthreads();
        }
        const u64 before = above + (i ? r.weight[from][i - 1] : 0), upto = above + r.weight[from][i];
        const int before_count = above_count + (i ? r.count[from][i - 1] : 0), upto_count = above_count + r.count[from][i];
        if (BY_COUNT ? (u64)before_count <= target && target < (u64)upto_count : before <= target && target < upto)
            r.key = key | (unsigned)(255 - i) << shift, r.above = before, r.above_count = before_count;
        __syncthreads();
        key = r.key, above = r.above, above_count = r.above_count;
    }
}

// The index of the n-th element of that value, in ascending order: thread i looks through the i-th part of the row.
DEVICE int nth(Room &r, const float *x, unsigned key, int n) {
    const int i = threadIdx.x, each = (V + THREADS - 1) / THREADS, first = i * each, last = first + each < V ? first + each : V;
    int count = 0;
    for (int v = first; v < last; v++) count += ordered(x[v]) == key;
    r.count[0][i] = count;
    __syncthreads();
    int before = 0;
    for (int k = 0; k < i; k++) before += r.count[0][k];
    if (before <= n && n < before + count)
        for (int v = first; v < last; v++)
            if (ordered(x[v]) == key && before++ == n) r.id = v;
    __syncthreads();
    return r.id;
}

DEVICE int draw(Room &r, const float *x, float most, const int *p) {
    const float top_p = as_f32(p[2]);
    const double scale = (double)as_f32(p[0]) * 0x1.62e42fefa39efp-1;
    const u64 least = (u64)ceil((double)as_f32(p[3]) * 0x1p40);
    u64 total = 0, likely = 0;
    for (int v = threadIdx.x; v < V; v += THREADS) {
        const u64 w = weight(x[v], most, scale);
        total += w, likely += w >= least ? w : 0;
    }
    total = block_sum(r, total), likely = block_sum(r, likely);
    if (p[1] > 0 && p[1] < V) {
        select<true>(r, x, most, scale, (u64)p[1] - 1);
        total = r.above + (u64)(p[1] - r.above_count) * weight(value(r.key), most, scale);
    }
    if (top_p < 1) {
        const u64 target = enough(total, top_p) - 1;
        select<false>(r, x, most, scale, target);
        const u64 w = weight(value(r.key), most, scale);
        total = r.above + ((target - r.above) / w + 1) * w;
    }
    if (likely < total) total = likely;
    const u64 target = scaled(random(p), total);
    select<false>(r, x, most, scale, target);
    return nth(r, x, r.key, (int)((target - r.above) / weight(value(r.key), most, scale)));
}

DEVICE u64 better(u64 best, float x, int v) { // of two keys the one that is drawn first
    const u64 o = (u64)ordered(x) << 32 | (unsigned)~v;
    return o > best ? o : best;
}

// The best of the cluster's, in its first block; the others have nothing.
DEVICE u64 cluster_max(Room &r, u64 v) {
    if (SPLIT == 1) return v;
    if (threadIdx.x == 0) cluster_store(&r.best[cluster_rank()], 0, v);
    cluster_sync();
    v = 0;
    for (int k = 0; k < SPLIT && cluster_rank() == 0; k++) v = r.best[k] > v ? r.best[k] : v;
    return v;
}

DEVICE void run(const Args &a) {
    __shared__ Room r;
    const int s = blockIdx.x / SPLIT, rank = blockIdx.x % SPLIT, i = rank * THREADS + threadIdx.x;
    if (s >= row_count(a)) return;
    const float *x = a.logits + (long)s * V;
    u64 best = 0;
    if (SPLIT > 1) cluster_sync(); // the first block is there
    if (V % 4 == 0) {
#pragma unroll 8
        for (int v = i * 4; v < V; v += SPLIT * THREADS * 4) {
            const f32x4 four = *(const f32x4 *)(x + v);
#pragma unroll
            for (int k = 0; k < 4; k++) best = better(best, four[k], v + k);
        }
    } else {
        for (int v = i; v < V; v += SPLIT * THREADS) best = better(best, x[v], v);
    }
    best = cluster_max(r, block_max(r, best));
    if (rank) return;
    int id = best >> 32 == ~0u ? -1 : (int)~(unsigned)best;
    const int *p = a.params + (long)s * 8;
    if (HAS_PARAMS && id >= 0 && as_f32(p[0]) > 0) id = draw(r, x, value((unsigned)(best >> 32)), p);
    if (i == 0) a.ids[s] = id;
}
