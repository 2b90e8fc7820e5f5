/* gptoss-mkmodel: a random checkpoint of any shape, as a folder or a .bin.
 *
 * Every value is a function of (seed, canonical tensor, index), so layouts made from one seed and config hold the same
 * values, and nothing needs more memory than a piece of a tensor for each thread. Values are exact in bf16, expert weights exact in
 * MXFP4, whatever they are stored as.
 * The scales make a random model behave like the real one: logits' standard deviation 5.5 (real rows of unembed meet a
 * normed vector), every linear's output O(1), a router that prefers, sinks and biases that matter.
 * Add a tensor: a row of `fills`. The layouts come from the tables in model_*.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate */
#endif
#include "ir/cli.h"
#include "ir/version.h"
#include "model/model_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static void on_signal(int sig) { interrupted = sig; }

/* --- values --- */

/* mean and std; the std is divided by the root of `fan`, a dimension's letter, where there is one. */
static const struct {
    double mean, std;
    char fan;
    bool mxfp4;
} fills[C_COUNT] = {
    [C_EMBED] = {0, 1, 0, false},      [C_UNEMBED] = {0, 5.5, 'H', false}, [C_NORM] = {1, .1, 0, false},
    [C_ATTN_NORM] = {1, .1, 0, false}, [C_QKV_W] = {0, 1, 'H', false},     [C_QKV_B] = {0, .2, 0, false},
    [C_SINKS] = {.5, 1, 0, false},     [C_O_W] = {0, 1, 'Q', false},       [C_O_B] = {0, .1, 0, false},
    [C_MLP_NORM] = {1, .1, 0, false},  [C_ROUTER_W] = {0, 2, 'H', false},  [C_ROUTER_B] = {0, .3, 0, false},
    [C_MLP1_W] = {0, 1.5, 'H', true},  [C_MLP1_B] = {0, .3, 0, false},     [C_MLP2_W] = {0, .5, 'I', true},
    [C_MLP2_B] = {0, .1, 0, false},
};

typedef struct Gen Gen;
struct Gen {
    uint64_t key;
    bool mxfp4;
    float mean, std;   /* of dense values */
    int exponent;      /* MXFP4: the lower of the two commonest scale bytes */
    uint32_t up_below; /* a 16-bit draw below this takes the upper one */
};

