/* plan_parts.h - a plan taken apart (metadata, program, sources, lines, code), and put together: sizes, offsets and checksum are right.
 *
 * This is done for each of ten million inputs: so the metadata stay a text, in which places are found by their keys; what is made
 * may hold zstd's uncompressed frames; and what was not changed is copied as it lies. */
#ifndef GPTOSS_PLAN_PARTS_H
#define GPTOSS_PLAN_PARTS_H

#include <zstd.h>

#include "fuzz.h"
#include "plan/plan.h"

enum { HEADER = 40, ALIGN = 64, MAX_PARTS = 400, MARK = 4 /* "@012": in the metadata, for a blob's [offset,size] */ };

typedef struct Blob Blob;
struct Blob {
    const uint8_t *stored; /* as it lies in the plan */
    size_t n_stored;
    bool packed;
    Text text; /* expanded, or changed; at NULL: neither */
};
typedef struct Apart Apart;
struct Apart {
    Text meta;
    Blob blob[MAX_PARTS]; /* the program first */
    size_t n;
};

/* --- texts ------------------------------------------------------------------------------------------------------------------- */

/* Bytes [from, to) become n others. */
static inline void replace(Text *t, size_t from, size_t to, const char *with, size_t n) {
    Text new = {0};
    text_put(&new, t->at, from), text_put(&new, with, n), text_put(&new, t->at + to, t->n - to);
    text_free(t);
    *t = new;
}

/* Where the text comes next from `from` on; t->n: nowhere. */
static inline size_t find(const Text *t, const char *what, size_t from) {
    const char *hit = from < t->n ? memmem(t->at + from, t->n - from, what, strlen(what)) : NULL;
    return hit ? (size_t)(hit - t->at) : t->n;
}

/* Behind the JSON value that begins at `at`. */
static inline size_t value_end(const Text *t, size_t at) {
    int depth = 0;
    bool quoted = false;
    for (; at < t->n; at++) {
        char c = t->at[at];
        if (quoted) quoted = c != '"';
        else if (c == '"') quoted = true;
        else if (c == '[' || c == '{') depth++;
        else if (depth && (c == ']' || c == '}')) depth--;
        else if (!depth && (c == ',' || c == ']' || c == '}')) break;
    }
    return at;
}

static inline long long number_at(const Text *t, size_t at) { return at < t->n ? strtoll(t->at + at, NULL, 10) : 0; }

/* --- apart ------------------------------------------------------------------------------------------------------------------- */

static inline bool expand(const void *z, size_t size, Text *to) {
    static ZSTD_DCtx *kept;
    unsigned long long most = ZSTD_getFrameContentSize(z, size);
    if (!kept) kept = ZSTD_createDCtx();
    if (most > 1 << 24) return false;
    *to = (Text){malloc(most + 1), most, most + 1};
    if (ZSTD_decompressDCtx(kept, to->at, most, z, size) != most) return text_free(to), false;
    to->at[most] = 0;
    return true;
}

/* What may be changed of a blob. */
static inline Text *blob_text(Blob *b) {
    if (b->text.at) return &b->text;
    if (!b->packed) text_put(&b->text, (const char *)b->stored, b->n_stored);
    else if (!expand(b->stored, b->n_stored, &b->text)) text_put(&b->text, "", 0);
    return &b->text;
}

/* Each [offset,size] under the key becomes a mark. */
static inline void take_blobs(Apart *a, const char *key, bool packed, const uint8_t *blobs, size_t size) {
    for (size_t at = 0; (at = find(&a->meta, key, at)) < a->meta.n && a->n < MAX_PARTS;) {
        char mark[MARK + 1];
        at += strlen(key);
        size_t end = value_end(&a->meta, at), comma = find(&a->meta, ",", at);
        uint64_t from = (uint64_t)number_at(&a->meta, at + 1), n = (uint64_t)number_at(&a->meta, comma + 1);
        if (a->meta.at[at] != '[' || comma > end || from > size || n > size - from) continue;
        snprintf(mark, sizeof mark, "@%03zu", a->n);
        replace(&a->meta, at, end, mark, MARK);
        a->blob[a->n++] = (Blob){.stored = blobs + from, .n_stored = n, .packed = packed};
    }
}

