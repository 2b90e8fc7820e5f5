//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   sm_90
//! tokens 64
//! priority 15
//! behind pairs asks
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 64
//! const  SLABS = N > 4 * 16 * 132 ? 8 : ceil(N, 16 * 132)
//! const  PIECE = w_MXFP4 ? 5 : 2
//! const  PART = PIECE * (w_MXFP4 ? 544 : 2048)
//! const  PIECES = min(8, 131072 / (SLABS * PART))
//! const  STAGES = min(16, (LDS_ALL - PIECES * (SLABS * PART + 16)) / (TOKENS * 128 + 16))
//! grid   132
//! block  SLABS == 8 ? 384 : 256
//! lds    STAGES * (TOKENS * 128 + 16) + PIECES * (SLABS * PART + 16)
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// NMSE: the sums are those of linear.wgmma.hip, to the bit; at most 1.3e-11 at the 20b's shapes (H200, 2026-11-29).
// As linear.wgmma.hip where reading the weights is what takes time: row tiles small enough that every multiprocessor has some.

struct Results : Behind {
    METHOD int row(int t) const { return t; }
    METHOD const float *bias(const Item &) const { return HAS_B ? a.b : 0; }
};

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    typedef Gemm<W, K, N, SLABS, TOKENS, STAGES, PIECE, PIECES> Product;
    static_assert(Product::BYTES == STAGES * (TOKENS * 128 + 16) + PIECES * (SLABS * PART + 16), "the head knows the ring's size");
    const Dense items = Dense::plan(row_count(a), N, SLABS, TOKENS);
    Product::template run<true>(w, items.parts == 1, a.x, lds, items, [](int t) { return t; }, Results{{a}});
}

DEVICE void run(const Args &a) { compute(a, a.w); }