static inline uint64_t mix(uint64_t x) { /* splitmix64's finaliser */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t draw(uint64_t key, uint64_t i) { return mix(key + (i + 1) * 0x9e3779b97f4a7c15u); }

static Gen gen_open(const ModelConfig *c, uint64_t seed, Canon id, int layer) {
    char name[128];
    int n = snprintf(name, sizeof name, "%d %s", layer, canon_table[id].name);
    double std = fills[id].std;
    if (fills[id].fan) std /= sqrt((double)model_dim(c, fills[id].fan));
    Gen g = {.key = mix(hash64(name, (size_t)n) ^ mix(seed + 1)),
             .mxfp4 = fills[id].mxfp4,
             .mean = (float)fills[id].mean,
             .std = (float)std};
    /* Uniform codes have a mean square of 68.5/8; the scales' -1, 0, 0, +1 multiply it by 1.5625. */
    double square = std * std / (68.5 / 8 * 1.5625), power = floor(log2(square) / 2);
    g.exponent = 127 + (int)power;
    g.up_below = (uint32_t)((square / pow(4, power) - 1) / 3 * 65536);
    return g;
}

/* The sum of four uniform 16-bit numbers: near enough to a Gaussian, within 3.5 standard deviations. */
static float gauss(uint64_t r) {
    int32_t sum = (int32_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    return (float)(sum - 131070) * (1 / 37837.2f); /* 65536 / sqrt(3) */
}

static void gen_codes(const Gen *g, uint64_t block, uint8_t codes[16]) {
    uint64_t a = draw(g->key, 2 * block), b = draw(g->key, 2 * block + 1);
    memcpy(codes, &a, 8);
    memcpy(codes + 8, &b, 8);
}

static uint8_t gen_scale(const Gen *g, uint64_t block) {
    static const int spread[4] = {-1, 0, 0, 1};
    uint64_t r = draw(~g->key, block);
    return (uint8_t)(g->exponent + ((r & 0xffff) < g->up_below) + spread[r >> 16 & 3]);
}

/* n values from index `first` on; both multiples of 32 when they are MXFP4's. */
static void gen_values(const Gen *g, uint64_t first, size_t n, float *out) {
    if (!g->mxfp4) {
        for (size_t i = 0; i < n; i++)
            out[i] = f32_of_bf16(bf16_of_f32(g->mean + g->std * gauss(draw(g->key, first + i))));
        return;
    }
    for (size_t b = 0; b < n / 32; b++) {
        uint8_t codes[16];
        float scale = e8m0_scale(gen_scale(g, first / 32 + b));
        gen_codes(g, first / 32 + b, codes);
        for (int i = 0; i < 32; i++) out[32 * b + (size_t)i] = e2m1_table[codes[i / 2] >> (i & 1 ? 4 : 0) & 15] * scale;
    }
}

/* --- writing --- */

enum { OUT_BUFFER = 4 << 20 };

typedef struct Out Out;
struct Out {
    int fd;
    const char *path; /* as the user knows it */
    size_t n;
    uint8_t *buf;
};

static bool out_fail(const Out *o, Err *e) {
    const char *hint = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? " (the checkpoint does not fit)" : "";
    return err_set(e, "%s: write failed: %s%s", o->path, strerror(errno), hint);
}

static bool out_open(Out *o, const char *file, const char *path, size_t size, Err *e) {
    *o = (Out){.path = path};
    o->fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o->fd < 0) return err_set(e, "%s: %s", path, strerror(errno));
    if (!(o->buf = malloc(OUT_BUFFER))) return err_set(e, "out of memory");
    /* A disk that is too small says so at once, where the file system can tell. */
    if (size && fallocate(o->fd, 0, 0, (off_t)size) && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
        return out_fail(o, e);
    return true;
}

static bool out_flush(Out *o, Err *e) {
    bool ok = write_all(o->fd, o->buf, o->n, -1);
    if (interrupted) return err_set(e, "interrupted");
    o->n = 0;
    return ok || out_fail(o, e);
}

static bool out_put(Out *o, const void *bytes, size_t n, Err *e) {
    const uint8_t *p = bytes;
    while (n) {
        size_t room = OUT_BUFFER - o->n, k = n < room ? n : room;
        memcpy(o->buf + o->n, p, k);
        o->n += k, p += k, n -= k;
        if (o->n == OUT_BUFFER && !out_flush(o, e)) return false;
    }
    return true;
}

static bool out_close(Out *o, bool ok, Err *e) {
    ok = ok && out_flush(o, e);
    if (ok && fsync(o->fd)) ok = out_fail(o, e); /* before it gets its name */
    if (o->fd >= 0 && close(o->fd) && ok) ok = out_fail(o, e);
    free(o->buf);
    return ok;
}

/* --- one tensor of a file --- */

typedef enum ItemKind { ITEM_DENSE, ITEM_TRANSPOSED, ITEM_BLOCKS, ITEM_SCALES } ItemKind;

typedef struct Item Item;
struct Item {
    const char *name; /* in the file */
    ItemKind kind;
    FileDType dtype;
    Canon id;
    int layer, rank, shard;
    int64_t shape[4];
    uint64_t first, count; /* elements of the canonical tensor */
    size_t size;
};

typedef struct Items Items;
struct Items {
    Item *at;
    size_t n, cap;
};

/* An item is made of units that follow one another in the file, each computed alone: a value; of a transposed tensor [E, K, rows] 32
 * columns of all rows; a block's codes; its scale. */
static size_t unit_bytes(const Item *t) {
    switch (t->kind) {
    case ITEM_DENSE: return file_dtype_size(t->dtype);
    case ITEM_TRANSPOSED: return 32 * (size_t)t->shape[2] * file_dtype_size(t->dtype);
    case ITEM_BLOCKS: return 16;
    case ITEM_SCALES: return 1;
    }
    die("unit_bytes: bad kind");
}

static void fill_value(FileDType dtype, float v, uint8_t *to) {
    uint16_t h = (uint16_t)(bits_of_f32(v) >> 16); /* exact */
    if (dtype == FT_F32) memcpy(to, &v, 4);
    else memcpy(to, &h, 2);
}

static void fill_dense(const Item *t, const Gen *g, uint64_t first, size_t n, uint8_t *to) {
    float v[4096] = {0};
    size_t size = file_dtype_size(t->dtype);
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < LEN(v) ? n - i : LEN(v);
        gen_values(g, t->first + first + i, k, v);
        for (size_t j = 0; j < k; j++) fill_value(t->dtype, v[j], to + size * (i + j));
    }
}

/* 32 columns of the canonical tensor's rows [E, rows, K], one behind the other. */
static void fill_columns(const Item *t, const Gen *g, uint64_t unit, uint8_t *to) {
    size_t K = (size_t)t->shape[1], rows = (size_t)t->shape[2], size = file_dtype_size(t->dtype);
    uint64_t expert = unit / (K / 32), k = unit % (K / 32) * 32;
    float v[32] = {0};
    for (size_t r = 0; r < rows; r++) {
        gen_values(g, (expert * rows + r) * K + k, 32, v);
        for (size_t i = 0; i < 32; i++) fill_value(t->dtype, v[i], to + size * (i * rows + r));
    }
}

static void fill_units(const Item *t, const Gen *g, uint64_t first, size_t n, uint8_t *to) {
    switch (t->kind) {
    case ITEM_DENSE: fill_dense(t, g, first, n, to); return;
    case ITEM_TRANSPOSED:
        for (size_t i = 0; i < n; i++) fill_columns(t, g, first + i, to + i * unit_bytes(t));
        return;
    case ITEM_BLOCKS:
        for (size_t i = 0; i < n; i++) gen_codes(g, first + i, to + 16 * i);
        return;
    case ITEM_SCALES:
        for (size_t i = 0; i < n; i++) to[i] = gen_scale(g, first + i);
        return;
    }
    die("fill_units: bad kind");
}

/* --- the list of a file's tensors --- */

typedef struct Job Job;
struct Job {
    Arena *arena;
    json_t *source; /* the CONFIG file */
    const char *config_path, *target;
    ModelConfig c;
    const Layout *layout;
    DType experts;
    uint64_t seed, max_shard;
    int threads; /* 0: one per CPU */
    Items items;
    size_t total;
};

static bool add_item(Job *j, Item t, const char *dims, int pad_rank, Err *e) {
    t.size = file_dtype_size(t.dtype);
    if (dims[0] == 'L') dims++; /* a slice of a stack: the slices follow each other */
    for (; *dims; dims++) t.shape[t.rank++] = model_dim(&j->c, *dims);
    if (t.kind == ITEM_BLOCKS || t.kind == ITEM_SCALES) t.shape[t.rank - 1] /= 32;
    if (pad_rank) t.shape[t.rank++] = 16;
    for (int i = 0; i < t.rank; i++)
        if (!size_mul(t.size, (size_t)t.shape[i], &t.size)) return err_set(e, "%s: too large", t.name);
    if (!size_add(j->total, t.size, &j->total) || j->total > INT64_MAX)
        return err_set(e, "the checkpoint is too large");
    PUSH(j->arena, j->items, t);
    return true;
}

static bool add_part(Job *j, Canon id, int layer, int i, uint64_t *first, Err *e) {
    const char *canon = canon_table[id].dims, *dims = j->layout->row[id].part[i].dims;
    bool expert = fills[id].mxfp4;
    char prefix[64] = "";
    if (canon_table[id].layer && j->layout->prefix) snprintf(prefix, sizeof prefix, j->layout->prefix, layer);
    const char *name = arena_printf(j->arena, "%s%s", prefix, j->layout->row[id].part[i].name);
    Item t = {.name = name, .id = id, .layer = layer, .first = *first};
    if (!dims) dims = canon;
    t.count = 1;
    for (const char *d = dims + (dims[0] == 'L'); *d; d++) t.count *= (uint64_t)model_dim(&j->c, *d);
    *first += t.count;
    t.dtype = j->layout == &layout_bin || j->experts == DT_F32 ? FT_F32 : FT_BF16;
    if (expert && j->layout->blocks && j->experts == DT_MXFP4) {
        t.dtype = FT_U8;
        t.kind = ITEM_BLOCKS;
        t.name = arena_printf(j->arena, "%s%s", name, j->layout->blocks);
        if (!add_item(j, t, canon, 1, e)) return false;
        t.kind = ITEM_SCALES;
        t.name = arena_printf(j->arena, "%s%s", name, j->layout->scales);
        return add_item(j, t, canon, 0, e);
    }
    if (expert && dims[0] != 'L' && strcmp(dims, canon)) t.kind = ITEM_TRANSPOSED;
    return add_item(j, t, dims, 0, e);
}

static bool add_canon(Job *j, Canon id, int layer, Err *e) {
    uint64_t first = 0;
    for (int i = 0; i < 3 && j->layout->row[id].part[i].name; i++)
        if (!add_part(j, id, layer, i, &first, e)) return false;
    return true;
}

/* A folder: dense tensors first, so that every one is aligned, then the bytes of MXFP4, each block tensor followed by
 * its scales. A .bin has its own order. */
static bool list_items(Job *j, Err *e) {
    bool bin = j->layout == &layout_bin;
    for (int pass = 0; pass < (bin ? 1 : 2); pass++)
        for (int i = 0; i < C_COUNT; i++) {
            Canon id = bin ? bin_order[i] : (Canon)i;
            bool late = fills[id].mxfp4 && j->experts == DT_MXFP4;
            if (!bin && late != (pass == 1)) continue;
            for (int layer = 0; layer < (canon_table[id].layer ? j->c.layers : 1); layer++)
                if (!add_canon(j, id, layer, e)) return false;
        }
    return true;
}

/* --- the tensors of a file, by several threads --- */

enum { PIECE = 4 << 20 };

typedef struct Pool Pool; /* of pieces, one after the other */
struct Pool {
    const Job *job;
    const Out *to;
    int shard;
    pthread_mutex_t lock;
    size_t item, at; /* the next piece: its item, and where that begins in the file */
    uint64_t unit;   /* of the item */
    bool failed;
    Err why;
};

typedef struct Piece Piece;
struct Piece {
    const Item *of;
    size_t n, at, bytes; /* units; bytes in the file */
    uint64_t first;
};

static bool pool_next(Pool *p, Piece *piece) {
    const Items *items = &p->job->items;
    pthread_mutex_lock(&p->lock);
    while (p->item < items->n && items->at[p->item].shard != p->shard) p->item++;
    bool more = !p->failed && !interrupted && p->item < items->n;
    if (more) {
        const Item *t = &items->at[p->item];
        size_t each = unit_bytes(t), most = PIECE / each ? PIECE / each : 1;
        uint64_t left = t->size / each - p->unit;
        *piece = (Piece){t, left < most ? left : most, p->at + each * p->unit, 0, p->unit};
        piece->bytes = each * piece->n;
        p->unit += piece->n;
        if (p->unit == t->size / each) p->at += t->size, p->unit = 0, p->item++;
    }
    pthread_mutex_unlock(&p->lock);
    return more;
}

static void pool_fail(Pool *p, const Err *why) {
    pthread_mutex_lock(&p->lock);
    if (!p->failed) p->why = *why;
    p->failed = true;
    pthread_mutex_unlock(&p->lock);
}

static bool write_at(const Out *o, const uint8_t *bytes, size_t n, size_t at, Err *e) {
    return write_all(o->fd, bytes, n, (off_t)at) || out_fail(o, e);
}

/* bytes: room for it */
static bool write_piece(const Pool *p, const Piece *piece, uint8_t *bytes, Err *e) {
    const Gen g = gen_open(&p->job->c, p->job->seed, piece->of->id, piece->of->layer);
    fill_units(piece->of, &g, piece->first, piece->n, bytes);
    return write_at(p->to, bytes, piece->bytes, piece->at, e);
}

static size_t largest_piece(const Items *items) {
    size_t most = PIECE;
    for (size_t i = 0; i < items->n; i++)
        if (unit_bytes(&items->at[i]) > most) most = unit_bytes(&items->at[i]);
    return most;
}

static void *pool_work(void *pool) {
    Pool *p = pool;
    Piece piece;
    Err e;
    uint8_t *bytes = malloc(largest_piece(&p->job->items));
    if (!bytes) err_set(&e, "out of memory"), pool_fail(p, &e);
    while (pool_next(p, &piece))
        if (!write_piece(p, &piece, bytes, &e)) pool_fail(p, &e);
    free(bytes);
    return NULL;
}

static int threads_for(const Job *j, size_t bytes) {
    int n = j->threads ? j->threads : cpu_count();
    size_t pieces = bytes / PIECE + 1;
    return pieces < (size_t)n ? (int)pieces : n;
}

/* The tensors of a shard, `bytes` of them, behind what o holds. Which thread does what does not matter to the file. */
static bool put_items(Out *o, const Job *j, int shard, size_t bytes, Err *e) {
    size_t at = o->n; /* the header, which is all of the file so far */
    if (!out_flush(o, e)) return false;
    Pool p = {.job = j, .to = o, .shard = shard, .lock = PTHREAD_MUTEX_INITIALIZER, .at = at};
    pthread_t *thread = arena_array(j->arena, (size_t)threads_for(j, bytes), sizeof *thread);
    int n = 0;
    while (n < threads_for(j, bytes) - 1 && !pthread_create(&thread[n], NULL, pool_work, &p)) n++; /* with fewer it takes longer */
    pool_work(&p);
    while (n > 0) pthread_join(thread[--n], NULL);
    if (p.failed) return *e = p.why, false;
    return !interrupted || err_set(e, "interrupted");
}

/* --- safetensors --- */

static int assign_shards(Job *j) {
    int shard = 0;
    uint64_t used = 0;
    for (size_t i = 0; i < j->items.n; i++) {
        Item *t = &j->items.at[i];
        if (j->max_shard && used && used + t->size > j->max_shard) shard++, used = 0;
        t->shard = shard;
        used += t->size;
    }
    return shard + 1;
}

static size_t shard_header(const Job *j, int shard, Text *h) {
    size_t at = 0;
    text_add(h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < j->items.n; i++) {
        const Item *t = &j->items.at[i];
        if (t->shard != shard) continue;
        text_add(h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, file_dtype_name(t->dtype));
        for (int d = 0; d < t->rank; d++) text_add(h, "%s%lld", d ? "," : "", (long long)t->shape[d]);
        text_add(h, "],\"data_offsets\":[%zu,%zu]}", at, at + t->size);
        at += t->size;
    }
    text_add(h, "}");
    while (h->n % 8) text_add(h, " ");
    return at;
}

static bool write_shard(const Job *j, int shard, const char *file, const char *path, Err *e) {
    Text h = {0};
    Out o;
    size_t data = shard_header(j, shard, &h);
    uint64_t length = h.n;
    bool ok = out_open(&o, file, path, 8 + h.n + data, e) && out_put(&o, &length, 8, e) && out_put(&o, h.at, h.n, e) &&
              put_items(&o, j, shard, data, e);
    text_free(&h);
    return out_close(&o, ok, e);
}

/* --- tokenizer.json --- */

static const struct {
    const char *text;
    int64_t id; /* in the real vocabulary */
} specials[] = {
    {"<|startoftext|>", 199998}, {"<|endoftext|>", 199999},   {"<|return|>", 200002}, {"<|constrain|>", 200003},
    {"<|channel|>", 200005},     {"<|start|>", 200006},       {"<|end|>", 200007},    {"<|message|>", 200008},
    {"<|call|>", 200012},        {"<|endofprompt|>", 200018},
};
enum { START_OF_TEXT = 0, END_OF_TEXT = 1, RETURN = 2, REAL_VOCAB = 200019 };

static int64_t n_specials(int64_t vocab) {
    int64_t room = vocab - 256;
    return room < 0 ? 0 : room < (int64_t)LEN(specials) ? room : (int64_t)LEN(specials);
}

/* The id of a special token, -1 when the vocabulary has no room for it. */
static int64_t special_id(int64_t vocab, int64_t i) {
    int64_t n = n_specials(vocab);
    if (vocab >= REAL_VOCAB) return specials[i].id;
    return i < n ? vocab - n + i : -1;
}

/* Common English pairs, each half a single byte or the result of an earlier line; _ stands for a space. */
static const char merges[] =
    "i n|t h|r e|o n|e r|a n|_ t|_ a|h e|o u|_ s|a t|_ w|o r|e n|_ c|i t|i s|_ b|_ f|a l|e s|_ th|_ p|in g|_ o|e d|"
    "_ in|_ d|_ m|a r|l e|an d|_t he|_ h|_ the|i on|_ l|_ y|_o f|_t o|_a nd|a s|l l|_ re|_ n|_ on|_ e|c t|_ g|u t|_y "
    "ou|"
    "v e|o m|i c|_b e|e l|_f or|en t|_s t|_w h|th er|o w|_i s|_ I|i d|_an d|a y|r o|_w it|_ T|_wit h|_ it|s t|_th at|"
    "_w as|_ S|_ A|a d|c h|o t|_ C|i g|u r|_h e|_ M|i l|i m|_ W|a m|_n ot|_c on|_a s|_a re|_p ro|a ge|v er|at ion|"
    "o o|_d o|_h a|_ P|_w e|h at|e t|_a l|g h|i r|_ H|_ B|_ u|th e|_h is|_ k|_ v|_f rom|f rom|_o r|e m|u l|_s h|_c om|"
    "s e|k e|l y|al l|_ha ve|u s|_ D|_a n|_m e|_w ill|w ill|_wh at|_ G|_T he|_ N|_ R|_ F|_ L|ou r|_s u|m ent|_ E|o l";

/* GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the rest for U+0100 on. Returns UTF-8's end. */
static char *put_byte(char *out, int byte) {
    static const int gaps[][2] = {{0, 33}, {127, 161}, {173, 174}};
    int code = byte, shift = 0;
    for (size_t i = 0; i < LEN(gaps); i++) {
        if (byte >= gaps[i][0] && byte < gaps[i][1]) code = 256 + shift + byte - gaps[i][0];
        shift += gaps[i][1] - gaps[i][0];
    }
    if (code < 128) *out++ = (char)code;
    else *out++ = (char)(0xc0 | code >> 6), *out++ = (char)(0x80 | (code & 63));
    return out;
}

static bool prints(int byte) { return (byte >= 33 && byte < 127) || (byte >= 161 && byte != 173); }

static void add_bytes(json_t *vocab) {
    int id = 0;
    for (int pass = 1; pass >= 0; pass--)
        for (int b = 0; b < 256; b++) {
            char text[4] = {0};
            if (prints(b) != pass) continue;
            put_byte(text, b);
            json_object_set_new(vocab, text, json_integer(id++));
        }
}

static void add_merges(json_t *vocab, json_t *list, int64_t room) {
    char side[2][64], *out = side[0], token[128];
    int which = 0;
    for (const char *p = merges;; p++) {
        if (*p != ' ' && *p != '|' && *p) {
            out = put_byte(out, *p == '_' ? ' ' : *p);
            continue;
        }
        *out = 0;
        if (*p == ' ') {
            out = side[which = 1];
            continue;
        }
        snprintf(token, sizeof token, "%s%s", side[0], side[1]);
        bool known = json_object_get(vocab, side[0]) && json_object_get(vocab, side[1]);
        if (which && known && room > 0 && !json_object_get(vocab, token)) {
            json_object_set_new(vocab, token, json_integer((json_int_t)json_object_size(vocab)));
            json_array_append_new(list, json_pack("[s,s]", side[0], side[1]));
            room--;
        }
        if (!*p) return;
        out = side[which = 0];
    }
}

/* o200k's, as in the real tokenizer.json. */
static const char split_pattern[] = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}"
                                    "\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                                    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}"
                                    "\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                                    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static json_t *byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", add_prefix_space, "trim_offsets",
                     trim_offsets, "use_regex", use_regex);
}

