//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! arch   sm_90
//! body   expert_linear.wgmma.hip
//! tokens 192
//! priority 16
//! behind pairs asks
//! layout w = fragment
//! early  ids
//! where  K % 32 == 0
//! const  TILE = 128
//! const  TOKENS = 64
//! const  SLABS = 16
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TOKENS * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! group  perm, tiles = ids, TILE
//! grid   132
//! block  640
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// As expert_linear.wgmma.hip where most experts have few tokens, and taking their weights apart is what takes time: more warps, whose
// accumulators are of TOKENS tokens only. A tile is the list's of TILE, in two halves: all first ones come before the second ones.
