/* tok.c - the tokenizer: ids and their bytes, encoding, streaming decode. See tok.h; loaders and merging: tok_impl.h. */
#include "tok_impl.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

/* --- UTF-8 --- */

/* Length of the longest prefix of p[0..n), n > 0, that begins one well-formed character (Unicode table 3-7), 0 if its
 * first byte begins none; *whole: it is all of one. Less than n and not whole: what follows does not fit. */
static size_t utf8_char(const unsigned char *p, size_t n, bool *whole) {
    unsigned char c = p[0];
    size_t need = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    size_t i = need > 0;
    for (; i && i < need && i < n; i++) {
        unsigned char low = 0x80, high = 0xbf;
        if (i == 1) { /* no overlong forms, no surrogates, nothing past U+10FFFF */
            if (c == 0xe0) low = 0xa0;
            else if (c == 0xed) high = 0x9f;
            else if (c == 0xf0) low = 0x90;
            else if (c == 0xf4) high = 0x8f;
        }
        if (p[i] < low || p[i] > high) break;
    }
    *whole = need && i == need;
    return i;
}

/* End of the run of bytes from text[0] on that are (valid) or are not (!valid) whole characters. */
static size_t utf8_run(const char *text, size_t n, bool valid) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (valid && n - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        bool whole;
        size_t len = utf8_char((const unsigned char *)text + i, n - i, &whole);
        if (whole != valid) break;
        i += len ? len : 1;
    }
    return i;
}

/* --- tokens --- */

bool tok_add(Tok *t, int64_t id, const char *bytes, size_t n, uint32_t kind, Err *e) {
    if (id < 0 || id > TOK_MAX_ID) return err_set(e, "id %lld is out of range (0 to %d)", (long long)id, TOK_MAX_ID);
    if (!n || n > INT32_MAX) return err_set(e, "id %lld: a token of %zu bytes", (long long)id, n);
    if ((size_t)id >= t->cap) {
        size_t cap = t->cap ? t->cap : 1024;
        while (cap <= (size_t)id) cap *= 2;
        t->token = arena_grow(t->arena, t->token, t->n * sizeof *t->token, cap * sizeof *t->token);
        t->cap = cap;
    }
    if (t->token[id].at) return err_set(e, "id %lld occurs twice", (long long)id);
    t->token[id] = (Token){arena_strndup(t->arena, bytes, n), (uint32_t)n, kind};
    if ((size_t)id >= t->n) t->n = (size_t)id + 1;
    return true;
}

/* The free slot for these bytes, or the one that holds them. */
static size_t map_slot(const Tok *t, const TokMap *m, const char *bytes, size_t n, uint32_t *hash) {
    uint64_t h = XXH3_64bits_withSeed(bytes, n, t->seed);
    *hash = (uint32_t)(h >> 32);
    for (size_t i = (size_t)h & m->mask;; i = (i + 1) & m->mask) {
        int32_t id = m->slot[i].id;
        if (id < 0) return i;
        if (m->slot[i].hash == *hash && t->token[id].n == n && !memcmp(t->token[id].at, bytes, n)) return i;
    }
}

int32_t tok_find(const Tok *t, const TokMap *m, const char *bytes, size_t n) {
    uint32_t hash;
    return m->slot[map_slot(t, m, bytes, n, &hash)].id;
}

static bool index_kind(Tok *t, TokMap *m, uint32_t kind, Err *e) {
    size_t n = 0, slots = 16;
    for (size_t id = 0; id < t->n; id++) n += (t->token[id].kind & kind) != 0;
    while (slots < n * 2) slots *= 2;
    m->slot = arena_array(t->arena, slots, sizeof *m->slot);
    m->mask = slots - 1;
    for (size_t i = 0; i < slots; i++) m->slot[i].id = -1;
    for (size_t id = 0; id < t->n; id++) {
        const Token *k = &t->token[id];
        if (!(k->kind & kind)) continue;
        uint32_t hash;
        size_t i = map_slot(t, m, k->at, k->n, &hash);
        if (m->slot[i].id >= 0) return err_set(e, "ids %d and %zu have the same bytes", m->slot[i].id, id);
        m->slot[i].hash = hash;
        m->slot[i].id = (int32_t)id;
    }
    return true;
}

