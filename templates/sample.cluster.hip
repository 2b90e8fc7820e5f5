//! kernel sample(logits: f32[T,V], params?: i32[T,8]) -> (ids: i32[T])
//! arch   sm_90
//! body   sample.hip
//! tokens 64
//! priority 10
//! const  SPLIT = 8
//! grid   T * SPLIT
//! cluster SPLIT
//! block  256
// Few rows: what comes in to one multiprocessor would take 11 µs of a row of 201,088.
