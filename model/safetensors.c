/* safetensors.c - map a .safetensors file and verify its header. See safetensors.h.
 *
 * The format: u64 header length, JSON header, data. The entries may come in any order (a JSON object has none); their
 * data, sorted by offset, must cover the rest of the file exactly. */
#include "safetensors.h"

#include "ir/json.h"

#include <stdlib.h>

#define MAX_HEADER 100000000u
#define MAX_PARSED ((size_t)1 << 30) /* bytes, of the JSON library; 2 KB a tensor */

static const struct {
    const char *name;
    size_t bits;
} dtypes[FT_COUNT] = {
#define X(e, name, bits) [FT_##e] = {name, bits},
    FILE_DTYPES(X)
#undef X
};

const char *file_dtype_name(FileDType d) { return dtypes[d].name; }
size_t file_dtype_size(FileDType d) { return dtypes[d].bits / 8; }

bool file_dtype_parse(const char *name, FileDType *d) {
    for (int i = 0; i < FT_COUNT; i++)
        if (!strcmp(dtypes[i].name, name)) return *d = (FileDType)i, true;
    return false;
}

/* --- one entry --- */

/* A JSON integer in [0, INT64_MAX]. jansson itself refuses integers beyond 64 bits. */
static bool natural(const json_t *j, int64_t *out) {
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    return *out = json_integer_value(j), true;
}

static bool parse_shape(const json_t *j, FileTensor *t, Err *e) {
    if (!json_is_array(j)) return err_set(e, "shape is not a list");
    size_t rank = json_array_size(j), bytes = file_dtype_size(t->dtype);
    if (rank > FILE_MAX_RANK) return err_set(e, "%zu dimensions; at most %d are supported", rank, FILE_MAX_RANK);
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        if (!natural(json_array_get(j, i), &t->shape[i]))
            return err_set(e, "dimension %zu of its shape is not a non-negative integer", i);
        if (!size_mul(bytes, (size_t)t->shape[i], &bytes) || bytes > INT64_MAX)
            return err_set(e, "its shape overflows 64 bits");
    }
    t->size = bytes;
    return true;
}

static bool parse_entry(const json_t *j, FileTensor *t, const uint8_t *data, size_t data_size, Err *e) {
    const json_t *dtype = json_object_get(j, "dtype"), *offsets = json_object_get(j, "data_offsets");
    int64_t begin, end;
    if (!json_is_object(j)) return err_set(e, "its entry is not an object");
    if (!json_is_string(dtype)) return err_set(e, "no dtype");
    if (!file_dtype_parse(json_string_value(dtype), &t->dtype))
        return err_set(e, "unknown dtype %.40s", json_string_value(dtype));
    if (!parse_shape(json_object_get(j, "shape"), t, e)) return false;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &begin) ||
        !natural(json_array_get(offsets, 1), &end))
        return err_set(e, "data_offsets is not a pair of non-negative integers");
    if (begin > end) return err_set(e, "data_offsets are out of order: %lld > %lld", (long long)begin, (long long)end);
    if ((uint64_t)end > data_size)
        return err_set(e, "data ends at %lld, beyond the file's %zu bytes of data", (long long)end, data_size);
    if ((size_t)(end - begin) != t->size)
        return err_set(e, "shape and dtype need %zu bytes, data_offsets give %lld", t->size, (long long)(end - begin));
    t->at = data + begin;
    return true;
}

static bool check_metadata(const json_t *j, Err *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(j)) return err_set(e, "__metadata__ is not an object");
    json_object_foreach((json_t *)(uintptr_t)j, key, v) if (!json_is_string(v)) return err_set(
        e, "__metadata__ holds something that is not a string: %.60s", key);
    return true;
}

/* --- the file --- */

static int by_place(const void *a, const void *b) {
    const FileTensor *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const FileTensor *const *)a)->name, (*(const FileTensor *const *)b)->name);
}

static bool check_coverage(const SafeTensors *s, const uint8_t *data, Err *e) {
    const uint8_t *end = s->file.at + s->file.size;
    for (size_t i = 0; i < s->n; i++) {
        const FileTensor *t = &s->at[i];
        if (t->at < data) return err_set(e, "tensor %.80s overlaps tensor %.80s", t->name, s->at[i - 1].name);
        if (t->at > data) return err_set(e, "hole of %zu bytes before tensor %.80s", (size_t)(t->at - data), t->name);
        data = t->at + t->size;
    }
    return data == end || err_set(e, "the last %zu bytes belong to no tensor", (size_t)(end - data));
}

static bool parse_header(SafeTensors *s, Arena *a, const json_t *root, const uint8_t *data, Err *e) {
    const char *name;
    json_t *j;
    size_t data_size = s->file.size - (size_t)(data - s->file.at);
    if (!json_is_object(root)) return err_set(e, "the header is not a JSON object");
    s->at = arena_array(a, json_object_size(root) + 1, sizeof *s->at);
    json_object_foreach((json_t *)(uintptr_t)root, name, j) {
        if (!strcmp(name, "__metadata__")) {
            if (!check_metadata(j, e)) return false;
            continue;
        }
        FileTensor *t = &s->at[s->n];
        *t = (FileTensor){.name = arena_strdup(a, name), .file = s->path};
        if (!parse_entry(j, t, data, data_size, e)) return err_wrap(e, "tensor %.80s", name);
        s->n++;
    }
    qsort(s->at, s->n, sizeof *s->at, by_place);
    s->by_name = arena_array(a, s->n, sizeof *s->by_name);
    for (size_t i = 0; i < s->n; i++) s->by_name[i] = &s->at[i];
    qsort(s->by_name, s->n, sizeof *s->by_name, by_name);
    return check_coverage(s, data, e);
}

static bool load(SafeTensors *s, Arena *a, Err *e) {
    uint64_t length = 0;
    size_t size = s->file.size;
    if (size < 8) return err_set(e, "%zu bytes: too short for a safetensors file", size);
    for (int i = 7; i >= 0; i--) length = length << 8 | s->file.at[i];
    if (size > 20 && !memcmp(s->file.at, "version https://git-", 20)) return err_set(e, "a Git LFS pointer, not the file itself: git lfs pull fetches it");
    if (length > MAX_HEADER) return err_set(e, "header of %llu bytes; the limit is 100 MB", (unsigned long long)length);
    if (length > size - 8)
        return err_set(e, "header of %llu bytes in a file of %zu: truncated?", (unsigned long long)length, size);
    if (length < 2 || s->file.at[8] != '{') return err_set(e, "the header is not a JSON object");
    json_t *root = json_parse((const char *)s->file.at + 8, length, JSON_REJECT_DUPLICATES, MAX_PARSED, e);
    if (!root) return err_wrap(e, "header");
    bool ok = parse_header(s, a, root, s->file.at + 8 + length, e);
    json_decref(root);
    return ok;
}

bool safetensors_open(SafeTensors *s, Arena *a, const char *path, Err *e) {
    *s = (SafeTensors){.path = arena_strdup(a, path)};
    if (!mapped_open(&s->file, path, e)) return false;
    if (load(s, a, e)) return true;
    safetensors_close(s);
    return err_wrap(e, "%s", path);
}

void safetensors_close(SafeTensors *s) {
    mapped_close(&s->file);
    s->n = 0;
}

const FileTensor *safetensors_find(const SafeTensors *s, const char *name) {
    const FileTensor key = {.name = name}, *k = &key, **t = NULL;
    if (s->n) t = bsearch(&k, s->by_name, s->n, sizeof *s->by_name, by_name);
    return t ? *t : NULL;
}