static json_t *tokenizer(int64_t size) {
    json_t *vocab = json_object(), *list = json_array(), *added = json_array();
    add_bytes(vocab);
    add_merges(vocab, list, size - 256 - n_specials(size));
    for (int64_t i = 0; i < n_specials(size); i++)
        json_array_append_new(added, json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (json_int_t)special_id(size, i),
                                               "content", specials[i].text, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                               "normalized", 0, "special", 1));
    json_t *split = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex", split_pattern, "behavior",
                              "Isolated", "invert", 0);
    json_t *pre =
        json_pack("{s:s,s:[o,o]}", "type", "Sequence", "pretokenizers", split, byte_level(false, true, false));
    json_t *model = json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:o,s:o}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", 1, "vocab", vocab, "merges", list);
    return json_pack("{s:s,s:n,s:n,s:o,s:n,s:o,s:o,s:o,s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                     added, "normalizer", "pre_tokenizer", pre, "post_processor", byte_level(true, false, true),
                     "decoder", byte_level(true, true, true), "model", model);
}

/* --- config.json --- */

/* CONFIG's own stop ids where it names some and the vocabulary holds them, else the tokenizer's. */
static json_t *eos_ids(const Job *j, Err *e) {
    ModelConfig own = {0};
    json_t *list = json_array();
    if (!config_eos(j->source, j->config_path, &own, e)) return json_decref(list), NULL;
    for (int i = 0; i < own.n_eos; i++)
        if (own.eos[i] < j->c.vocab) json_array_append_new(list, json_integer(own.eos[i]));
    if (own.n_eos && json_array_size(list) == (size_t)own.n_eos) return list;
    json_array_clear(list);
    if (special_id(j->c.vocab, RETURN) >= 0) {
        json_array_append_new(list, json_integer(special_id(j->c.vocab, RETURN)));
        json_array_append_new(list, json_integer(special_id(j->c.vocab, END_OF_TEXT)));
    }
    return list;
}

