/* model.c - the public face of model.h: open a checkpoint, find a canonical tensor's parts, read them as a type, and
 * the rope tables.
 *
 * A canonical tensor is a list of parts along its outermost dimension (Expr), made from its layout's Row and verified
 * against the file each time it is looked up; nothing is cached, so that threads may read one Model at once. */
#include "model_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ir/near.h"

const CanonInfo canon_table[C_COUNT] = {
#define X(e, name, dims, layer) [C_##e] = {name, dims, layer},
    CANON(X)
#undef X
};

int64_t model_dim(const ModelConfig *c, char letter) {
    switch (letter) {
    case 'V': return c->vocab;
    case 'H': return c->hidden;
    case 'I': return c->intermediate;
    case 'G': return 2 * c->intermediate;
    case 'E': return c->experts;
    case 'S': return c->heads;
    case 'Q': return c->heads * c->head_dim;
    case 'K': return c->kv_heads * c->head_dim;
    case 'R': return (c->heads + 2 * c->kv_heads) * c->head_dim;
    case 'L': return c->layers;
    }
    die("model_dim: no dimension %c", letter);
}

/* Names in a hostile file must not forge lines of output. */
static void make_printable(Err *e) {
    for (char *p = e->msg; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) *p = '?';
}

/* --- the index of file tensors --- */

void model_add_tensor(Model *m, const FileTensor *t) {
    if (m->n_index == m->cap_index) {
        size_t cap = m->cap_index ? 2 * m->cap_index : 64;
        m->index = arena_grow(m->arena, m->index, m->n_index * sizeof *m->index, cap * sizeof *m->index);
        m->cap_index = cap;
    }
    m->index[m->n_index++] = t;
}

bool model_add_file(Model *m, const char *path, SafeTensors **s, Err *e) {
    PUSH(m->arena, m->files, (SafeTensors){0});
    *s = &m->files.at[m->files.n - 1];
    return safetensors_open(*s, m->arena, path, e);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const FileTensor *const *)a)->name, (*(const FileTensor *const *)b)->name);
}

static bool sort_index(Model *m, Err *e) {
    if (m->n_index) qsort(m->index, m->n_index, sizeof *m->index, by_name);
    for (size_t i = 1; i < m->n_index; i++)
        if (!by_name(&m->index[i - 1], &m->index[i]))
            return err_set(e, "%s: tensor %.80s is in %s too", m->index[i]->file, m->index[i]->name,
                           m->index[i - 1]->file);
    return true;
}

static const FileTensor *find(const Model *m, const char *name) {
    FileTensor key = {.name = name};
    const FileTensor *k = &key, **t = NULL;
    if (m->n_index) t = bsearch(&k, m->index, m->n_index, sizeof *m->index, by_name);
    return t ? *t : NULL;
}

/* --- from a canonical name to parts --- */

enum { NAME_MAX_LEN = 128 };

typedef enum PartKind { PART_DENSE, PART_TRANSPOSED, PART_MXFP4, PART_ZERO } PartKind;

typedef struct Part Part;
struct Part {
    PartKind kind;
    const FileTensor *t, *scales; /* t: the blocks of an MXFP4 part; NULL for PART_ZERO */
    const uint8_t *at;            /* t's data, or this layer's slice of them */
    int64_t rows;                 /* of the canonical tensor's outermost dimension */
};

typedef struct Expr Expr;
struct Expr {
    ModelTensor tensor;
    int64_t row; /* elements per outermost row */
    int n;
    Part part[3];
};

static bool no_name(const char *name, const char *rest, bool in_layer, Err *e) {
    char near[NAME_MAX_LEN] = "";
    Near n = {rest};
    for (int i = 0; i < C_COUNT; i++)
        if (canon_table[i].layer == in_layer) near_try(&n, canon_table[i].name);
    if (n.best) snprintf(near, sizeof near, " (did you mean %.*s%s?)", (int)(rest - name), name, n.best);
    return err_set(e, "no tensor is called %.80s%.100s", name, near);
}

