//! kernel group(ids: i32[T,R]) -> (perm: i32[_], tiles: i32[_,4])
//! attr  E = group.experts
//! attr  TILE = group.tile
//! where E <= 1024
//! const RUNS = min(1024 / WAVE, 8192 / E)
//! grid  1
//! block 1024
// One block. The pairs are cut into RUNS runs, one a wave, which counts the pairs of each expert; then it knows where its own of each begin,
// and places them, in order, so the permutation is stable. Then tiles: expert e's run of perm cut into pieces of at most TILE; unused
// entries are zero. A pair of expert -2 is left out.

// The lanes whose expert is e, too: a ballot for each of its bits. No lane without a pair, or of expert -2, is among them.
DEVICE u64 same(int e, bool there) {
    u64 m = wave_ballot(there);
    for (int bit = 1; bit < E; bit *= 2) {
        const u64 set = wave_ballot(e & bit);
        m &= e & bit ? set : ~set;
    }
    return m;
}

DEVICE void run(const Args &a) {
    __shared__ int at[RUNS][E], count[E];
    const int pairs = row_count(a) * R, lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE;
    const int length = (pairs + RUNS * WAVE - 1) / (RUNS * WAVE) * WAVE, first = wave * length, left = pairs - first, n = left < length ? left : length;
    for (int i = threadIdx.x; i < RUNS * E; i += 1024) at[i / E][i % E] = 0;
    __syncthreads();
    for (int i = 0; wave < RUNS && i < n; i += WAVE) {
        const int e = i + lane < n ? a.ids[first + i + lane] : -1;
        const u64 m = same(e, e >= 0);
        if (e >= 0 && bits_below(m, lane) == 0) lds_add(&at[wave][e], bit_count(m));
    }
    __syncthreads();
    for (int e = threadIdx.x; e < E; e += 1024) {
        int sum = 0;
#pragma unroll 4
        for (int r = 0; r < RUNS; r++) {
            const int own = at[r][e];
            at[r][e] = sum, sum += own;
        }
        count[e] = sum;
    }
    __syncthreads();
    int used = 0; // tiles of all experts
#pragma unroll 4
    for (int e = 0; e < E; e++) used += (count[e] + TILE - 1) / TILE;
    for (int e = threadIdx.x; e < E; e += 1024) {
        int start = 0, tile = 0;
#pragma unroll 4
        for (int before = 0; before < e; before++) start += count[before], tile += (count[before] + TILE - 1) / TILE;
#pragma unroll 4
        for (int r = 0; r < RUNS; r++) at[r][e] += start;
        for (int i = 0; i < count[e]; i += TILE, tile++) {
            a.tiles[tile * 4] = e;
            a.tiles[tile * 4 + 1] = start + i;
            a.tiles[tile * 4 + 2] = count[e] - i < TILE ? count[e] - i : TILE;
            a.tiles[tile * 4 + 3] = 0;
        }
    }
    for (int i = used * 4 + threadIdx.x; i < (E + pairs) * 4; i += 1024) a.tiles[i] = 0;
    __syncthreads();
    for (int i = 0; wave < RUNS && i < n; i += WAVE) {
        const int e = i + lane < n ? a.ids[first + i + lane] : -1;
        const u64 m = same(e, e >= 0);
        const int rank = bits_below(m, lane);
        if (e >= 0) a.perm[at[wave][e] + rank] = first + i + lane;
        wave_sync();
        if (e >= 0 && rank == 0) at[wave][e] += bit_count(m);
        wave_sync();
    }
}