static json_t *id_or_null(int64_t id) { return id < 0 ? json_null() : json_integer(id); }

static void set_ints(const Job *j, ConfigKind kind, json_t *o) {
    for (int i = 0; i < CONFIG_INTS; i++)
        if (config_ints[i].key[kind])
            json_object_set_new(o, config_ints[i].key[kind],
                                json_integer(*(const int64_t *)((const char *)&j->c + config_ints[i].at)));
}

static void set_rope(const Job *j, json_t *o) {
    const ModelConfig *c = &j->c;
    json_object_del(o, "rope_parameters");
    json_object_set_new(o, "rope_theta", json_real(c->rope_theta));
    json_object_set_new(o, "rope_scaling",
                        json_pack("{s:s,s:f,s:f,s:f,s:b,s:I}", "rope_type", c->rope_factor > 1 ? "yarn" : "default",
                                  "factor", c->rope_factor, "beta_fast", c->rope_beta_fast, "beta_slow",
                                  c->rope_beta_slow, "truncate", c->rope_truncate, "original_max_position_embeddings",
                                  (json_int_t)c->original_context));
}

static json_t *hf_config(const Job *j, const json_t *eos) {
    json_t *o = json_deep_copy(j->source), *types = json_array();
    const char *dtype = j->experts == DT_F32 ? "float32" : "bfloat16";
    json_object_set_new(o, "architectures", json_pack("[s]", "GptOssForCausalLM"));
    json_object_set_new(o, "model_type", json_string("gpt_oss"));
    set_ints(j, CONFIG_HF, o);
    json_object_del(o, "initial_context_length"),
        json_object_del(o, "original_max_position_embeddings"); /* set_rope says it */
    json_object_set(o, "experts_per_token", json_object_get(o, "num_experts_per_tok"));
    set_rope(j, o);
    for (int64_t i = 0; i < j->c.layers; i++)
        json_array_append_new(types, json_string(j->c.sliding[i] ? "sliding_attention" : "full_attention"));
    json_object_set_new(o, "layer_types", types);
    if (!j->c.window) json_object_set_new(o, "sliding_window", json_null());
    json_object_set_new(o, "swiglu_limit", json_real(j->c.swiglu_limit));
    json_object_set_new(o, "rms_norm_eps", json_real(j->c.rms_eps));
    json_object_set_new(o, "hidden_act", json_string("silu"));
    json_object_set_new(o, "attention_bias", json_true());
    json_object_set_new(o, "tie_word_embeddings", json_false());
    json_object_del(o, "dtype");
    json_object_set_new(o, "torch_dtype", json_string(dtype));
    json_object_set(o, "eos_token_id", json_array_size(eos) ? json_array_get(eos, 0) : json_null());
    json_object_set_new(o, "pad_token_id", id_or_null(special_id(j->c.vocab, END_OF_TEXT)));
    json_object_del(o, "quantization_config");
    if (j->experts == DT_MXFP4)
        json_object_set_new(o, "quantization_config",
                            json_pack("{s:s,s:[s,s,s,s]}", "quant_method", "mxfp4", "modules_to_not_convert",
                                      "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                      "lm_head"));
    return o;
}

static json_t *openai_config(const Job *j) {
    json_t *o = json_object();
    set_ints(j, CONFIG_OPENAI, o);
    json_object_set_new(o, "swiglu_limit", json_real(j->c.swiglu_limit));
    json_object_set_new(o, "rope_theta", json_real(j->c.rope_theta));
    json_object_set_new(o, "rope_scaling_factor", json_real(j->c.rope_factor));
    json_object_set_new(o, "rope_ntk_alpha", json_real(j->c.rope_beta_slow));
    json_object_set_new(o, "rope_ntk_beta", json_real(j->c.rope_beta_fast));
    return o;
}

/* --- a folder --- */

#define MARK "gptoss_mkmodel" /* a key of config.json: this folder is ours to replace */

/* Only what this program writes is ever replaced or removed. */
static bool our_name(const char *name) {
    static const char *const fixed[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "model.safetensors.index.json"};
    size_t n = strlen(name);
    for (size_t i = 0; i < LEN(fixed); i++)
        if (!strcmp(name, fixed[i])) return true;
    return !strncmp(name, "model", 5) && n > 12 && !strcmp(name + n - 12, ".safetensors");
}

/* The next name in d, "." and ".." aside. NULL: there is none, or errno says why it cannot be read; else that is 0. */
static const char *next_name(DIR *d) {
    struct dirent *f;
    do {
        errno = 0;
        f = readdir(d);
    } while (f && (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")));
    return f ? f->d_name : NULL;
}

/* Unlinks our files in dir (to == NULL), or moves all others to the folder `to`. */
static bool each_file(Arena *a, const char *dir, const char *to, Err *e) {
    DIR *d = opendir(dir);
    if (!d) return err_set(e, "%s: %s", dir, strerror(errno));
    bool ok = true;
    for (const char *name; ok && (name = next_name(d));) {
        if (our_name(name) == (to != NULL)) continue;
        const char *from = arena_printf(a, "%s/%s", dir, name);
        int bad = to ? rename(from, arena_printf(a, "%s/%s", to, name)) : unlink(from);
        if (bad) ok = err_set(e, "%s: %s", from, strerror(errno));
    }
    if (ok && errno) ok = err_set(e, "%s: %s", dir, strerror(errno));
    closedir(d);
    return ok;
}

typedef enum State { STATE_FREE, STATE_OURS, STATE_OTHER } State;

/* False, with e set: it cannot be told who made the folder. */
static bool look_for_mark(const char *config, State *s, Err *e) {
    *s = STATE_OTHER;
    if (access(config, F_OK) && errno == ENOENT) return true;
    json_t *root = config_load(config, e);
    bool ok = root || err_wrap(e, "who made this folder cannot be told");
    if (json_object_get(root, MARK)) *s = STATE_OURS;
    json_decref(root);
    return ok;
}

static bool folder_state(Arena *a, const char *dir, State *s, Err *e) {
    DIR *d = opendir(dir);
    *s = !d && errno == ENOTDIR ? STATE_OTHER : STATE_FREE;
    if (!d && (errno == ENOENT || errno == ENOTDIR)) return true;
    bool some = d && next_name(d), ok = !errno || err_set(e, "%s: %s", dir, strerror(errno));
    if (d) closedir(d);
    return ok && (!some || look_for_mark(arena_printf(a, "%s/config.json", dir), s, e));
}

static bool write_json(const Job *j, const char *dir, const char *name, json_t *o, size_t flags, Err *e) {
    char *text = json_dumps(o, flags);
    const char *file = arena_printf(j->arena, "%s/%s", dir, name),
               *path = arena_printf(j->arena, "%s/%s", j->target, name);
    Out out;
    bool ok = text || err_set(e, "%s: cannot write its JSON", path);
    if (ok) {
        ok = out_open(&out, file, path, 0, e) && out_put(&out, text, strlen(text), e) && out_put(&out, "\n", 1, e);
        ok = out_close(&out, ok, e);
    }
    free(text);
    json_decref(o);
    return ok;
}

static bool write_weights(Job *j, const char *dir, Err *e) {
    int n = assign_shards(j);
    json_t *map = json_object();
    bool ok = true;
    for (int s = 0; ok && s < n; s++) {
        const char *name =
            n == 1 ? "model.safetensors" : arena_printf(j->arena, "model-%05d-of-%05d.safetensors", s + 1, n);
        for (size_t i = 0; i < j->items.n; i++)
            if (j->items.at[i].shard == s) json_object_set_new(map, j->items.at[i].name, json_string(name));
        ok = write_shard(j, s, arena_printf(j->arena, "%s/%s", dir, name),
                         arena_printf(j->arena, "%s/%s", j->target, name), e);
    }
    if (!ok || n == 1) return json_decref(map), ok;
    json_t *index = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)j->total, "weight_map", map);
    return write_json(j, dir, "model.safetensors.index.json", index, JSON_INDENT(2) | JSON_SORT_KEYS, e);
}

static bool write_configs(const Job *j, const char *dir, Err *e) {
    bool hf = j->layout == &layout_huggingface;
    json_t *eos = eos_ids(j, e);
    if (!eos) return false;
    json_t *config = hf ? hf_config(j, eos) : openai_config(j);
    json_object_set_new(config, MARK,
                        json_pack("{s:s,s:s}", "version", GPTOSS_VERSION, "seed",
                                  arena_printf(j->arena, "%llu", (unsigned long long)j->seed)));
    bool ok = write_json(j, dir, "config.json", config, JSON_INDENT(2), e);
    if (ok && hf) {
        json_t *g = json_pack("{s:o,s:b,s:o}", "bos_token_id", id_or_null(special_id(j->c.vocab, START_OF_TEXT)),
                              "do_sample", 1, "pad_token_id", id_or_null(special_id(j->c.vocab, END_OF_TEXT)));
        json_object_set(g, "eos_token_id", json_array_size(eos) ? eos : json_null());
        ok = write_json(j, dir, "generation_config.json", g, JSON_INDENT(2), e);
    }
    json_decref(eos);
    if (j->c.vocab < 256)
        fprintf(stderr, "gptoss-mkmodel: no tokenizer.json: a vocabulary of %lld cannot hold the 256 bytes\n",
                (long long)j->c.vocab);
    else if (ok) ok = write_json(j, dir, "tokenizer.json", tokenizer(j->c.vocab), JSON_COMPACT, e);
    return ok;
}

/* The two change places, at once where the file system can do that; else each has a name at any time. */
static bool exchange(Arena *a, const char *one, const char *other) {
    if (!renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)) return true;
    if (errno != EINVAL && errno != ENOSYS) return false;
    const char *aside = arena_printf(a, "%s.old", one);
    if (rename(other, aside)) return false;
    if (!rename(one, other)) return !rename(aside, one);
    int why = errno;
    (void)!rename(aside, other);
    return errno = why, false;
}

/* What is there stays until the new folder is on disk, and is then at tmp. old: the folder that was looked at, if there was one; what has
 * taken its place since goes back; foreign: it cannot, and is at tmp. */
static bool install(Arena *a, const char *tmp, const char *target, const struct stat *old, bool *foreign, Err *e) {
    struct stat st;
    if (old) (void)!chmod(tmp, old->st_mode & 07777); /* permissions stay */
    bool ok = file_sync_name(arena_printf(a, "%s/config.json", tmp)) && (old ? exchange(a, tmp, target) : !rename(tmp, target));
    if (!ok) return err_set(e, "%s: %s", target, strerror(errno));
    if (!old || (!lstat(tmp, &st) && st.st_dev == old->st_dev && st.st_ino == old->st_ino)) return true;
    if (exchange(a, tmp, target)) return err_set(e, "%s: another folder has taken its place meanwhile", target);
    *foreign = true;
    return err_set(e, "%s: another folder has taken its place meanwhile, and is %s now: %s", target, tmp, strerror(errno));
}

/* Behind install. What was in the old folder and is not ours goes on in the new one. */
static bool remove_old(Arena *a, const char *old, const char *target, Err *e) {
    bool ok = each_file(a, old, target, e) && each_file(a, old, NULL, e) && (!rmdir(old) || err_set(e, "%s: %s", old, strerror(errno)));
    return ok || err_add(e, " (%s is the new one; this is left of the old)", target);
}

/* The folder that a link stands for. */
static const char *followed(Arena *a, const char *path) {
    char *real = realpath(path, NULL);
    if (real) path = arena_strdup(a, real);
    free(real);
    return path;
}

static bool make_folder(Job *j, Err *e) {
    State state;
    struct stat old;
    const char *target = followed(j->arena, j->target), *tmp = arena_printf(j->arena, "%s.tmp%ld", target, (long)getpid());
    bool exists = !stat(target, &old);
    if (!folder_state(j->arena, target, &state, e)) return false;
    if (state == STATE_OTHER)
        return err_set(e, "%s: exists and was not made by gptoss-mkmodel; remove it first", j->target);
    bool replaces = exists && state == STATE_OURS, foreign = false;
    if (mkdir(tmp, 0777)) return err_set(e, "%s: %s", tmp, strerror(errno));
    if (!write_configs(j, tmp, e) || !write_weights(j, tmp, e) || !install(j->arena, tmp, target, replaces ? &old : NULL, &foreign, e)) {
        Err ignored;
        if (foreign) return false;
        each_file(j->arena, tmp, NULL, &ignored);
        rmdir(tmp);
        return false;
    }
    if (!file_sync_name(target)) return err_set(e, "%s: is written, but not on disk: %s", j->target, strerror(errno));
    return !replaces || remove_old(j->arena, tmp, target, e);
}

/* --- a .bin --- */

static bool fits_bin(const Job *j, Err *e) {
    const ModelConfig *c = &j->c;
    bool pattern = true;
    for (int64_t i = 0; i < c->layers; i++) pattern &= c->sliding[i] == (c->window > 0 && i % 2 == 0);
    if (!pattern)
        return err_set(e, "%s: a .bin slides on even layers; it cannot hold these layer_types", j->config_path);
    if (c->rope_factor > 1 && (c->rope_beta_fast != 32 || c->rope_beta_slow != 1 || c->rope_truncate))
        return err_set(e, "%s: a .bin cannot hold beta_fast, beta_slow or truncate other than 32, 1, false",
                       j->config_path);
    return c->rms_eps == 1e-5 || err_set(e, "%s: a .bin cannot hold an rms_norm_eps other than 1e-5", j->config_path);
}

static void bin_header(const ModelConfig *c, uint8_t h[BIN_HEADER]) {
    float f[3] = {(float)c->rope_theta, (float)c->rope_factor, (float)c->swiglu_limit};
    for (int i = 0; i < CONFIG_INTS; i++) {
        int32_t v = (int32_t) * (const int64_t *)((const char *)c + config_ints[i].at);
        memcpy(h + (i < 11 ? 4 * i : 52), &v, 4);
    }
    memcpy(h + 44, &f[0], 4);
    memcpy(h + 48, &f[1], 4);
    memcpy(h + 56, &f[2], 4);
}

static bool make_bin(Job *j, Err *e) {
    uint8_t header[BIN_HEADER];
    const char *target = followed(j->arena, j->target), *tmp = arena_printf(j->arena, "%s.tmp%ld", target, (long)getpid());
    Out o;
    if (!fits_bin(j, e) || !file_replaceable(target, e)) return false;
    bin_header(&j->c, header);
    bool ok = out_open(&o, tmp, j->target, BIN_HEADER + j->total, e) && out_put(&o, header, BIN_HEADER, e) && put_items(&o, j, 0, j->total, e);
    bool made = o.fd >= 0;
    ok = out_close(&o, ok, e);
    if (ok && (rename(tmp, target) || !file_sync_name(target))) ok = err_set(e, "%s: %s", j->target, strerror(errno));
    if (!ok && made) unlink(tmp);
    return ok;
}

/* --- main --- */

static bool load_config(Job *j, Err *e) {
    struct stat st;
    ConfigKind kind;
    if (!stat(j->config_path, &st) && S_ISDIR(st.st_mode))
        j->config_path = arena_printf(j->arena, "%s/config.json", j->config_path);
    return (j->source = config_load(j->config_path, e)) && config_kind(j->source, j->config_path, &kind, e) &&
           config_read(j->source, j->config_path, kind, &j->c, e);
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && !strcmp(s + n - k, tail);
}

static bool make(Job *j, bool dtype_given, Err *e) {
    if (!load_config(j, e)) return false;
    const json_t *quant = json_object_get(j->source, "quantization_config");
    if (!dtype_given) j->experts = json_is_object(quant) ? DT_MXFP4 : DT_BF16;
    if (!list_items(j, e)) return false;
    struct stat st;
    if (!lstat(j->target, &st) && stat(j->target, &st) && errno == ENOENT) return err_set(e, "%s: a link to what is not there", j->target);
    return j->layout == &layout_bin ? make_bin(j, e) : make_folder(j, e);
}

static void report(const Job *j, double begin) {
    fprintf(stderr, "gptoss-mkmodel: %s: %s layout, %s experts, %.3g GB in %.2f s\n", j->target, j->layout->name,
            j->layout == &layout_bin ? "f32" : dtype_name(j->experts), (double)j->total / 1e9, seconds_now() - begin);
}

typedef struct Args Args;
struct Args {
    int64_t seed, threads;
    const char *dtype, *layout; /* NULL: not given */
    size_t max_shard;
};

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "Options"},
    {'s', "seed", CLI_INT, offsetof(Args, seed), "N", "which random values (0); the same in every layout"},
    {0, "dtype", CLI_CHOICE, offsetof(Args, dtype), "mxfp4|bf16|f32",
     "type of expert weights (f32: of all weights); default: mxfp4 when\nCONFIG's quantization_config says so, else bf16; a .bin is always f32"},
    {0, "max-shard-size", CLI_SIZE, offsetof(Args, max_shard), "SIZE", "split into shards of at most this (4096, 512M, 4G) with an index"},
    {0, "layout", CLI_CHOICE, offsetof(Args, layout), "huggingface|openai", "of a folder (huggingface)"},
    {0, "threads", CLI_INT, offsetof(Args, threads), "N", "threads (one per CPU); the bytes are the same", 1, 1024},
};