static int longer(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x < y) - (x > y);
}

static bool index_named(Tok *t, Err *e) {
    struct {
        size_t *at, n, cap;
    } len = {0};
    for (size_t id = 0; id < t->n; id++)
        if (t->token[id].kind & (TOKEN_SPECIAL | TOKEN_ADDED)) {
            if (t->token[id].n > TOK_MAX_NAME)
                return err_set(e, "id %zu: a special or added token of %u bytes (at most %d)", id, t->token[id].n, TOK_MAX_NAME);
            t->named_first[(unsigned char)t->token[id].at[0]] = true;
            PUSH(t->arena, len, t->token[id].n);
        }
    if (len.n) qsort(len.at, len.n, sizeof *len.at, longer);
    for (size_t i = 0; i < len.n; i++)
        if (!i || len.at[i] != len.at[i - 1]) len.at[t->named_lens++] = len.at[i];
    t->named_len = len.at;
    return true;
}

bool tok_index(Tok *t, Err *e) {
    if (!t->n) return err_set(e, "no tokens");
    if (!index_kind(t, &t->text, TOKEN_TEXT, e)) return false;
    if (!index_kind(t, &t->named, TOKEN_SPECIAL | TOKEN_ADDED, e)) return false;
    if (!index_named(t, e)) return false;
    for (int c = 0; c < 256; c++) t->byte_id[c] = tok_find(t, &t->text, &(char){(char)c}, 1);
    return true;
}

bool tok_add_o200k(Tok *t, Err *e) {
    enum { FIRST = 199998, END = 201088 }; /* as in gpt-oss's tokenizer.json: the rest are <|reserved_N|> */
    static const struct {
        int id;
        const char *text;
    } named[] = {
        {199998, "<|startoftext|>"}, {199999, "<|endoftext|>"},   {200002, "<|return|>"}, {200003, "<|constrain|>"},
        {200005, "<|channel|>"},     {200006, "<|start|>"},       {200007, "<|end|>"},    {200008, "<|message|>"},
        {200012, "<|call|>"},        {200018, "<|endofprompt|>"},
    };
    if (t->n > FIRST) return err_set(e, "rank %zu: o200k's end at %d", t->n - 1, FIRST - 1);
    size_t next = 0;
    for (int id = FIRST; id < END; id++) {
        char reserved[32];
        snprintf(reserved, sizeof reserved, "<|reserved_%d|>", id);
        const char *text = next < LEN(named) && named[next].id == id ? named[next++].text : reserved;
        if (!tok_add(t, id, text, strlen(text), TOKEN_SPECIAL, e)) return false;
    }
    return true;
}

static const Token *token(const Tok *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n && t->token[id].at ? &t->token[id] : NULL;
}

const char *tok_bytes(const Tok *t, int32_t id, size_t *n) {
    const Token *k = token(t, id);
    *n = k ? k->n : 0;
    return k ? k->at : NULL;
}

bool tok_is_special(const Tok *t, int32_t id) {
    const Token *k = token(t, id);
    return k && k->kind & TOKEN_SPECIAL;
}

int32_t tok_special(const Tok *t, const char *text) {
    int32_t id = tok_find(t, &t->named, text, strlen(text));
    return id >= 0 && t->token[id].kind & TOKEN_SPECIAL ? id : -1;
}

int32_t tok_vocab(const Tok *t) { return (int32_t)t->n; }

/* --- opening --- */

/* JSON begins with a brace; tokenizer.bin with a small little-endian number, so with a zero byte among the first four;
 * else it is lines of base64. */
static bool load(Tok *t, const char *bytes, size_t n, Err *e) {
    size_t blank = 0;
    while (blank < n && strchr(" \t\r\n", bytes[blank]) && bytes[blank]) blank++;
    if (blank == n) return err_set(e, "empty file");
    if (bytes[blank] == '{') return tok_load_json(t, bytes, n, e) || err_wrap(e, "as tokenizer.json");
    if (memchr(bytes, 0, n < 4 ? n : 4)) return tok_load_bin(t, bytes, n, e) || err_wrap(e, "as tokenizer.bin");
    return tok_load_tiktoken(t, bytes, n, e) || err_wrap(e, "as .tiktoken");
}

