//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   sm_90
//! body   linear.wgmma.hip
//! tokens 256
//! priority 15
//! behind pairs asks
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 128
//! const  CLUSTER = 2
//! const  SLABS = N <= 4 * 16 * 66 ? ceil(N, 16 * 66) : 8
//! tune   SLABS 4 6 8
//! where  N <= 16384
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TOKENS * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! grid   132
//! cluster CLUSTER
//! block  SLABS > 4 ? 384 : 256
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// As linear.wgmma.hip where what comes in to a multiprocessor, at most about 70 GB/s of an H200's, is what takes time: row tiles small
// enough that there are many, tokens shared out within a cluster (H200, 2026-11-29, 256 tokens: O 20.5 µs for 34.7, QKV 29 for 32).
