//! kernel group(ids: i32[T,R]) -> (perm: i32[_], tiles: i32[_,4])
//! attr  E = group.experts
//! attr  TILE = group.tile
//! grid  1
//! block 1
// A stable sort of the pairs by expert; then tiles: expert e's run of perm cut into pieces of at most TILE; unused entries are zero. A pair of
// expert -2 is left out.

DEVICE void run(const Args a, int x, int y, Room *room) {
    (void)x, (void)y, (void)room;
    const int pairs = row_count(a) * R;
    int next[E + 1], tile = 0;
    for (int e = 0; e <= E; e++) next[e] = 0;
    for (int p = 0; p < pairs; p++)
        if (a.ids[p] >= 0) next[a.ids[p] + 1]++;
    for (int e = 0; e < E; e++) next[e + 1] += next[e];
    for (int e = 0; e < E; e++)
        for (int first = next[e]; first < next[e + 1]; first += TILE) {
            int *to = a.tiles + tile++ * 4;
            to[0] = e, to[1] = first, to[2] = min_int(next[e + 1] - first, TILE), to[3] = 0;
        }
    for (int i = tile * 4; i < (E + pairs) * 4; i++) a.tiles[i] = 0;
    for (int p = 0; p < pairs; p++)
        if (a.ids[p] >= 0) a.perm[next[a.ids[p]]++] = p;
}
