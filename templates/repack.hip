//! kernel repack(w: bf16|mxfp4[(E),N,K]) -> (y: i32[_])
//! where  MATRIX
//! attr   PAIRS = repack.pairs
//! attr   HEAD = repack.head
//! const  SLABS = ceil(N, 16)
//! const  UNITS = ceil(K, 2 * WAVE)
//! grid   ceil(E * SLABS * UNITS, 256 / WAVE)
//! block  256
// A weight from the file's layout, rows of K, to fragment layout (lib/matrix.h), once, while it is loaded. A wave a unit. PAIRS 0: a
// slab is 16 rows; 1, 2: its 8 groups of two rows, 2j and 2j + 1 or the two halves of a head's.

DEVICE int row_of(int slab, int r) {
    if (!PAIRS) return slab * SLAB + r;
    for (int group = 0; group < 8; group++)
        for (int m = 0; m < 2; m++)
            if (tile_row(group, m) == r) {
                const int j = slab * 8 + group;
                return PAIRS == 1 ? 2 * j + m : j / (HEAD / 2) * HEAD + j % (HEAD / 2) + m * (HEAD / 2);
            }
    return 0;
}

DEVICE void unit(const bf16 *w, int *y, long first, int slab, int u) {
    for (int word = 0; word < 4; word++) {
        const int lane = threadIdx.x % WAVE;
        s16x8 v = {};
        for (int i = 0; i < 8; i++) {
            const int n = row_of(slab, value_row(lane, word, i)), k = u * UNIT_K + value_k(lane, word, i);
            if (n < N && k < K) v[i] = (short)w[(first + n) * K + k];
        }
        *(s16x8 *)(y + (word * WAVE + lane) * 4) = v;
    }
}

DEVICE void unit(const mxfp4 *w, int *y, long first, int slab, int u) {
    const int lane = threadIdx.x % WAVE;
    const mxfp4 *scales = w + (long)E * N * (K / 2);
    u32x4 words = {};
    for (int word = 0; word < 4; word++) {
        unsigned code[8];
        for (int i = 0; i < 8; i++) {
            const int n = row_of(slab, code_row(lane, word, i)), k = u * UNIT_K + code_k(lane, word, i);
            code[i] = n < N && k < K ? w[((first + n) * K + k) / 2] >> (k % 2 * 4) & 15u : 0;
        }
        words[word] = code_word(code);
    }
    *(u32x4 *)(y + lane * 4) = words;
    if (lane >= WAVE / 4) return;
    unsigned scale = 0;
    for (int i = 0; i < 4; i++) {
        const int n = row_of(slab, scale_row(lane, i)), block = u * (UNIT_K / 32) + scale_block(lane, i);
        scale |= (n < N && block < K / 32 ? scales[(first + n) * (K / 32) + block] : 127u) << (8 * i);
    }
    y[SLAB * UNIT_K / 8 + lane] = (int)scale;
}

template <class W> DEVICE void all(const Args &a, const W *w) {
    const long at = (long)blockIdx.x * (256 / WAVE) + threadIdx.x / WAVE;
    if (at >= (long)E * SLABS * UNITS) return;
    const long slab = at / UNITS;
    unit(w, a.y + at * (Unit<W>::BYTES / 4), slab / SLABS * N, (int)(slab % SLABS), (int)(at % UNITS));
}

DEVICE void run(const Args &a) { all(a, a.w); }