/* "layer7.attn.o.w" -> C_O_W and 7. */
static bool parse_name(const ModelConfig *c, const char *name, Canon *id, int *layer, Err *e) {
    const char *rest = name;
    *layer = -1;
    if (!strncmp(name, "layer", 5) && name[5] >= '0' && name[5] <= '9') {
        char *end;
        unsigned long n = strtoul(name + 5, &end, 10);
        if (*end != '.' || n >= (unsigned long)c->layers)
            return err_set(e, "no tensor %.80s: the model has %lld layers", name, (long long)c->layers);
        *layer = (int)n;
        rest = end + 1;
    }
    for (int i = 0; i < C_COUNT; i++)
        if (canon_table[i].layer == (*layer >= 0) && !strcmp(canon_table[i].name, rest)) return *id = (Canon)i, true;
    return no_name(name, rest, *layer >= 0, e);
}

bool model_canonical(const ModelConfig *c, const char *name, ModelTensor *t, Err *e) {
    Canon id;
    int layer;
    if (!parse_name(c, name, &id, &layer, e)) return false;
    const char *dims = canon_table[id].dims;
    *t = (ModelTensor){.rank = (int)strlen(dims)};
    for (int i = 0; i < t->rank; i++) t->shape[i] = model_dim(c, dims[i]);
    t->dtype = id == C_MLP1_W || id == C_MLP2_W ? c->experts_dtype : t->rank > 1 ? c->dense : DT_F32;
    return true;
}

static void shape_text(char *out, size_t size, const int64_t *shape, int rank) {
    size_t n = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (n < size) snprintf(out + n, size - n, "]");
}

static bool check_shape(const FileTensor *t, const int64_t *want, int rank, Err *e) {
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->shape[i] == want[i];
    if (same) return true;
    char a[160], b[160];
    shape_text(a, sizeof a, t->shape, t->rank);
    shape_text(b, sizeof b, want, rank);
    return err_set(e, "%s: tensor %.80s: shape is %s, expected %s", t->file, t->name, a, b);
}

static int dims_shape(const Model *m, const char *dims, int64_t *shape) {
    int rank = 0;
    for (; dims[rank]; rank++) shape[rank] = model_dim(&m->config, dims[rank]);
    return rank;
}

static bool missing(const Model *m, const char *file_name, const char *name, Err *e) {
    return err_set(e, "%s: tensor %.100s is missing (%s)", m->path, file_name, name);
}

static bool mxfp4_part(const Model *m, const char *base, const char *name, const char *dims, Part *p, Err *e) {
    char scales[NAME_MAX_LEN];
    int64_t shape[FILE_MAX_RANK];
    int rank = dims_shape(m, dims, shape);
    snprintf(scales, sizeof scales, "%s%s", base, m->layout->scales);
    p->kind = PART_MXFP4;
    p->scales = find(m, scales);
    if (!p->scales) return missing(m, scales, name, e);
    if (p->t->dtype != FT_U8 || p->scales->dtype != FT_U8) {
        const FileTensor *bad = p->t->dtype != FT_U8 ? p->t : p->scales;
        return err_set(e, "%s: tensor %.80s: type is %s, expected U8", bad->file, bad->name,
                       file_dtype_name(bad->dtype));
    }
    shape[rank - 1] /= 32;
    if (!check_shape(p->scales, shape, rank, e)) return false;
    shape[rank] = 16;
    if (!check_shape(p->t, shape, rank + 1, e)) return false;
    p->at = p->t->at;
    p->rows = shape[0];
    return true;
}

static bool dense_part(const Model *m, const char *dims, const char *canon, int layer, Part *p, Err *e) {
    const FileTensor *t = p->t;
    int64_t shape[FILE_MAX_RANK];
    int rank = dims_shape(m, dims, shape), stacked = dims[0] == 'L';
    if (!check_shape(t, shape, rank, e)) return false;
    if (t->dtype != FT_BF16 && t->dtype != FT_F32 && t->dtype != FT_F16)
        return err_set(e, "%s: tensor %.80s: type is %s, expected BF16, F16 or F32", t->file, t->name,
                       file_dtype_name(t->dtype));
    p->at = t->at + (stacked ? t->size / (size_t)m->config.layers * (size_t)layer : 0);
    p->rows = shape[stacked];
    bool swapped = !stacked && rank > 2 && dims[rank - 1] != canon[rank - 1];
    p->kind = swapped ? PART_TRANSPOSED : PART_DENSE;
    return true;
}

