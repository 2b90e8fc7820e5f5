//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! where  MATRIX
//! tokens 1
//! priority 30
//! front  x
//! behind pairs ranks asks
//! layout w = fragment
//! early  ids
//! where  K % 32 == 0
//! const  ROWS = x_RANK == 3 ? R : 1
//! const  ROW = (WAVE == 32 ? ceil(K, 64) * 64 : K) + 8
//! const  PIECE = w_MXFP4 ? 5 : 2
//! const  STAGES = x_RANK == 3 ? 6 : 4
//! tune   STAGES 3 6
//! const  RING = WAVE == 32 ? ceil(STAGES * (PIECE * (w_MXFP4 ? 544 : 2048) + 8), 128) * 128 : 0
//! where  ROWS * ROW * 2 + R * RING + 8192 <= LDS_ALL
//! grid   min(ceil(N, 16), WAVE == 32 ? 528 : 832), T
//! block  R * WAVE
//! lds    ROWS * ROW * 2 + R * RING + 128
//! overlaps
//! reduce mma16
//! tol    fast 1e-12, sm_90 1e-10
// One token: a block has the same 16 rows of all the experts that it chose, a wave each, so that it can give their results together.
// A wave of expert -2, another device's, gives none, and its row is not read.
// NMSE at most 2e-14 on gfx90a (emu, tiny and toy, 2026-11-29); a rounding inside that turns is granted by the judge. On sm_90 at
// most 2.1e-13 (tiny, odd, d80, sparse); the sums are those of wgmma, at most 1.7e-11 at the 20b's shapes (H200, 2026-11-29).

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(128))) char lds[];
    __shared__ __attribute__((aligned(16))) char table[Unit<W>::LDS_BYTES + 16];
    __shared__ real part[ROW_PARTS];
    __shared__ float results[2][R][SLAB];
    static_assert(Stream<W, K, PIECE, STAGES>::RING <= RING, "the head knows the ring's size");
    const int rank = threadIdx.x / WAVE, t = blockIdx.y, slabs = slabs_of(N), stride = (int)gridDim.x;
    int some = -1; // a rank whose expert is here
    if (t >= row_count(a)) return;
    bf16(*rows)[ROW] = (bf16(*)[ROW])(lds + R * RING);
    auto here = [&](int r) { return !IDS_SOME || a.ids[(long)t * R + r] >= 0; };
    RowCopy<R * WAVE, K, ROW> copy;
    auto ask = [&] {
        if (X_PLAIN && ROWS == 1) copy.ask(a.x + (long)t * K, threadIdx.x);
    };
    auto stage = [&] {
        if (X_PLAIN && ROWS == 1) copy.keep(rows[0], threadIdx.x);
        else if (X_PLAIN) stage_rows<R, K>(rows, ROWS, [&](int i) { return a.x + (long)(t * ROWS + (here(i) ? i : some)) * K; });
        for (int i = 0; !X_PLAIN && i < ROWS; i++) {
            if (ROWS > 1 && !here(i)) continue;
            const real row = X_ROW ? x_stat(row_sum<R>([&](int q) { return x_sum(a, t * ROWS + i, q); }, part)) : 0;
            make_row<R * WAVE, K>(rows[i], threadIdx.x, [&](int k) { return x_at(a, row, t * ROWS + i, k); });
        }
    };
    if (!IDS_EARLY) overlap_wait(), ask(); // before the weights: behind them it would wait
    const int expert = a.ids[(long)t * R + rank], n = IDS_SOME && expert < 0 ? 0 : (slabs - (int)blockIdx.x + stride - 1) / stride;
    for (int r = 0; IDS_SOME && r < R; r++)
        if (here(r)) some = r;
    if (IDS_SOME && some < 0) { // what waits for this launch waits for those before it, too
        if (IDS_EARLY) overlap_wait();
        return;
    }
    const float *bias = a.b + (long)expert * N;
    auto where = [&](int i) { return slab_at(w, (long)expert * slabs + blockIdx.x + i * stride, K); };
    Stream<W, K, PIECE, STAGES> stream;
    stream.begin(where, n, lds + rank * RING);
    if (IDS_EARLY) overlap_wait(), ask();
    overlap_next();
    stage();
    const Behind behind = {a};
    Ending<Behind, 1> end;
    end.begin(behind, 1, [&](int) { return RANKS ? t : t * R + rank; });
    const Dequant d = Unit<W>::dequant(table);
    __syncthreads();
    for (int s = 0; s < n; s++) {
        const int slab = blockIdx.x + s * stride, column = slab * SLAB + threadIdx.x;
        const bool gives = RANKS && threadIdx.x < SLAB && column < N;
        Behind::Asks asked;
        if (gives) asked = behind.ask(behind.token(t), t, column);
        if (RANKS) end.bias = slab_bias<1>(slab, N, bias, out_row);
        else end.ask(behind, slab, N, bias);
        Acc acc = {};
        slab_product<1>(stream, &acc, rows + (ROWS == 1 ? 0 : rank), 1, where, d);
        if (!RANKS) {
            end.give(behind, &acc, slab, N);
            continue;
        }
        add_bias(acc, end.bias);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int m = 0; m < 2; m++)
                if (acc_token(i) == 0) results[s & 1][rank][tile_row(acc_group(i), m)] = acc.c[i + 2 * m];
        __syncthreads();
        if (gives) {
            float v[R];
#pragma unroll
            for (int r = 0; r < R; r++) v[r] = results[s & 1][r][threadIdx.x];
            behind.give(behind.token(t), t, column, v, asked);
        }
    }
}

DEVICE void run(const Args &a) { compute(a, a.w); }
