/* tok_bin.c - load a llama2.c-style tokenizer.bin: i32 longest token; then for each id f32 score, i32 length, bytes.
 *
 * Little-endian, to the end of the file. Ordinary tokens: score = rank; special: score -1e30. A lone byte 0 is written
 * <0x00>. Length 0 is an id that is not used. No pattern: o200k's. The first number is only a hint for readers with a
 * fixed buffer; here it must just not be negative. */
#include "tok_impl.h"

enum { HEAD = 4, ENTRY = 8 };

static int32_t i32_at(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return (int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
}

static bool load_entry(Tok *t, size_t id, float score, const char *bytes, size_t n, uint32_t *rank, Err *e) {
    static const char zero[] = "<0x00>";
    bool special = score == -1e30f;
    if (!special && !(score >= 0 && score <= TOK_MAX_ID && score == (float)(uint32_t)score))
        return err_set(e, "score %g is neither a rank nor -1e30", (double)score);
    if (n > TOK_MAX_LEN) return err_set(e, "a token of more than %d bytes", TOK_MAX_LEN);
    *rank = special ? 0 : (uint32_t)score;
    bool nul = !special && n == strlen(zero) && !memcmp(bytes, zero, n);
    return tok_add(t, (int64_t)id, nul ? "" : bytes, nul ? 1 : n, special ? TOKEN_SPECIAL : TOKEN_TEXT, e);
}

bool tok_load_bin(Tok *t, const char *bytes, size_t n, Err *e) {
    if (n < HEAD + ENTRY || i32_at(bytes) < 0)
        return err_set(e, "not a tokenizer.bin: truncated, or a negative length");
    Arena *a = arena_new();
    uint32_t *rank = arena_array(a, n / ENTRY, sizeof *rank); /* an entry takes at least so much */
    bool ok = true;
    size_t id = 0;
    for (size_t at = HEAD; ok && at < n; id++) {
        int32_t len = n - at < ENTRY ? -1 : i32_at(bytes + at + 4);
        if (len < 0 || (size_t)len > n - at - ENTRY) {
            ok = err_set(e, len < 0 && n - at >= ENTRY ? "a negative length" : "truncated");
        } else if (len) {
            float score = f32_of_bits((uint32_t)i32_at(bytes + at));
            ok = load_entry(t, id, score, bytes + at + ENTRY, (size_t)len, &rank[id], e);
        }
        if (!ok) err_wrap(e, "token %zu, at byte %zu", id, at);
        at += ENTRY + (size_t)(len > 0 ? len : 0);
    }
    ok = ok && tok_index(t, e) && bpe_derive(t, rank, e);
    arena_free(a);
    t->whole = true;
    return ok && split_compile(t, split_o200k, strlen(split_o200k), e);
}
