/* plan_changes.h - the mutator of fuzz_plan and fuzz_run: one to three things of a plan are changed in the terms of the thing, and it is
 * sealed again. Numbers and names are mostly replaced by others of the same plan under the same key, for those come furthest. */
#ifndef GPTOSS_PLAN_CHANGES_H
#define GPTOSS_PLAN_CHANGES_H

#include "plan_parts.h"

static unsigned next(unsigned *seed) { return *seed = *seed * 1103515245u + 12345u, *seed >> 8; }

/* Any of the places where it comes. */
static size_t find_any(const Text *t, const char *what, unsigned *seed) {
    size_t at = find(t, what, t->n ? next(seed) % t->n : 0);
    return at < t->n ? at : find(t, what, 0);
}

/* --- numbers and names ------------------------------------------------------------------------------------------------------- */

static long long odd_number(long long v, unsigned *seed) {
    static const long long edges[] = {0, 1, -1, 2, 3, 7, 8, 31, 64, 255, 256, 65535, 65536, INT32_MAX, INT32_MIN, UINT32_MAX, 1ll << 40, INT64_MAX, INT64_MIN};
    switch (next(seed) % 4) {
    case 0: return edges[next(seed) % LEN(edges)];
    case 1: return v < INT64_MAX ? v + 1 : v;
    case 2: return v > INT64_MIN ? v - 1 : v;
    default: return v < INT64_MAX / 2 && v > INT64_MIN / 2 ? v * 2 : v / 2;
    }
}

typedef struct Leaf Leaf; /* a number, text or word of the metadata */
struct Leaf {
    size_t at, end;
    char kind; /* '"', '0', or the word's first letter; 0: none */
};

static bool is_key(const Text *t, size_t at) {
    const char *quote = t->at[at] == '"' ? memchr(t->at + at + 1, '"', t->n - at - 1) : NULL;
    return quote && quote[1] == ':';
}

/* The first leaf in [from, to). */
static Leaf leaf_in(const Text *t, size_t from, size_t to) {
    for (from += !from; from < to; from++) {
        char c = t->at[from];
        if (!strchr(":[,", t->at[from - 1]) || strchr("[{]}@", c) || is_key(t, from)) continue;
        return (Leaf){from, value_end(t, from), c == '-' || (c >= '0' && c <= '9') ? '0' : c};
    }
    return (Leaf){0};
}

/* The key of the object above a place: it stands last before it. */
static size_t key_of(const Text *t, size_t at, char key[40]) {
    size_t colon = at, from;
    while (colon > 1 && !(t->at[colon] == ':' && t->at[colon - 1] == '"')) colon--;
    for (from = colon > 1 ? colon - 2 : 0; from > 0 && t->at[from] != '"';) from--;
    snprintf(key, 40, "%.*s", (int)(colon + 1 - from), t->at + from);
    return strlen(key);
}

/* A leaf becomes another that stands under the same key, or something odd. */
static void change_leaf(Apart *a, unsigned *seed) {
    Text *t = &a->meta;
    char key[40], number[32];
    Leaf at = t->n ? leaf_in(t, next(seed) % t->n, t->n) : (Leaf){0}, other = {0};
    if (!at.kind) return;
    size_t n = key_of(t, at.at, key), where = find_any(t, key, seed) + n;
    if (where < t->n) {
        size_t end = value_end(t, where);
        other = leaf_in(t, where + next(seed) % (end - where + 1), end);
        if (!other.kind) other = leaf_in(t, where, end);
    }
    if (other.kind == at.kind && other.at != at.at && next(seed) % 4) {
        char *copy = strndup(t->at + other.at, other.end - other.at);
        replace(t, at.at, at.end, copy, strlen(copy));
        free(copy);
        return;
    }
    if (at.kind == '0') snprintf(number, sizeof number, "%lld", odd_number(number_at(t, at.at), seed));
    else if (at.kind == 't') snprintf(number, sizeof number, "false");
    else if (at.kind == 'f') snprintf(number, sizeof number, "true");
    else snprintf(number, sizeof number, next(seed) % 2 ? "\"step\"" : "\"0x1p+1000\"");
    replace(t, at.at, at.end, number, strlen(number));
}