static bool resolve_part(const Model *m, Canon id, int i, int layer, const char *name, Part *p, Err *e) {
    const Row *row = &m->layout->row[id];
    const char *dims = row->part[i].dims ? row->part[i].dims : canon_table[id].dims;
    char base[NAME_MAX_LEN] = "", blocks[NAME_MAX_LEN];
    *p = (Part){0};
    if (!m->attention_bias && (id == C_QKV_B || id == C_O_B)) {
        p->kind = PART_ZERO;
        p->rows = model_dim(&m->config, dims[0]);
        return true;
    }
    if (canon_table[id].layer && m->layout->prefix) snprintf(base, sizeof base, m->layout->prefix, layer);
    snprintf(base + strlen(base), sizeof base - strlen(base), "%s", row->part[i].name);
    if (m->layout->blocks && (id == C_MLP1_W || id == C_MLP2_W)) {
        snprintf(blocks, sizeof blocks, "%s%s", base, m->layout->blocks);
        if ((p->t = find(m, blocks))) return mxfp4_part(m, base, name, canon_table[id].dims, p, e);
    }
    if ((p->t = find(m, base))) return dense_part(m, dims, canon_table[id].dims, layer, p, e);
    return missing(m, base, name, e);
}

static DType part_dtype(const Part *p) {
    if (p->kind == PART_MXFP4) return DT_MXFP4;
    return p->t && p->t->dtype != FT_BF16 ? DT_F32 : DT_BF16; /* F32 holds every F16 */
}

static bool resolve(const Model *m, const char *name, Expr *x, Err *e) {
    Canon id = C_COUNT;
    int layer;
    *x = (Expr){.row = 1};
    if (!parse_name(&m->config, name, &id, &layer, e)) return err_wrap(e, "%s", m->path);
    x->tensor.rank = dims_shape(m, canon_table[id].dims, x->tensor.shape);
    for (int i = 1; i < x->tensor.rank; i++) x->row *= x->tensor.shape[i];
    if (id == C_UNEMBED && m->tied) id = C_EMBED;
    x->tensor.dtype = DT_COUNT;
    for (; x->n < 3 && m->layout->row[id].part[x->n].name; x->n++) {
        Part *p = &x->part[x->n];
        if (!resolve_part(m, id, x->n, layer, name, p, e)) return false;
        DType d = part_dtype(p);
        if (x->tensor.dtype == DT_COUNT || d == DT_F32) x->tensor.dtype = d; /* mixed types: the one that holds all */
    }
    return true;
}

bool model_tensor(const Model *m, const char *name, ModelTensor *t, Err *e) {
    Expr x;
    if (!resolve(m, name, &x, e)) return false;
    return *t = x.tensor, true;
}

static const char *canon_name(char out[NAME_MAX_LEN], Canon id, int layer) {
    if (canon_table[id].layer) snprintf(out, NAME_MAX_LEN, "layer%d.%s", layer, canon_table[id].name);
    else snprintf(out, NAME_MAX_LEN, "%s", canon_table[id].name);
    return out;
}

static size_t place_in_index(const Model *m, const FileTensor *t) {
    const FileTensor **at = bsearch(&t, m->index, m->n_index, sizeof *m->index, by_name);
    return (size_t)(at - m->index);
}

/* Is it of a layer that the model has? And no table that older files store but nobody reads, nor a bias that is left out. */
static bool matters(const Model *m, const char *name) {
    int layer = -1, n = 0;
    size_t len = strlen(name), tail = strlen(".inv_freq");
    if (m->layout->prefix && sscanf(name, m->layout->prefix, &layer) == 1) {
        char prefix[NAME_MAX_LEN];
        n = snprintf(prefix, sizeof prefix, m->layout->prefix, layer);
        if (strncmp(name, prefix, (size_t)n)) return false;
    }
    if (layer < 0 || layer >= m->config.layers || (len > tail && !strcmp(name + len - tail, ".inv_freq"))) return false;
    bool bias = !strncmp(name + n, "self_attn.", 10) && len > 5 && !strcmp(name + len - 5, ".bias");
    return m->attention_bias || !bias;
}