static const Cli cli = {
    .program = "gptoss-mkmodel",
    .synopsis = "CONFIG DIR|FILE.bin [options]",
    .about = "Writes a random gpt-oss checkpoint. CONFIG is a JSON file with Hugging Face's keys, or a folder\n"
             "with a config.json. A name that ends in .bin gets the llama2.c-style fp32 layout, any other a\n"
             "Hugging Face folder with a tokenizer.\n",
    .examples = "  gptoss-mkmodel tests/models/tiny.json out/tiny --seed 1\n"
                "  gptoss-mkmodel gpt-oss-20b/config.json out/random20b --dtype mxfp4 --max-shard-size 4G\n",
    .env = "GPTOSS_MKMODEL_",
    .options = options,
    .n = LEN(options),
};

static bool check(const Args *args, char **words, int n, Err *e) {
    if (n != 2) return err_set(e, "a CONFIG and a DIR or FILE.bin are wanted, %d words given", n);
    if (!ends_with(words[1], ".bin")) return true;
    if (args->layout) return err_set(e, "--layout %s: %s is a .bin, which is a layout of its own", args->layout, words[1]);
    if (args->dtype && strcmp(args->dtype, "f32")) return err_set(e, "--dtype %s: a .bin holds f32 only", args->dtype);
    return !args->max_shard || err_set(e, "--max-shard-size: a .bin is one file");
}