/* An element of a list goes, comes twice, or changes places with another. */
static void change_list(Apart *a, unsigned *seed) {
    static const char *const lists[] = {"\"bufs\":[", "\"kernels\":[", "\"graphs\":[", "\"kv\":[", "\"launches\":[", "\"values\":[", "\"args\":[", "\"type\":[", "\"states\":["};
    enum { MOST = 500 };
    Text *t = &a->meta, new = {0};
    const char *list = lists[next(seed) % LEN(lists)];
    size_t begin = find_any(t, list, seed) + strlen(list), from[MOST + 1], n = 0;
    if (begin >= t->n || t->at[begin] == ']') return;
    for (from[0] = begin; n < MOST; from[n] = from[n] + 1) {
        size_t end = value_end(t, from[n]);
        from[++n] = end;
        if (end >= t->n || t->at[end] != ',') break;
    }
    size_t i = next(seed) % n, k = next(seed) % n, end = from[n];
    unsigned what = next(seed) % 3;
    for (size_t x = 0; x < n; x++) {
        size_t y = what == 2 && x == i ? k : what == 2 && x == k ? i : x;
        size_t size = (y + 1 == n ? end : value_end(t, from[y])) - from[y];
        if (what == 0 && x == i) continue;
        if (new.n) text_put(&new, ",", 1);
        text_put(&new, t->at + from[y], size);
        if (what == 1 && x == i) text_put(&new, ",", 1), text_put(&new, t->at + from[y], size);
    }
    replace(t, begin, end, new.at ? new.at : "", new.n);
    text_free(&new);
}

/* --- the program's text ------------------------------------------------------------------------------------------------------ */