static bool check_unused(const Model *m, const bool *used, Err *e) {
    for (size_t i = 0; i < m->n_index; i++)
        if (!used[i] && matters(m, m->index[i]->name))
            return err_set(e, "%s: tensor %.100s is none of gpt-oss's: there is no op for it", m->index[i]->file,
                           m->index[i]->name);
    return true;
}

bool model_check(const Model *m, Err *e) {
    char name[NAME_MAX_LEN];
    Expr x;
    bool ok = true, *used = calloc(m->n_index + 1, sizeof *used);
    if (!used) return err_set(e, "%s: out of memory", m->path);
    for (int layer = 0; ok && layer < m->config.layers; layer++)
        for (int id = 0; ok && id < C_COUNT; id++) {
            if (!canon_table[id].layer && layer) continue;
            ok = resolve(m, canon_name(name, (Canon)id, layer), &x, e);
            for (int i = 0; ok && i < x.n; i++) {
                if (x.part[i].t) used[place_in_index(m, x.part[i].t)] = true;
                if (x.part[i].scales) used[place_in_index(m, x.part[i].scales)] = true;
            }
        }
    ok = ok && check_unused(m, used, e);
    free(used);
    if (!ok) make_printable(e);
    return ok;
}

/* --- open --- */

static bool open_folder(Model *m, Err *e) {
    const char *path = arena_printf(m->arena, "%s/config.json", m->path),
               *cache = arena_printf(m->arena, "%s/snapshots", m->path);
    struct stat st;
    if (stat(path, &st) && !stat(cache, &st))
        return err_set(e, "%s: a cache of the hub's, not a checkpoint: give one of the folders in %s", m->path, cache);
    json_t *root = config_load(path, e);
    ConfigKind kind;
    bool ok = root && config_kind(root, path, &kind, e) &&
              (kind == CONFIG_HF ? model_hf_open : model_openai_open)(m, root, path, e);
    json_decref(root);
    return ok;
}

/* The types that hold every weight: F32 when any is, MXFP4 only when all are. What is missing model_check reports. */
static void find_dtypes(Model *m) {
    static const Canon dense[] = {C_EMBED, C_UNEMBED, C_QKV_W, C_O_W, C_ROUTER_W}, experts[] = {C_MLP1_W, C_MLP2_W};
    char name[NAME_MAX_LEN];
    bool f32 = false, wide = false, bf16 = false, mxfp4 = false;
    Err ignored;
    Expr x;
    for (int layer = 0; layer < m->config.layers; layer++) {
        for (size_t i = 0; i < LEN(dense); i++)
            if (resolve(m, canon_name(name, dense[i], layer), &x, &ignored)) f32 |= x.tensor.dtype == DT_F32;
        for (size_t i = 0; i < LEN(experts); i++) {
            if (!resolve(m, canon_name(name, experts[i], layer), &x, &ignored)) continue;
            wide |= x.tensor.dtype == DT_F32;
            bf16 |= x.tensor.dtype == DT_BF16;
            mxfp4 |= x.tensor.dtype == DT_MXFP4;
        }
    }
    m->config.dense = f32 ? DT_F32 : DT_BF16;
    m->config.experts_dtype = wide ? DT_F32 : mxfp4 && !bf16 ? DT_MXFP4 : DT_BF16;
}