Tok *tok_open(const char *path, Err *e) {
    Arena *file = arena_new(), *a = arena_new();
    Tok *t = arena_alloc(a, sizeof *t);
    t->arena = a;
    t->seed = random_seed();
    struct stat st;
    if (!stat(path, &st) && S_ISDIR(st.st_mode)) path = arena_printf(file, "%s/tokenizer.json", path);
    size_t n;
    const char *bytes = file_read_text(file, path, &n, e); /* a .bin cannot begin with a mark: no token is that long */
    bool ok = bytes && (load(t, bytes, n, e) || err_wrap(e, "%s", path));
    arena_free(file);
    if (ok) return t;
    tok_close(t);
    return NULL;
}

void tok_close(Tok *t) {
    if (!t) return;
    pcre2_code_free(t->split);
    pcre2_code_free(t->careful);
    pcre2_match_context_free(t->limits);
    arena_free(t->arena);
}

/* --- encoding --- */

static bool encode_plain(Bpe *b, Split *s, const char *text, size_t n, Err *e) {
    for (size_t i = 0; i < n;) {
        size_t run = utf8_run(text + i, n - i, true);
        if (!split_encode(s, b, text + i, run, e)) return false;
        i += run;
        run = utf8_run(text + i, n - i, false);
        if (!bpe_piece(b, s->tok, text + i, run, e)) return false;
        i += run;
    }
    return true;
}

/* The longest special or added token at text, -1 if none is to be found there. */
static int32_t named_at(const Tok *t, const char *text, size_t n, uint32_t kind) {
    if (!t->named_first[(unsigned char)text[0]]) return -1;
    for (size_t i = 0; i < t->named_lens; i++) {
        if (t->named_len[i] > n) continue;
        int32_t id = tok_find(t, &t->named, text, t->named_len[i]);
        if (id >= 0 && t->token[id].kind & kind) return id;
    }
    return -1;
}

static bool encode(Bpe *b, Split *s, const char *text, size_t n, uint32_t kind, Err *e) {
    const Tok *t = s->tok;
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        int32_t id = named_at(t, text + i, n - i, kind);
        if (id < 0) {
            i++;
            continue;
        }
        if (!encode_plain(b, s, text + from, i - from, e) || !bpe_put(b, id, e)) return false;
        from = i += t->token[id].n;
    }
    return encode_plain(b, s, text + from, n - from, e);
}

bool tok_encode(const Tok *t, const char *text, size_t n, bool specials, int32_t **ids, size_t *count, Err *e) {
    if (n >= INT32_MAX) return err_set(e, "a text of %zu bytes; at most 2 GiB can be encoded at once", n);
    Split s;
    Bpe b = {0};
    bool ok = split_begin(&s, t, n, e) && encode(&b, &s, text, n, specials ? TOKEN_SPECIAL | TOKEN_ADDED : TOKEN_ADDED, e);
    size_t total, size;
    if (ok && b.n) {
        int32_t *p = size_add(*count, b.n, &total) && size_mul(total, sizeof *p, &size) ? realloc(*ids, size) : NULL;
        if (p) memcpy(p + *count, b.id, b.n * sizeof *p), *ids = p, *count = total;
        else ok = err_set(e, "out of memory while encoding");
    }
    bpe_free(&b);
    split_end(&s);
    return ok;
}

/* --- streaming decode --- */

static void replacement(Text *out) { text_put(out, "\xef\xbf\xbd", 3); }

static void stream_byte(TokStream *s, unsigned char c, Text *out) {
    bool whole;
    s->held[s->n++] = c;
    size_t len = utf8_char(s->held, s->n, &whole);
    if (whole) {
        text_put(out, s->held, s->n);
        s->n = 0;
    } else if (len < s->n) { /* c does not continue what was held, or begins nothing */
        replacement(out);
        bool again = s->n > 1;
        s->n = 0;
        if (again) stream_byte(s, c, out);
    }
}

bool tok_stream(TokStream *s, const Tok *t, int32_t id, Text *out) {
    const Token *k = token(t, id);
    if (!k) return false;
    for (size_t i = 0; i < k->n; i++) stream_byte(s, (unsigned char)k->at[i], out);
    return true;
}

void tok_stream_end(TokStream *s, Text *out) {
    if (s->n) replacement(out);
    s->n = 0;
}