static bool is_word(char c) { return c && (strchr("._-/$", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')); }

static size_t word_at(const Text *t, size_t from, size_t *end) {
    while (from < t->n && !is_word(t->at[from])) from++;
    while (from > 0 && is_word(t->at[from - 1])) from--;
    for (*end = from; *end < t->n && is_word(t->at[*end]);) ++*end;
    return from;
}

/* A word becomes another of the text, or an odd number. */
static void change_word(Text *t, unsigned *seed) {
    size_t end, other_end;
    if (!t->n) return;
    size_t at = word_at(t, next(seed) % t->n, &end);
    size_t other = word_at(t, next(seed) % 2 ? next(seed) % t->n : (at + next(seed) % 200) % t->n, &other_end);
    char number[32];
    snprintf(number, sizeof number, "%lld", odd_number(number_at(t, at), seed));
    bool digit = at < t->n && t->at[at] >= '0' && t->at[at] <= '9';
    char *word = digit && next(seed) % 2 ? strdup(number) : strndup(t->at + other, other_end - other);
    replace(t, at, end, word, strlen(word));
    free(word);
}

/* A line goes, comes twice, or moves. */
static void change_line(Text *t, unsigned *seed) {
    if (!t->n) return;
    size_t at = next(seed) % t->n, to = next(seed) % t->n, end;
    while (at && t->at[at - 1] != '\n') at--;
    for (end = at; end < t->n && t->at[end] != '\n';) end++;
    end += end < t->n;
    while (to && t->at[to - 1] != '\n') to--;
    char *line = strndup(t->at + at, end - at);
    bool twice = next(seed) % 2, nowhere = next(seed) % 3 == 0;
    if (!twice) {
        replace(t, at, end, "", 0);
        if (to > at) to = to >= end ? to - (end - at) : at;
    }
    if (!nowhere) replace(t, to, to, line, strlen(line));
    free(line);
}

/* Each number `was` in [from, to) of the text; returns how much longer it got. */
static void replace_number(Text *t, size_t from, size_t to, long long was, long long now) {
    Text new = {0};
    text_put(&new, t->at, from);
    for (size_t i = from; i < to;) {
        char *after = t->at + i;
        bool starts = t->at[i] >= '0' && t->at[i] <= '9' && (!i || !is_word(t->at[i - 1]));
        if (starts && strtoll(t->at + i, &after, 10) == was && !is_word(*after)) text_add(&new, "%lld", now), i = (size_t)(after - t->at);
        else text_put(&new, t->at + i++, 1);
    }
    text_put(&new, t->at + to, t->n - to);
    text_free(t);
    *t = new;
}

/* One number everywhere: in the program, and in the types of the metadata. */
static void change_everywhere(Apart *a, unsigned *seed) {
    Text *t = blob_text(&a->blob[0]), *m = &a->meta;
    size_t end, at = t->n ? word_at(t, next(seed) % t->n, &end) : 0;
    while (at < t->n && !(t->at[at] >= '0' && t->at[at] <= '9')) at++;
    if (at >= t->n) return;
    long long was = number_at(t, at), now = next(seed) % 2 && was < INT32_MAX ? was + 32 * (long long)(next(seed) % 5) - 64 : odd_number(was, seed);
    replace_number(t, 0, t->n, was, now);
    for (size_t i = 0; (i = find(m, "\"type\":[", i)) < m->n; i += 8) replace_number(m, i + 7, value_end(m, i + 7), was, now);
}

/* --- what belongs together --------------------------------------------------------------------------------------------------- */

static void symbols_most(const Text *m, long long most[SYM_COUNT]) {
    static const char key[] = "\"sym\":", list[] = "\"buckets\":[";
    for (size_t at = 0; (at = find(m, key, at)) < m->n;) {
        at += sizeof key - 1;
        long long sym = number_at(m, at), last = 0;
        size_t from = find(m, list, at), end;
        for (from += sizeof list - 1; from < m->n && m->at[from] != ']'; from = end + (end < m->n && m->at[end] == ',')) {
            end = value_end(m, from);
            last = number_at(m, from);
            if (end == from) break;
        }
        if (sym > 0 && sym < SYM_COUNT && last > most[sym]) most[sym] = last;
    }
}

/* Bytes of a type as the metadata write it, ["f32",[symbol,factor,addend],…]; false: it is none. */
static bool bytes_of_type(const Text *m, size_t at, size_t end, const long long *most, size_t *bytes) {
    char name[16] = "", *s = m->at + at;
    DType dtype;
    size_t n = 1;
    if (end < at + 4 || strncmp(s, "[\"", 2)) return false;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(s + 2, "\"]"), s + 2);
    if (!dtype_parse(name, &dtype)) return false;
    for (char *d = s + 1; d < m->at + end && (d = memchr(d, '[', (size_t)(m->at + end - d)));) {
        long long of[3] = {0};
        for (int i = 0; i < 3 && (!i || *d == ','); i++) of[i] = strtoll(d + 1, &d, 10);
        n *= (size_t)of[2] + (of[0] > 0 && of[0] < SYM_COUNT ? (size_t)of[1] * (size_t)most[of[0]] : 0);
    }
    return dtype_bytes(dtype, n, bytes) && *bytes <= INT64_MAX;
}

/* Sizes as the types say, so that what is behind that statement is reached. */
static void fix_sizes(Apart *a) {
    static const char key[] = "\"type\":", size[] = "\"size\":";
    Text *m = &a->meta, new = {0};
    long long most[SYM_COUNT] = {0, 1, 1, 1};
    size_t bytes, from = 0;
    symbols_most(m, most);
    for (size_t at = 0; (at = find(m, key, at)) < m->n;) {
        at += sizeof key - 1;
        size_t end = value_end(m, at), where = find(m, size, at), next_type = find(m, key, at);
        if (where > next_type || where == m->n || !bytes_of_type(m, at, end, most, &bytes)) continue;
        where += sizeof size - 1;
        if (where < from) continue; /* inside what stands there for a size */
        text_put(&new, m->at + from, where - from), text_add(&new, "%zu", bytes);
        from = value_end(m, where);
    }
    text_put(&new, m->at + from, m->n - from);
    text_free(m);
    *m = new;
}

static void change_code(Apart *a, unsigned *seed) {
    Blob *b = &a->blob[next(seed) % a->n];
    if (b->packed || b->n_stored < 512) return;
    Text *t = blob_text(b);
    t->at[next(seed) % 2 ? next(seed) % t->n : 256 + next(seed) % 256] ^= (char)(1u << next(seed) % 8);
}

/* Any bytes of the metadata or the program, as libFuzzer changes them. */
static void change_bytes(Text *t) {
    size_t n = t->n, max = n + 256;
    char *bytes = malloc(max + 1);
    memcpy(bytes, t->at, n);
    n = LLVMFuzzerMutate((uint8_t *)bytes, n, max);
    replace(t, 0, t->n, bytes, n);
    free(bytes);
}

static void mutate_once(Apart *a, unsigned *seed) {
    switch (next(seed) % 32) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5: change_list(a, seed); break;
    case 6:
    case 7:
    case 8:
    case 9: change_word(blob_text(&a->blob[0]), seed); break;
    case 10:
    case 11: change_line(blob_text(&a->blob[0]), seed); break;
    case 12: change_everywhere(a, seed), fix_sizes(a); break;
    case 13:
    case 14: change_code(a, seed); break;
    case 15: change_word(blob_text(&a->blob[next(seed) % a->n]), seed); break;
    case 16: change_bytes(&a->meta); break;
    case 17: change_bytes(blob_text(&a->blob[0])); break;
    default: change_leaf(a, seed); break;
    }
}

/* The plan, now and then with a bit of it wrong, sealed. 0: it does not fit. */
static size_t give(Apart *a, uint8_t *data, size_t max, unsigned *seed) {
    Text file = put_together(a, next(seed) % 16 == 0);
    if (next(seed) % 64 == 0) file.at[HEADER + next(seed) % 12] ^= (char)(1u << next(seed) % 8); /* the head of the metadata's frame */
    if (next(seed) % 64 == 0) file.at[HEADER + next(seed) % (file.n - HEADER)] ^= (char)(1u << next(seed) % 8);
    seal(&file);
    size_t n = file.n <= max ? file.n : 0;
    memcpy(data, file.at, n);
    text_free(&file);
    return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    Apart a;
    if (next(&seed) % 64 == 0 || !take_apart(data, n, &a)) return LLVMFuzzerMutate(data, n, max);
    size_t made = 0;
    if (a.n) {
        for (unsigned k = 1 + next(&seed) % 3; k; k--) mutate_once(&a, &seed);
        if (next(&seed) % 2) fix_sizes(&a);
        made = give(&a, data, max, &seed);
    }
    drop(&a);
    return made ? made : LLVMFuzzerMutate(data, n, max);
}

#endif