Model *model_open(const char *path, bool swap_embeddings, Err *e) {
    struct stat st;
    Arena *a = arena_new();
    Model *m = arena_alloc(a, sizeof *m);
    m->arena = a;
    m->path = arena_strdup(a, path);
    m->attention_bias = true;
    bool ok;
    if (stat(path, &st)) ok = err_set(e, "%s: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode) && swap_embeddings)
        ok = err_set(e, "%s: --swap-embeddings is for .bin checkpoints only", path);
    else ok = S_ISDIR(st.st_mode) ? open_folder(m, e) : model_bin_open(m, swap_embeddings, e);
    if (ok && sort_index(m, e)) {
        find_dtypes(m);
        return m;
    }
    make_printable(e);
    model_close(m);
    return NULL;
}

void model_close(Model *m) {
    if (!m) return;
    for (size_t i = 0; i < m->files.n; i++) safetensors_close(&m->files.at[i]);
    mapped_close(&m->bin);
    arena_free(m->arena);
}

const ModelConfig *model_config(const Model *m) { return &m->config; }
const char *model_layout(const Model *m) { return m->layout->name; }

/* --- what tells it from others --- */

enum { SAMPLES = 4, SAMPLE_BYTES = 4096 };
static const size_t HASH_WHOLE = 64 << 20; /* bytes of a checkpoint that take no time to read */

static uint64_t hash_on(uint64_t h, const void *bytes, size_t n) {
    uint64_t both[2] = {h, hash64(bytes, n)};
    return hash64(both, sizeof both);
}

/* All bytes of the tensor, or some, evenly spread, the first and the last among them. */
static uint64_t hash_tensor(uint64_t h, const FileTensor *t, bool whole) {
    h = hash_on(h, t->name, strlen(t->name));
    h = hash_on(h, &t->dtype, sizeof t->dtype);
    h = hash_on(h, t->shape, (size_t)t->rank * sizeof *t->shape);
    if (whole || t->size <= (size_t)SAMPLES * SAMPLE_BYTES) return hash_on(h, t->at, t->size);
    for (size_t i = 0; i < SAMPLES; i++)
        h = hash_on(h, t->at + (t->size - SAMPLE_BYTES) / (SAMPLES - 1) * i, SAMPLE_BYTES);
    return h;
}

uint64_t model_fingerprint(const Model *m) {
    size_t size = 0;
    for (size_t i = 0; i < m->n_index; i++) size += m->index[i]->size;
    uint64_t h = hash_on(0, m->config.eos, (size_t)m->config.n_eos * sizeof *m->config.eos);
    for (size_t i = 0; i < m->n_index; i++) h = hash_tensor(h, m->index[i], size <= HASH_WHOLE);
    return h;
}

/* --- conversions --- */

static bool narrow(const uint8_t *src, size_t n, bool may_round, uint8_t *dst, Err *e) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, src + 4 * i, 4);
        if ((u & 0xffff) && !may_round)
            return err_set(e,
                           "%.9g is not exact in bf16, and the plan is not to round it: recompile with --model for "
                           "this checkpoint",
                           (double)f32_of_bits(u));
        uint16_t h = bf16_of_f32(f32_of_bits(u));
        memcpy(dst + 2 * i, &h, 2);
    }
    return true;
}

static float f32_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
    if (e == 0) return f32_of_bits(sign | bits_of_f32((float)m * 0x1p-24f)); /* subnormals too */
    return f32_of_bits(sign | (e == 31 ? 0xffu : e + 112) << 23 | m << 13);
}

static void widen_f16(const uint8_t *src, size_t n, uint8_t *dst) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        float f = f32_of_f16(h);
        memcpy(dst + 4 * i, &f, 4);
    }
}

static bool narrow_f16(const uint8_t *src, size_t n, bool may_round, uint8_t *dst, Err *e) {
    uint8_t some[256 * 4];
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < 256 ? n - i : 256;
        widen_f16(src + 2 * i, k, some);
        if (!narrow(some, k, may_round, dst + 2 * i, e)) return false;
    }
    return true;
}

/* n elements of a file tensor, wherever they are aligned, as F32 or BF16. */
static bool convert(const uint8_t *src, FileDType have, DType want, size_t n, bool may_round, uint8_t *dst, Err *e) {
    if (have == FT_F16) return want == DT_F32 ? (widen_f16(src, n, dst), true) : narrow_f16(src, n, may_round, dst, e);
    bool wide = have == FT_F32;
    if (wide == (want == DT_F32)) return memcpy(dst, src, n * (wide ? 4 : 2)), true;
    if (wide) return narrow(src, n, may_round, dst, e);
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        uint32_t u = (uint32_t)h << 16;
        memcpy(dst + 4 * i, &u, 4);
    }
    return true;
}

