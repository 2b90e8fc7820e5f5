/* tok_split.c - cut text into pieces by the tokenizer's pattern, run by PCRE2.
 *
 * The pattern is written for Rust's regex or Oniguruma. What PCRE2 reads otherwise is rewritten, what might be is an error:
 *   \s \S   White_Space in Unicode's sense; PCRE2's own \s also takes U+180E, which has not been a space since Unicode 6.3
 *   (?i:'s) folds to U+017F too in all three; \p{..}, \d, classes, groups and lookahead agree
 *   \w \b \h and other escapes of letters differ or may: refused
 * Text that no match covers is a piece of its own (Split's "Isolated"). An empty match splits nothing.
 * tiktoken knows Unicode 16, Debian 12's PCRE2 14: it is shown an older character of the same category and length instead.
 * Time: a pattern of the file's can take for ever, and PCRE2's limit of steps is one for each place where a match may begin. So a match is
 * looked for in the next KiB of the text, where few steps do for patterns that cut words; if it needs more text or steps, by a second
 * compilation of the pattern that calls back at each of its items, which looks at the clock. */
#include "tok_impl.h"

#include <stdlib.h>
#include <time.h>

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

enum {
    MAX_HEAP = 256 << 10, /* KiB, for one piece: a hostile pattern backtracks for ever */
    NEAR = 1024,          /* bytes in which a piece is looked for first */
    NEAR_STEPS = 4096,    /* PCRE2's, from each place of them */
    MAX_STEPS = 1 << 22   /* and, where it is looked for in all of the text, one more a byte: a long run is gone back byte by byte */
};

static pcre2_code *compile(const Text *p, uint32_t options, Err *e) {
    int code;
    PCRE2_SIZE at;
    char why[160];
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)p->at, p->n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | options, &code, &at, NULL);
    if (c) return c;
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return err_set(e, "pattern: %s, before: %.60s", why, at <= p->n && p->at ? p->at + at : ""), NULL;
}

bool split_compile(Tok *t, const char *pattern, size_t n, Err *e) {
    if (!t->limits && !(t->limits = pcre2_match_context_create(NULL))) return err_set(e, "out of memory");
    pcre2_set_heap_limit(t->limits, MAX_HEAP);
    pcre2_set_match_limit(t->limits, NEAR_STEPS);
    t->pattern = arena_strndup(t->arena, pattern, n);
    Text p = {0};
    bool ok = translate(pattern, n, &p, e) && (t->split = compile(&p, 0, e)) && (t->careful = compile(&p, PCRE2_AUTO_CALLOUT, e));
    if (ok) pcre2_jit_compile(t->split, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD); /* where it cannot (no executable memory): interpreted */
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

/* --- time --- */

enum { LOOK_EVERY = 1 << 16, LOOK_PIECES = 64 }; /* bytes gone over by callouts; pieces that were near */
static const double SECONDS = 3, SECONDS_A_BYTE = 4e-6; /* o200k takes 2e-7 s a byte (2026-11-30), so no text is refused for its length */

static double cpu_seconds(void) { /* of this thread */
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool too_long(const Split *s) { return cpu_seconds() > s->until; }

static int on_callout(pcre2_callout_block *c, void *ctx) {
    Split *s = ctx;
    size_t at = c->current_position;
    s->work += 1 + (at > s->last ? at - s->last : s->last - at);
    s->last = at;
    if (s->work < LOOK_EVERY) return 0;
    s->work = 0;
    return too_long(s) ? PCRE2_ERROR_CALLOUT : 0;
}

bool split_begin(Split *s, const Tok *t, size_t n, Err *e) {
    *s = (Split){.tok = t, .found = pcre2_match_data_create(1, NULL), .seconds = SECONDS + (double)n * SECONDS_A_BYTE};
    s->until = cpu_seconds() + s->seconds;
    return s->found || err_set(e, "out of memory while encoding");
}

void split_end(Split *s) {
    pcre2_match_data_free(s->found);
    pcre2_match_context_free(s->watched);
}

/* --- splitting --- */

enum { HOW = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY };

/* What a match in the text's next KiB gives, if it is the same whatever follows; else PCRE2_ERROR_PARTIAL or another error. */
static int match_near(Split *s, const char *text, size_t n, size_t from) {
    const Tok *t = s->tok;
    size_t end = n - from > NEAR ? from + NEAR : n;
    while (end < n && ((unsigned char)text[end] & 0xc0) == 0x80) end--; /* whole characters only */
    return pcre2_match(t->split, (PCRE2_SPTR)text, end, from, HOW | (end < n ? PCRE2_PARTIAL_HARD : 0), s->found, t->limits);
}

/* However much of the text it takes, but not however long. */
static int match_far(Split *s, const char *text, size_t n, size_t from) {
    if (!s->watched && !(s->watched = pcre2_match_context_create(NULL))) return PCRE2_ERROR_NOMEMORY;
    pcre2_set_heap_limit(s->watched, MAX_HEAP);
    pcre2_set_match_limit(s->watched, MAX_STEPS + (uint32_t)(n - from));
    pcre2_set_callout(s->watched, on_callout, s);
    s->last = from;
    return too_long(s) ? PCRE2_ERROR_CALLOUT : pcre2_match(s->tok->careful, (PCRE2_SPTR)text, n, from, HOW, s->found, s->watched);
}

static int match(Split *s, const char *text, size_t n, size_t from) {
    if (++s->pieces % LOOK_PIECES == 0 && too_long(s)) return PCRE2_ERROR_CALLOUT;
    int r = match_near(s, text, n, from);
    return r >= 0 || (r == PCRE2_ERROR_NOMATCH && n - from <= NEAR) ? r : match_far(s, text, n, from);
}

static bool not_split(const Split *s, int why, size_t from, Err *e) {
    char text[160];
    if (why == PCRE2_ERROR_CALLOUT)
        return err_set(e, "splitting text at byte %zu: more than %.0f s; the tokenizer's pattern takes too long on this text: %.200s", from,
                       s->seconds, s->tok->pattern);
    pcre2_get_error_message(why, (PCRE2_UCHAR *)text, sizeof text);
    return err_set(e, "splitting text at byte %zu: %s", from, text);
}

static bool encode(Split *s, Bpe *b, const char *text, const char *seen, size_t n, Err *e) {
    const Tok *t = s->tok;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->found);
    size_t from = 0;
    while (t->split && from < n) {
        int r = match(s, seen, n, from);
        if (r == PCRE2_ERROR_NOMATCH) break;
        if (r < 0) return not_split(s, r, from, e);
        if (at[1] <= from || at[0] < from) return err_set(e, "pattern matched backwards at byte %zu", from);
        if (!bpe_piece(b, t, text + from, at[0] - from, e)) return false;
        if (!bpe_piece(b, t, text + at[0], at[1] - at[0], e)) return false;
        from = at[1];
    }
    return bpe_piece(b, t, text + from, n - from, e);
}

bool split_encode(Split *s, Bpe *b, const char *text, size_t n, Err *e) {
    char *copy = NULL;
    const char *seen = as_older(text, n, &copy);
    bool ok = seen ? encode(s, b, text, seen, n, e) : err_set(e, "out of memory while encoding");
    free(copy);
    return ok;
}
