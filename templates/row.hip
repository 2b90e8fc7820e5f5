//! kernel row() -> ()
//! grid  T * R
//! block 256
//! tol   strict 1e-16 fast 1e-12
// All is generated, and takes a statistic of each row: a block a row.
// NMSE in fast: a scale in float.

DEVICE void run(const Args &a) {
    __shared__ real part[ROW_PARTS];
    const int t = blockIdx.x;
    if (t >= row_count(a) * R) return;
    const real row = own_stat(row_sum<256 / WAVE>([&](int q) { return own_sum(a, t, q); }, part));
    strided<COLUMNS, 256>(threadIdx.x, [&](int n) { each(a, row, t, n); });
}
