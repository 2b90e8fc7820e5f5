/* tok_tiktoken.c - load a .tiktoken: lines of base64 bytes, a space, and the rank, which is the id.
 *
 * The file names no pattern and no special tokens: o200k's and o200k_harmony's are used. A rank that reaches into the
 * special ids is an error, so another vocabulary (other than a smaller one) is told apart. */
#include "tok_impl.h"

static int digit64(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) : -1;
}

/* Decodes n characters of padded base64 into out; SIZE_MAX if they are none. */
static size_t base64(const char *s, size_t n, char *out) {
    size_t pad = n && s[n - 1] == '=' ? 1 + (n > 1 && s[n - 2] == '=') : 0, made = 0;
    uint32_t bits = 0;
    if (!n || n % 4) return SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        int d = i < n - pad ? digit64(s[i]) : 0;
        if (d < 0) return SIZE_MAX;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 < 3) continue;
        for (int shift = 16; shift >= 0; shift -= 8) out[made++] = (char)(bits >> shift);
    }
    return made - pad;
}

static bool load_line(Tok *t, const char *line, size_t n, Err *e) {
    char bytes[TOK_MAX_LEN + 2];
    const char *space = memchr(line, ' ', n);
    size_t len = space ? (size_t)(space - line) : 0, digits = space ? n - len - 1 : 0;
    if (!digits || digits > 9) return err_set(e, "not base64, a space and a rank");
    int64_t rank = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = space[1 + i];
        if (c < '0' || c > '9') return err_set(e, "the rank is not a number");
        rank = rank * 10 + (c - '0');
    }
    size_t made = len <= sizeof bytes / 3 * 4 ? base64(line, len, bytes) : sizeof bytes;
    if (made == SIZE_MAX) return err_set(e, "bad base64");
    if (made > TOK_MAX_LEN) return err_set(e, "a token of more than %d bytes", TOK_MAX_LEN);
    return tok_add(t, rank, bytes, made, TOKEN_TEXT, e);
}

bool tok_load_tiktoken(Tok *t, const char *bytes, size_t n, Err *e) {
    size_t line = 1;
    for (size_t i = 0; i < n; line++) {
        const char *end = memchr(bytes + i, '\n', n - i);
        size_t len = end ? (size_t)(end - bytes) - i : n - i, text = len;
        if (text && bytes[i + text - 1] == '\r') text--;
        if (text && !load_line(t, bytes + i, text, e)) return err_wrap(e, "line %zu", line);
        i += len + 1;
    }
    if (!tok_add_o200k(t, e) || !tok_index(t, e)) return false;
    Arena *a = arena_new();
    uint32_t *rank = arena_array(a, t->n, sizeof *rank);
    for (size_t id = 0; id < t->n; id++) rank[id] = (uint32_t)id;
    bool ok = bpe_derive(t, rank, e);
    arena_free(a);
    t->whole = true;
    return ok && split_compile(t, split_o200k, strlen(split_o200k), e);
}