/* Columns [first, first + count) of src [rows][cols], elements of `size` bytes, become dst [count][rows]; in tiles, so
 * that reads and writes both stay in the cache. */
static void transpose_strip(const uint8_t *src, size_t rows, size_t cols, size_t size, size_t first, size_t count,
                            uint8_t *dst) {
    for (size_t r0 = 0; r0 < rows; r0 += 32) {
        size_t end = rows - r0 < 32 ? rows : r0 + 32;
        for (size_t c = 0; c < count; c++) {
            const uint8_t *s = src + (first + c) * size;
            if (size == 2)
                for (size_t r = r0; r < end; r++) memcpy(dst + (c * rows + r) * 2, s + r * cols * 2, 2);
            else
                for (size_t r = r0; r < end; r++) memcpy(dst + (c * rows + r) * 4, s + r * cols * 4, 4);
        }
    }
}

enum { STRIP = 32 }; /* columns at a time: 64 bytes of bf16, a cache line */

static bool read_transposed(const Part *p, const ModelTensor *t, DType want, bool may_round, int64_t first,
                            int64_t count, uint8_t *dst, Err *e) {
    size_t rows = (size_t)t->shape[2], cols = (size_t)t->shape[1]; /* in the file: [E, rows, cols] */
    size_t size = file_dtype_size(p->t->dtype), out = want == DT_F32 ? 4 : 2;
    uint8_t *strip = malloc(STRIP * rows * size);
    bool ok = strip || err_set(e, "out of memory (asked for %zu bytes)", STRIP * rows * size);
    for (size_t i = 0; ok && i < (size_t)count; i++)
        for (size_t c = 0; ok && c < cols; c += STRIP) {
            size_t n = cols - c < STRIP ? cols - c : STRIP;
            transpose_strip(p->at + ((size_t)first + i) * rows * cols * size, rows, cols, size, c, n, strip);
            ok = convert(strip, p->t->dtype, want, n * rows, may_round, dst + (i * cols + c) * rows * out, e);
        }
    free(strip);
    return ok;
}

/* Bytes [first, first + n) of a tensor of scales. */
static bool no_nan_scale(const FileTensor *scales, size_t first, size_t n, Err *e) {
    const uint8_t *bad = memchr(scales->at + first, 255, n);
    return !bad || err_set(e, "%s: tensor %.80s: MXFP4 scale byte %zu is 255 (NaN)", scales->file, scales->name,
                           (size_t)(bad - scales->at));
}

/* One block's 16 bytes as 32 values of the table's type; low nibble first. */
#define EXPAND(type, table)                                                                                            \
    do {                                                                                                               \
        type v[32];                                                                                                    \
        for (int i = 0; i < 16; i++) v[2 * i] = table[codes[i] & 15], v[2 * i + 1] = table[codes[i] >> 4];             \
        memcpy(dst + sizeof v * b, v, sizeof v);                                                                       \
    } while (0)

static bool overflows(const uint8_t *codes, const float *value) {
    bool bad = false;
    for (int i = 0; i < 16; i++) bad |= isinf(value[codes[i] & 15]) || isinf(value[codes[i] >> 4]);
    return bad;
}

/* n blocks from block `first` on. */
static bool dequantise(const Part *p, size_t first, size_t n, DType want, uint8_t *dst, Err *e) {
    const uint8_t *blocks = p->at + 16 * first, *scales = p->scales->at + first;
    float f32[16];
    uint16_t bf16[16];
    for (size_t b = 0; b < n; b++) {
        const uint8_t *codes = blocks + 16 * b;
        float scale = e8m0_scale(scales[b]);
        for (int i = 0; i < 16; i++) {
            f32[i] = e2m1_table[i] * scale;
            bf16[i] = (uint16_t)(bits_of_f32(f32[i]) >> 16); /* exact: at most two significant bits */
        }
        if (scales[b] >= 253 && overflows(codes, f32))
            return err_set(e, "%s: tensor %.80s: MXFP4 scale byte %zu is %d: the value overflows", p->scales->file,
                           p->scales->name, first + b, scales[b]);
        if (want == DT_F32) EXPAND(float, f32);
        else EXPAND(uint16_t, bf16);
    }
    return true;
}

