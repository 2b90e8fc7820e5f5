//! kernel group(ids: i32[T,R]) -> (perm: i32[_], tiles: i32[_,4])
//! attr  E = group.experts
//! attr  TILE = group.tile
//! where E <= 1024
//! grid  1
//! block 256
// One block. Waves count and place the pairs of their experts WAVE at a time, in order, so the permutation is stable.
// Then tiles: expert e's run of perm cut into pieces of at most TILE; unused entries are zero.

DEVICE void run(const Args &a) {
    __shared__ int count[E], start[E + 1], tile[E + 1];
    const int pairs = row_count(a) * R, lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE;
    for (int e = wave; e < E; e += 256 / WAVE) {
        int n = 0;
        for (int p = 0; p < pairs; p += WAVE) n += bit_count(wave_ballot(p + lane < pairs && a.ids[p + lane] == e));
        if (lane == 0) count[e] = n;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        start[0] = tile[0] = 0;
        for (int e = 0; e < E; e++) {
            start[e + 1] = start[e] + count[e];
            tile[e + 1] = tile[e] + (count[e] + TILE - 1) / TILE;
        }
    }
    __syncthreads();
    for (int e = wave; e < E; e += 256 / WAVE) {
        int at = start[e];
        for (int p = 0; p < pairs; p += WAVE) {
            const bool mine = p + lane < pairs && a.ids[p + lane] == e;
            const u64 m = wave_ballot(mine);
            if (mine) a.perm[at + bits_below(m, lane)] = p + lane;
            at += bit_count(m);
        }
    }
    for (int e = threadIdx.x; e < E; e += 256)
        for (int i = tile[e]; i < tile[e + 1]; i++) {
            const int first = start[e] + (i - tile[e]) * TILE, left = start[e + 1] - first;
            a.tiles[i * 4] = e;
            a.tiles[i * 4 + 1] = first;
            a.tiles[i * 4 + 2] = left < TILE ? left : TILE;
            a.tiles[i * 4 + 3] = 0;
        }
    for (int i = tile[E] * 4 + threadIdx.x; i < (E + pairs) * 4; i += 256) a.tiles[i] = 0;
}
