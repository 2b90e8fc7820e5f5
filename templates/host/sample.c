//! kernel sample(logits: f32[T,V], params?: i32[T,8]) -> (ids: i32[T])
//! grid  T
//! block 1
// What is drawn, and how, is told in ops.def at sample. Greedy (no params, or temperature 0): the largest (ordered value, ~index), so
// ties go to the lower index; -1 when the row has a NaN. Else the row's likely part is sorted and walked. The arithmetic is that of
// ir/sampling.h, by the same names, operation by operation.

DEVICE u64 random_of(const int *p) {
    unsigned a = (unsigned)p[7], b = (unsigned)p[6], c = 0, d = 0, k0 = (unsigned)p[4], k1 = (unsigned)p[5];
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const u64 x = (u64)0xD2511F53u * a, y = (u64)0xCD9E8D57u * c;
        a = (unsigned)(y >> 32) ^ b ^ k0, b = (unsigned)y;
        c = (unsigned)(x >> 32) ^ d ^ k1, d = (unsigned)x;
    }
    return (u64)b << 32 | a;
}

static u64 weight(float x, float most, double scale) { // scale: temperature * ln 2
    static const double term[] = {0x1.952c77030ad4ap-49, 0x1.ae7f3e733b81fp-45, 0x1.ae7f3e733b81fp-41, 0x1.93974a8c07c9dp-37, 0x1.6124613a86d09p-33,
                                  0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26, 0x1.27e4fb7789f5cp-22, 0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16,
                                  0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7,  0x1.5555555555555p-5,  0x1.5555555555555p-3,
                                  0.5,                   1,                     1};
    if (x == most) return 1ull << 40;
    const double ln2 = 0x1.62e42fefa39efp-1, t = ((double)x - (double)most) / scale;
    if (!(t > -41)) return 0;
    const double n = __builtin_floor(t), y = (t - n) * ln2;
    double sum = term[0], power;
    for (int k = 1; k < 18; k++) sum = __builtin_fma(sum, y, term[k]);
    const u64 bits = (u64)(1023 + 40 + (int)n) << 52;
    __builtin_memcpy(&power, &bits, sizeof power);
    return (u64)(sum * power);
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

// n entries by their upper 32 bits, descending, equal ones in the order in which they stand. Four passes: the result is in `at` again.
DEVICE void sort(u64 *at, u64 *other, int n) {
    for (int shift = 32; shift < 64; shift += 8) {
        int start[256] = {0}, sum = 0;
        for (int i = 0; i < n; i++) start[at[i] >> shift & 255]++;
        for (int b = 255; b >= 0; b--) {
            const int count = start[b];
            start[b] = sum, sum += count;
        }
        for (int i = 0; i < n; i++) other[start[at[i] >> shift & 255]++] = at[i];
        u64 *t = at;
        at = other, other = t;
    }
}

DEVICE int draw(const float *x, float most, const int *p, Room *room) {
    const float top_p = as_f32((unsigned)p[2]);
    const double scale = (double)as_f32((unsigned)p[0]) * 0x1.62e42fefa39efp-1;
    const u64 least = (u64)__builtin_ceil((double)as_f32((unsigned)p[3]) * 0x1p40);
    u64 *order = (u64 *)room_of(room, (size_t)V * 24), *other = order + V, *w = other + V, total = 0, likely = 0, part = 0;
    int n = 0;
    for (int v = 0; v < V; v++) {
        const u64 o = ordered(x[v], v, 0);
        if (weight(x[v], most, scale)) order[n++] = (o & ~0xffffffffull) | (unsigned)v;
    }
    sort(order, other, n);
    for (int i = 0; i < n; i++) {
        w[i] = weight(x[(unsigned)order[i]], most, scale);
        if (p[1] <= 0 || i < p[1]) total += w[i];
        if (w[i] >= least) likely += w[i];
    }
    if (top_p < 1) {
        const u64 want = enough(total, top_p);
        for (int i = 0; part < want; i++) part += w[i];
        total = part;
    }
    if (likely < total) total = likely;
    const u64 target = scaled(random_of(p), total);
    int i = 0;
    for (part = w[0]; part <= target && i + 1 < n;) part += w[++i];
    return (int)(unsigned)order[i];
}

DEVICE void run(const Args a, int s, int y, Room *room) {
    (void)y;
    if (s >= row_count(a)) return;
    const float *x = a.logits + (long)s * V;
    u64 best = 0;
    for (int v = 0; v < V; v++) {
        const u64 o = ordered(x[v], v, ~0u); // a NaN wins
        best = o > best ? o : best;
    }
    int id = best >> 32 == ~0u ? -1 : (int)~(unsigned)best;
    const int *p = a.params + (long)s * 8;
    if (HAS_PARAMS && id >= 0 && as_f32((unsigned)p[0]) > 0) id = draw(x, x[id], p, room);
    a.ids[s] = id;
}