static inline bool take_apart(const uint8_t *data, size_t n, Apart *a) {
    uint64_t meta = 0;
    if (n < HEADER) return false;
    memcpy(&meta, data + 16, 8);
    if (meta > n - HEADER) return false;
    size_t blobs = (HEADER + meta + ALIGN - 1) / ALIGN * ALIGN;
    a->n = 0, a->meta = (Text){0};
    if (!expand(data + HEADER, meta, &a->meta)) return false;
    if (blobs > n) return text_free(&a->meta), false;
    take_blobs(a, "\"program\":", true, data + blobs, n - blobs);
    take_blobs(a, "\"source\":", true, data + blobs, n - blobs);
    take_blobs(a, "\"code\":", false, data + blobs, n - blobs);
    take_blobs(a, "\"lines\":", true, data + blobs, n - blobs);
    return true;
}

static inline void drop(Apart *a) {
    for (size_t i = 0; i < a->n; i++) text_free(&a->blob[i].text);
    text_free(&a->meta);
}

/* --- together ---------------------------------------------------------------------------------------------------------------- */

static inline void pad(Text *t) {
    static const char zeros[ALIGN];
    text_put(t, zeros, (ALIGN - t->n % ALIGN) % ALIGN);
}

/* A frame of zstd, its content as it is: blocks of at most 128 KiB. */
static inline void frame(Text *to, const char *bytes, size_t n) {
    const size_t most = 128 << 10;
    const uint32_t head[2] = {0xfd2fb528, (uint32_t)n};
    text_put(to, (const char *)&head[0], 4), text_put(to, "\xa0", 1), text_put(to, (const char *)&head[1], 4);
    do {
        size_t k = n < most ? n : most;
        uint32_t block = (uint32_t)(k << 3 | (k == n));
        text_put(to, (const char *)&block, 3), text_put(to, bytes, k);
        bytes += k, n -= k;
    } while (n);
}

static inline void pack(Text *to, const Text *t, bool compressed) {
    static ZSTD_CCtx *kept;
    if (!compressed) {
        frame(to, t->at, t->n);
        return;
    }
    if (!kept) kept = ZSTD_createCCtx();
    size_t cap = ZSTD_compressBound(t->n);
    char *z = malloc(cap);
    text_put(to, z, ZSTD_compressCCtx(kept, z, cap, t->at, t->n, 1));
    free(z);
}

/* The metadata with the places of the blobs, which lie one behind the other in `blobs`. */
static inline Text place_blobs(Apart *a, Text *blobs, bool compressed) {
    Text meta = {0};
    size_t place[MAX_PARTS][2], from = 0;
    for (size_t i = 0; i < a->n; i++) {
        Blob *b = &a->blob[i];
        pad(blobs);
        place[i][0] = blobs->n;
        if (!b->text.at) text_put(blobs, (const char *)b->stored, b->n_stored);
        else if (b->packed) pack(blobs, &b->text, compressed);
        else text_put(blobs, b->text.at, b->text.n);
        place[i][1] = blobs->n - place[i][0];
    }
    for (size_t at; (at = find(&a->meta, "@", from)) < a->meta.n; from = at + MARK < a->meta.n ? at + MARK : a->meta.n) {
        size_t i = (size_t)number_at(&a->meta, at + 1);
        text_put(&meta, a->meta.at + from, at - from);
        if (i < a->n) text_add(&meta, "[%zu,%zu]", place[i][0], place[i][1]);
    }
    text_put(&meta, a->meta.at + from, a->meta.n - from);
    return meta;
}

/* The plan, and the right checksum for what lies behind its header. */
static inline Text put_together(Apart *a, bool compressed) {
    Text blobs = {0}, file = {0};
    char header[HEADER] = "GPTOSSPL";
    uint32_t version = PLAN_VERSION;
    Text meta = place_blobs(a, &blobs, compressed);
    text_put(&file, header, HEADER);
    pack(&file, &meta, compressed);
    uint64_t head[2] = {file.n - HEADER};
    pad(&file);
    text_put(&file, blobs.at, blobs.n);
    head[1] = file.n;
    memcpy(file.at + 8, &version, 4), memcpy(file.at + 16, head, sizeof head);
    text_free(&meta), text_free(&blobs);
    return file;
}

static inline void seal(Text *file) {
    uint64_t hash = hash64(file->at + HEADER, file->n - HEADER);
    memcpy(file->at + 32, &hash, sizeof hash);
}

#endif