static void fill_job(Job *j, const Args *args, char **words) {
    j->arena = arena_new();
    j->seed = (uint64_t)args->seed;
    j->max_shard = args->max_shard;
    j->threads = (int)args->threads;
    if (args->dtype && !dtype_parse(args->dtype, &j->experts)) die("mkmodel: dtype %s", args->dtype);
    j->config_path = words[0];
    char *target = arena_strdup(j->arena, words[1]);
    for (size_t n = strlen(target); n > 1 && target[n - 1] == '/';) target[--n] = 0;
    j->target = target;
    j->layout = ends_with(target, ".bin") ? &layout_bin : args->layout && !strcmp(args->layout, "openai") ? &layout_openai : &layout_huggingface;
}

int main(int argc, char **argv) {
    Args args = {0};
    Job j = {0};
    Err e = {0};
    double begin = seconds_now();
    CliParsed parsed;
    if (!cli_parse(&cli, &args, argc, argv, &parsed, &e)) return cli_usage_error(&cli, &e);
    if (parsed.done) return cli_end(&cli, true, &e);
    if (!check(&args, argv, parsed.words, &e)) return cli_usage_error(&cli, &e);
    fill_job(&j, &args, argv);
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    bool ok = make(&j, args.dtype != NULL, &e);
    if (ok) report(&j, begin);
    json_decref(j.source);
    arena_free(j.arena);
    return cli_end(&cli, ok, &e);
}