static bool read_mxfp4(const Part *p, int64_t row, DType want, int64_t first, int64_t count, uint8_t *dst, Err *e) {
    size_t skip = (size_t)(first * row / 32), n = (size_t)(count * row / 32);
    if (!no_nan_scale(p->scales, skip, n, e)) return false;
    if (want != DT_MXFP4) return dequantise(p, skip, n, want, dst, e);
    memcpy(dst, p->at + 16 * skip, 16 * n);
    memcpy(dst + 16 * n, p->scales->at + skip, n);
    return true;
}

/* Rows [first, first + count) of one part. */
static bool read_part(const Expr *x, const Part *p, DType want, bool may_round, int64_t first, int64_t count,
                      uint8_t *dst, Err *e) {
    size_t n = (size_t)(count * x->row);
    bool ok = true;
    switch (p->kind) {
    case PART_ZERO: memset(dst, 0, n * (want == DT_F32 ? 4 : 2)); break;
    case PART_DENSE: {
        const uint8_t *src = p->at + (size_t)(first * x->row) * file_dtype_size(p->t->dtype);
        ok = convert(src, p->t->dtype, want, n, may_round, dst, e);
        break;
    }
    case PART_TRANSPOSED: ok = read_transposed(p, &x->tensor, want, may_round, first, count, dst, e); break;
    case PART_MXFP4: return read_mxfp4(p, x->row, want, first, count, dst, e); /* names the scales itself */
    }
    return ok || err_wrap(e, "%s: tensor %.80s", p->t->file, p->t->name);
}

/* --- read and map --- */

static bool check_request(const Model *m, const Expr *x, const char *name, DType want, int64_t first, int64_t count,
                          size_t size, Err *e) {
    size_t bytes;
    if (first < 0 || count < 0 || first > x->tensor.shape[0] || count > x->tensor.shape[0] - first)
        return err_set(e, "%s: %lld rows from row %lld on; it has %lld", name, (long long)count, (long long)first,
                       (long long)x->tensor.shape[0]);
    if (want != DT_F32 && want != DT_BF16 && want != DT_MXFP4)
        return err_set(e, "%s: cannot be read as %s", name, dtype_name(want));
    if (want == DT_MXFP4 && x->tensor.dtype != DT_MXFP4)
        return err_set(e, "%s: tensor %s is %s, the plan wants mxfp4: recompile with --model %s", m->path, name,
                       dtype_name(x->tensor.dtype), m->path);
    if (!dtype_bytes(want, (size_t)(count * x->row), &bytes) || bytes != size)
        return err_set(e, "%s: %lld rows do not fill a buffer of %zu bytes", name, (long long)count, size);
    return true;
}

bool model_unchanged(const Model *m, Err *e) {
    for (size_t i = 0; i < m->files.n; i++)
        if (!mapped_unchanged(&m->files.at[i].file, m->files.at[i].path, e)) return false;
    return mapped_unchanged(&m->bin, m->path, e);
}

bool model_read(const Model *m, const char *name, DType want, bool may_round, int64_t first, int64_t count, void *dst,
                size_t size, Err *e) {
    Expr x;
    if (!resolve(m, name, &x, e) || !check_request(m, &x, name, want, first, count, size, e)) return false;
    uint8_t *out = dst;
    for (int i = 0; i < x.n && count; i++) {
        Part *p = &x.part[i];
        if (first >= p->rows) {
            first -= p->rows;
            continue;
        }
        int64_t n = count < p->rows - first ? count : p->rows - first;
        if (!read_part(&x, p, want, may_round, first, n, out, e)) return false;
        if (n == count) break; /* the only way an MXFP4 part ends: it has no fixed bytes per element */
        out += (size_t)(n * x.row) * (want == DT_F32 ? 4 : 2);
        count -= n;
        first = 0;
    }
    return model_unchanged(m, e);
}

