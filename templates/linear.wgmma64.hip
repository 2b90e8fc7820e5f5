//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   sm_90
//! body   linear.wgmma.hip
//! tokens 64
//! priority 16
//! behind pairs asks
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 64
//! const  CLUSTER = 1
//! const  SLABS = N > 4 * 16 * 132 ? 8 : ceil(N, 16 * 132)
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TOKENS * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! grid   132
//! cluster CLUSTER
//! block  SLABS == 8 ? 384 : 256
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// As linear.wgmma.hip where reading the weights is what takes time: row tiles small enough that every multiprocessor has some.
// NMSE: the sums are those of linear.wgmma.hip, to the bit; at most 1.3e-11 at the 20b's shapes (H200, 2026-11-29).
