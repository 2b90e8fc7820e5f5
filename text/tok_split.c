/* tok_split.c - cut text into pieces by the tokenizer's pattern, run by PCRE2.
 *
 * The pattern is written for Rust's regex or Oniguruma. What PCRE2 reads otherwise is rewritten, what might be is an error:
 *   \s \S   White_Space in Unicode's sense; PCRE2's own \s also takes U+180E, which has not been a space since Unicode 6.3
 *   (?i:'s) folds to U+017F too in all three; \p{..}, \d, classes, groups and lookahead agree
 *   \w \b \h and other escapes of letters differ or may: refused
 * Text that no match covers is a piece of its own (Split's "Isolated"). An empty match splits nothing.
 * tiktoken knows Unicode 16, Debian 12's PCRE2 14: it is shown an older character of the same category and length instead. */
#include "tok_impl.h"

#include <stdlib.h>

const char split_o200k[] = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
                           "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                           "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
                           "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                           "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char split_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

static bool translate(const char *p, size_t n, Text *out, Err *e) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\\') {
            text_put(out, p + i, 1);
            continue;
        }
        if (++i == n) return err_set(e, "pattern ends in a backslash");
        if (p[i] == 's' || p[i] == 'S') text_add(out, "\\%c{White_Space}", p[i] == 's' ? 'p' : 'P');
        else if (letter(p[i]) && !strchr("rntdDpP", p[i])) return err_set(e, "pattern: \\%c is not supported", p[i]);
        else text_put(out, p + i - 1, 2);
    }
    return true;
}

enum { MAX_HEAP = 256 << 10, MAX_STEPS = 1 << 22 }; /* KiB, and PCRE2's steps, for one piece: a hostile pattern backtracks for ever */

bool split_compile(Tok *t, const char *pattern, size_t n, Err *e) {
    if (!t->limits && !(t->limits = pcre2_match_context_create(NULL))) return err_set(e, "out of memory");
    pcre2_set_heap_limit(t->limits, MAX_HEAP);
    pcre2_set_match_limit(t->limits, MAX_STEPS);
    Text p = {0};
    int code;
    PCRE2_SIZE at;
    bool ok = translate(pattern, n, &p, e);
    if (ok) {
        t->split =
            pcre2_compile((PCRE2_SPTR)p.at, p.n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
        char why[160];
        if (!t->split) {
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            ok = err_set(e, "pattern: %s, before: %.60s", why, at <= p.n && p.at ? p.at + at : "");
        } else {
            pcre2_jit_compile(t->split, PCRE2_JIT_COMPLETE); /* where it cannot (no executable memory): interpreted */
        }
    }
    text_free(&p);
    return ok;
}

/* --- characters that are newer than the library --- */

enum { Lu, Ll, Lm, Lo, Mn, Mc, Nd, No };
static const char *const older[][2] =
    {/* of each category, of three and of four bytes */
     [Lu] = {"\uA640", "\U00010400"}, [Ll] = {"\uA641", "\U00010428"}, [Lm] = {"\u1D2C", "\U00016B40"},
     [Lo] = {"\u4E00", "\U00020000"}, [Mn] = {"\u1DC0", "\U0001D167"}, [Mc] = {"\u0903", "\U0001D165"},
     [Nd] = {"\u0966", "\U0001D7CE"}, [No] = {"\u2460", "\U0001F100"}};
static const struct Newer {
    uint32_t first, last;
    int category;
} newer[] = {
#define NEWER(first, last, category) {first, last, category},
#include "unicode16.def"
};

static const struct Newer *find_newer(uint32_t c) {
    size_t low = 0, high = LEN(newer);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > newer[mid].last) low = mid + 1;
        else high = mid;
    }
    return low < LEN(newer) && c >= newer[low].first ? &newer[low] : NULL;
}

/* The text as PCRE2 is to see it: itself, or *copy (the caller frees it; NULL on return: out of memory). Text is UTF-8. */
static const char *as_older(const char *text, size_t n, char **copy) {
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0, len; i < n; i += len) {
        len = p[i] < 0x80 ? 1 : p[i] < 0xe0 ? 2 : p[i] < 0xf0 ? 3 : 4;
        if (len < 3) continue;
        uint32_t c = len == 3 ? p[i] & 15u : p[i] & 7u;
        for (size_t k = 1; k < len; k++) c = c << 6 | (p[i + k] & 63u);
        const struct Newer *r = find_newer(c);
        if (!r) continue;
        if (!*copy && !(*copy = malloc(n))) return NULL;
        if (p == (const unsigned char *)text) p = memcpy(*copy, text, n);
        memcpy(*copy + i, older[r->category][len - 3], len);
    }
    return (const char *)p;
}

/* --- splitting --- */

/* The JIT runs on 32 KiB of stack; when that is used up (o200k's pattern never does) the interpreter takes over, on the heap. */
static int match(const Tok *t, pcre2_match_data *m, const char *text, size_t n, size_t from) {
    uint32_t how = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int r = pcre2_match(t->split, (PCRE2_SPTR)text, n, from, how, m, t->limits);
    if (r == PCRE2_ERROR_JIT_STACKLIMIT)
        r = pcre2_match(t->split, (PCRE2_SPTR)text, n, from, how | PCRE2_NO_JIT, m, t->limits);
    return r;
}

static bool encode(Bpe *b, const Tok *t, pcre2_match_data *m, const char *text, const char *seen, size_t n, Err *e) {
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m);
    size_t from = 0;
    while (t->split && from < n) {
        int r = match(t, m, seen, n, from);
        if (r == PCRE2_ERROR_NOMATCH) break;
        if (r < 0) {
            char why[160];
            pcre2_get_error_message(r, (PCRE2_UCHAR *)why, sizeof why);
            return err_set(e, "splitting text at byte %zu: %s", from, why);
        }
        if (at[1] <= from || at[0] < from) return err_set(e, "pattern matched backwards at byte %zu", from);
        if (!bpe_piece(b, t, text + from, at[0] - from, e)) return false;
        if (!bpe_piece(b, t, text + at[0], at[1] - at[0], e)) return false;
        from = at[1];
    }
    return bpe_piece(b, t, text + from, n - from, e);
}

bool split_encode(Bpe *b, const Tok *t, pcre2_match_data *m, const char *text, size_t n, Err *e) {
    char *copy = NULL;
    const char *seen = as_older(text, n, &copy);
    bool ok = seen ? encode(b, t, m, text, seen, n, e) : err_set(e, "out of memory while encoding");
    free(copy);
    return ok;
}