static const void *map_dense(const Expr *x, DType want, size_t bytes) {
    size_t unit = want == DT_F32 ? 4 : 2;
    const uint8_t *end = x->part[0].at;
    for (int i = 0; i < x->n; i++) {
        const Part *p = &x->part[i];
        if (p->kind != PART_DENSE || part_dtype(p) != want || p->t->dtype == FT_F16 || p->at != end) return NULL;
        end = p->at + (size_t)(p->rows * x->row) * unit;
    }
    if ((size_t)(end - x->part[0].at) != bytes) die("model_map: parts do not add up");
    return (uintptr_t)x->part[0].at % unit ? NULL : x->part[0].at;
}

const void *model_map(const Model *m, const char *name, DType want, size_t *size) {
    Expr x;
    Err ignored;
    size_t n;
    if (!resolve(m, name, &x, &ignored) || x.tensor.dtype != want) return NULL;
    if (!dtype_bytes(want, (size_t)(x.tensor.shape[0] * x.row), &n)) return NULL;
    const Part *p = &x.part[0];
    const void *at = NULL;
    if (p->kind != PART_MXFP4) at = map_dense(&x, want, n);
    else if (p->scales->at == p->t->at + p->t->size && no_nan_scale(p->scales, 0, p->scales->size, &ignored))
        at = p->at;
    if (at && size) *size = n;
    return at;
}

/* --- rope --- */

/* The dimension that turns `rotations` times over the original context; YaRN's bounds, as transformers has them. */
static double correction_dim(const ModelConfig *c, double rotations) {
    return (double)c->head_dim * log((double)c->original_context / (rotations * 2 * M_PI)) / (2 * log(c->rope_theta));
}

/* The CPU baseline refuses what transformers clamps here. */
void model_warn(const Model *m) {
    const ModelConfig *c = &m->config;
    double low = correction_dim(c, c->rope_beta_fast), high = correction_dim(c, c->rope_beta_slow);
    if (c->rope_factor <= 1 || (0 < low && low < high && high < (double)c->head_dim / 2 - 1)) return;
    fprintf(
        stderr,
        "%s: warning: unusual YaRN settings: bounds %.4g and %.4g of %lld frequencies; clamped as transformers does\n",
        m->path, low, high, (long long)c->head_dim / 2);
}

static void yarn_bounds(const ModelConfig *c, double *low, double *high) {
    *low = correction_dim(c, c->rope_beta_fast);
    *high = correction_dim(c, c->rope_beta_slow);
    if (c->rope_truncate) *low = floor(*low), *high = ceil(*high);
    if (*low < 0) *low = 0;
    if (*high > (double)c->head_dim - 1) *high = (double)c->head_dim - 1;
    if (*low == *high) *high += 0.001;
}

static double concentration_of(const ModelConfig *c) { return c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1; }

/* In fp32, in transformers' order of operations (_compute_yarn_parameters), so that the angles are its own. */
void model_rope_inv_freq(const ModelConfig *c, float *inv_freq, float *concentration) {
    double low = 0, high = 1;
    float factor = (float)c->rope_factor;
    yarn_bounds(c, &low, &high);
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        float freq = powf((float)c->rope_theta, (float)(2 * i) / (float)c->head_dim);
        inv_freq[i] = 1 / freq;
        if (!(c->rope_factor > 1)) continue;
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1 - ramp;
        volatile float slow = 1 / (factor * freq) * (1 - keep), fast = inv_freq[i] * keep; /* never fused to an FMA */
        inv_freq[i] = slow + fast;
    }
    *concentration = (float)concentration_of(c);
}

void model_rope_table(const ModelConfig *c, int64_t positions, float *table) {
    float inv_freq[64], ignored;
    int64_t half = c->head_dim / 2;
    double scale = concentration_of(c);
    model_rope_inv_freq(c, inv_freq, &ignored);
    for (int64_t pos = 0; pos < positions; pos++)
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)pos * inv_freq[i];
            table[(pos * half + i) * 2] = (float)(cos(angle) * scale);
            table[(pos * half + i) * 2 + 1] = (float)(sin(angle) * scale);
        }
}
