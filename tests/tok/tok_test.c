/* tok_test.c - the tokenizer against a naive one written here, against tiktoken's ids (o200k.txt), and against bad files.
 *
 *   tok_test [NAME...]     prints "ok NAME", "FAIL NAME: why" or "skip NAME: why"; exit 0 if none failed
 * Environment: GPTOSS_SHARED (default ../shared) holds data/tokenizer.json.xz and o200k_base.tiktoken; GPTOSS_TOK is the
 * program gptoss-tok (default out/gptoss-tok). Run in the repository root. Add a test to the table at the end. */
#include "text/tok_impl.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/tok_test.XXXXXX";
static uint64_t seed = 88172645463325252u; /* every run draws the same */

static uint32_t draw(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)((seed >> 20) % n);
}

/* --- helpers --- */

typedef struct Ids Ids;
struct Ids {
    int32_t *at;
    size_t n;
};

static void ids_put(Ids *v, int32_t id) {
    v->at = realloc(v->at, (v->n + 1) * sizeof *v->at);
    v->at[v->n++] = id;
}

static void ids_free(Ids *v) {
    free(v->at);
    *v = (Ids){0};
}

static bool ids_equal(const Ids *a, const Ids *b) {
    return a->n == b->n && (!a->n || !memcmp(a->at, b->at, a->n * sizeof *a->at));
}

/* "got 1 2, expected 1 3 for \"text\"", shortened. */
static bool differ(const Ids *got, const Ids *want, const char *text, size_t n, Err *e) {
    Text t = {0};
    const Ids *both[] = {got, want};
    for (size_t k = 0; k < 2; k++) {
        text_add(&t, k ? "; expected" : "got");
        for (size_t i = 0; i < both[k]->n && i < 20; i++) text_add(&t, " %d", both[k]->at[i]);
    }
    text_add(&t, " for ");
    for (size_t i = 0; i < n && i < 60; i++)
        text_add(&t, (unsigned char)(text[i] - 33) > 93 ? "\\x%02x" : "%c", (unsigned char)text[i]);
    err_set(e, "%.1000s", t.at);
    text_free(&t);
    return false;
}

static bool encode(const Tok *t, const char *text, size_t n, bool specials, Ids *out, Err *e) {
    *out = (Ids){0};
    return tok_encode(t, text, n, specials, &out->at, &out->n, e);
}

static bool expect(const Tok *t, const char *text, size_t n, bool specials, const Ids *want, Err *e) {
    Ids got;
    bool ok = encode(t, text, n, specials, &got, e) && (ids_equal(&got, want) || differ(&got, want, text, n, e));
    ids_free(&got);
    return ok;
}

static bool round_trip(const Tok *t, const char *text, size_t n, bool specials, Err *e) {
    Ids got;
    bool ok = encode(t, text, n, specials, &got, e);
    size_t at = 0, len = 0;
    for (size_t i = 0; ok && i < got.n; i++, at += len) {
        const char *b = tok_bytes(t, got.at[i], &len);
        ok = (b && len <= n - at && !memcmp(b, text + at, len)) ||
             err_set(e, "token %zu of a text of %zu bytes differs", i, n);
    }
    if (ok && at != n) ok = err_set(e, "decodes to %zu bytes of %zu", at, n);
    ids_free(&got);
    return ok;
}

static Tok *open_bytes(const char *name, const void *bytes, size_t n, Err *e) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return file_write(path, bytes, n, e) ? tok_open(path, e) : NULL;
}

/* NULL, and e empty: there is no shared folder. */
static Tok *open_shared(const char *format, Err *e) {
    const char *shared = getenv("GPTOSS_SHARED") ? getenv("GPTOSS_SHARED") : "../shared";
    char path[512], command[1200];
    bool json = !strcmp(format, "json");
    snprintf(path, sizeof path, "%s/data/%s", shared, json ? "tokenizer.json.xz" : "o200k_base.tiktoken");
    if (access(path, R_OK)) return NULL;
    if (!json) return tok_open(path, e);
    snprintf(command, sizeof command, "test -f %s/tokenizer.json || xz -dkc '%s' >%s/tokenizer.json", dir, path, dir);
    if (system(command)) return err_set(e, "cannot run xz"), NULL;
    return tok_open(dir, e); /* the folder */
}

typedef enum { FAIL, OK, SKIP } Result;

static Result shared_missing(Err *e) {
    if (*e->msg) return FAIL;
    err_set(e, "no shared tokenizer (GPTOSS_SHARED)");
    return SKIP;
}

/* --- a naive tokenizer --- */

enum { WORDS = 700 };
typedef struct Naive Naive;
struct Naive { /* word id < 256 is the byte; each later one is made of left and right */
    char at[WORDS][24];
    size_t len[WORDS];
    int left[WORDS], right[WORDS];
};

static int naive_find(const Naive *v, const char *s, size_t n) {
    for (int i = 0; i < WORDS; i++)
        if (v->len[i] == n && !memcmp(v->at[i], s, n)) return i;
    return -1;
}

/* Words over few letters, so that merges overlap in every way. */
static void naive_make(Naive *v, const char *letters) {
    for (int i = 0; i < 256; i++) v->at[i][0] = (char)i, v->len[i] = 1;
    for (int i = 256; i < WORDS;) {
        int pair[2];
        for (int k = 0; k < 2; k++)
            pair[k] = draw(3) && i > 256 ? 256 + (int)draw((uint32_t)i - 256)
                                         : (unsigned char)letters[draw((uint32_t)strlen(letters))];
        size_t l = v->len[pair[0]], r = v->len[pair[1]];
        if (l + r > sizeof v->at[0]) continue;
        memcpy(v->at[i], v->at[pair[0]], l);
        memcpy(v->at[i] + l, v->at[pair[1]], r);
        if (naive_find(v, v->at[i], l + r) >= 0) continue;
        v->len[i] = l + r, v->left[i] = pair[0], v->right[i] = pair[1];
        i++;
    }
}

/* What two neighbours merge into, -1 if nothing: by the listed pairs (json), or whenever the bytes are a word. */
static int naive_pair(const Naive *v, int l, int r, bool listed) {
    char both[48];
    memcpy(both, v->at[l], v->len[l]);
    memcpy(both + v->len[l], v->at[r], v->len[r]);
    int id = naive_find(v, both, v->len[l] + v->len[r]);
    if (id >= 0 && listed && (v->left[id] != l || v->right[id] != r)) return -1;
    return id;
}

static void naive_encode(const Naive *v, const char *s, size_t n, bool listed, bool whole, Ids *out) {
    int id = whole ? naive_find(v, s, n) : -1;
    *out = (Ids){0};
    if (id >= 0) {
        ids_put(out, id);
        return;
    }
    for (size_t i = 0; i < n; i++) ids_put(out, (unsigned char)s[i]);
    for (;;) {
        int best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < out->n; i++) {
            int both = naive_pair(v, out->at[i], out->at[i + 1], listed);
            if (both >= 0 && (best < 0 || both < best)) best = both, at = i;
        }
        if (best < 0) return;
        out->at[at] = best;
        memmove(out->at + at + 1, out->at + at + 2, (--out->n - at - 1) * sizeof *out->at);
    }
}

/* --- the same vocabulary as files --- */

/* One byte in GPT-2's alphabet, as JSON text. */
static void put_level(Text *t, unsigned char c) {
    unsigned point = 256;
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174) point = c;
    else
        for (unsigned b = 0; b < c; b++) point += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    text_add(t, "\\u%04x", point);
}

static void put_word(Text *t, const Naive *v, int id) {
    for (size_t i = 0; i < v->len[id]; i++) put_level(t, (unsigned char)v->at[id][i]);
}

static const char whole_text[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}";
static const char added_two[] =
    "[{\"id\":900,\"content\":\"<|x|>\",\"special\":true},{\"id\":901,\"content\":\"<|x|>y\",\"special\":false}]";

static Text json_file(const Naive *v, bool whole, bool old_merges, const char *pre, const char *added) {
    Text t = {0};
    text_add(&t, "{\"added_tokens\":%s,\"normalizer\":null,\"pre_tokenizer\":%s,", added, pre);
    text_add(&t, "\"model\":{\"type\":\"BPE\",\"ignore_merges\":%s,\"vocab\":{", whole ? "true" : "false");
    for (int i = 0; i < WORDS; i++) {
        text_add(&t, i ? ",\"" : "\"");
        put_word(&t, v, i);
        text_add(&t, "\":%d", i);
    }
    text_add(&t, "},\"merges\":[");
    for (int i = 256; i < WORDS; i++) {
        text_add(&t, "%s%s", i > 256 ? "," : "", old_merges ? "\"" : "[\"");
        put_word(&t, v, v->left[i]);
        text_add(&t, old_merges ? " " : "\",\"");
        put_word(&t, v, v->right[i]);
        text_add(&t, old_merges ? "\"" : "\"]");
    }
    text_add(&t, "]}}");
    return t;
}

static void put_base64(Text *t, const char *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned b[3] = {0};
        for (size_t k = 0; k < 3 && i + k < n; k++) b[k] = (unsigned char)bytes[i + k];
        unsigned bits = b[0] << 16 | b[1] << 8 | b[2];
        text_add(t, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63], i + 1 < n ? digits[bits >> 6 & 63] : '=',
                 i + 2 < n ? digits[bits & 63] : '=');
    }
}

static void put_bin(Text *t, float score, const char *bytes, size_t n) {
    int32_t len = (int32_t)n;
    bool nul = n == 1 && !*bytes;
    if (nul) bytes = "<0x00>", len = 6;
    text_put(t, &score, 4);
    text_put(t, &len, 4);
    text_put(t, bytes, (size_t)len);
}

/* --- tests of the merging --- */

static bool compare_naive(const Naive *v, const Tok *t, bool listed, bool whole, Err *e) {
    static const char letters[] = "aaabbbc  \xc3\xa9\xc3\xa9?";
    for (int k = 0; k < 3000; k++) {
        char s[80];
        size_t n = draw(k % 10 ? 24 : sizeof s);
        const char *word = NULL;
        if (k % 16 == 0) { /* a word and a bit: whole words must be found as such */
            int id = 256 + (int)draw(WORDS - 256);
            word = v->at[id], n = v->len[id];
        }
        for (size_t i = 0; i < n; i++) s[i] = word ? word[i] : letters[draw(14)];
        /* Without a pattern a text is one piece only if it is UTF-8; \xc3 and \xa9 alone are not. */
        for (size_t i = 0; i < n; i++) {
            if (s[i] == '\xc3' && (i + 1 == n || s[i + 1] != '\xa9')) s[i] = 'a';
            if (s[i] == '\xa9' && (!i || s[i - 1] != '\xc3')) s[i] = 'b';
        }
        Ids want;
        naive_encode(v, s, n, listed, whole, &want);
        bool ok = expect(t, s, n, false, &want, e);
        ids_free(&want);
        if (!ok) return err_wrap(e, "text %d", k);
    }
    return true;
}

static Result test_merge_json(Err *e) {
    static Naive v;
    bool ok = true;
    for (int k = 0; ok && k < 8; k++) {
        naive_make(&v, "aabbc \xc3\xa9");
        bool whole = k & 1, old = k & 2 && naive_find(&v, " ", 1) >= 0;
        Text f = json_file(&v, whole, old, whole_text, "[]");
        Tok *t = open_bytes("naive.json", f.at, f.n, e);
        ok = t && compare_naive(&v, t, true, whole, e);
        tok_close(t);
        text_free(&f);
        v = (Naive){0};
    }
    return ok ? OK : FAIL;
}

/* .tiktoken and .bin bring o200k's pattern; words of letters alone, with no space before a second one, are one piece. */
static Result test_merge_ranks(Err *e) {
    static Naive v;
    naive_make(&v, "aabbc");
    Text tiktoken = {0}, bin = {0};
    int32_t longest = 24;
    text_put(&bin, &longest, 4);
    for (int i = 0; i < WORDS; i++) {
        put_base64(&tiktoken, v.at[i], v.len[i]);
        text_add(&tiktoken, " %d\n", i);
        put_bin(&bin, (float)i, v.at[i], v.len[i]);
    }
    put_bin(&bin, -1e30f, "<|end|>", 7);
    Tok *a = open_bytes("naive.tiktoken", tiktoken.at, tiktoken.n, e),
        *b = a ? open_bytes("naive.bin", bin.at, bin.n, e) : NULL;
    bool ok = a && b;
    for (int k = 0; ok && k < 3000; k++) {
        char s[40];
        size_t n = 1 + draw(sizeof s);
        for (size_t i = 0; i < n; i++) s[i] = "aabbc"[draw(5)];
        int id = 256 + k % (WORDS - 256); /* a word is found whole, whether or not merges reach it */
        size_t letters = 0;
        while (letters < v.len[id] && strchr("abc", v.at[id][letters])) letters++;
        if (letters == v.len[id]) memcpy(s, v.at[id], n = letters);
        Ids want;
        naive_encode(&v, s, n, false, true, &want);
        ok = expect(a, s, n, false, &want, e) && expect(b, s, n, false, &want, e);
        ids_free(&want);
    }
    if (ok && (tok_vocab(a) != 201088 || tok_vocab(b) != WORDS + 1))
        ok = err_set(e, "vocab %d, %d", tok_vocab(a), tok_vocab(b));
    if (ok && (tok_special(a, "<|return|>") != 200002 || tok_special(b, "<|end|>") != WORDS))
        ok = err_set(e, "special ids");
    ok = ok && round_trip(b, "a\0b", 3, false, e);
    tok_close(a);
    tok_close(b);
    text_free(&tiktoken);
    text_free(&bin);
    return ok ? OK : FAIL;
}

/* Long runs: merging must not be quadratic (it would take minutes here, and the runner's limit ends it). */
static Result test_long(Err *e) {
    static Naive v;
    naive_make(&v, "aabbc \xc3\xa9");
    Text f = json_file(&v, false, false, whole_text, "[]");
    Tok *t = open_bytes("long.json", f.at, f.n, e);
    enum { N = 400000 };
    char *s = malloc(N);
    static const char *const units[] = {"a", "b", " ", "ab", "\xc3\xa9", "abc ", "\xff", "?"};
    bool ok = t != NULL;
    for (size_t u = 0; ok && u < LEN(units); u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < N; i++) s[i] = units[u][i % len];
        ok = round_trip(t, s, N, false, e);
        Ids want = {0};
        if (ok && *units[u] != '\xff')
            naive_encode(&v, s, 1200, true, false, &want), ok = expect(t, s, 1200, false, &want, e);
        ids_free(&want);
        if (!ok) err_wrap(e, "\"%s\" repeated", units[u]);
    }
    free(s);
    tok_close(t);
    text_free(&f);
    return ok ? OK : FAIL;
}

/* --- tests with the real vocabulary --- */

/* Reads a line of o200k.txt: "[+]ids TAB escaped text"; unescapes in place. */
static char *read_record(char *line, Ids *want, bool *specials, size_t *n) {
    char *p = line + (*specials = *line == '+'), *out;
    *want = (Ids){0};
    while (*p != '\t') ids_put(want, (int32_t)strtol(p, &p, 10)), p += *p == ' ';
    char *text = out = ++p;
    for (; *p; p++) {
        if (*p != '\\') *out++ = *p;
        else p++, *out++ = *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p == '0' ? 0 : '\\';
    }
    *n = (size_t)(out - text);
    return text;
}

typedef bool (*Each)(const Tok *const *tok, size_t toks, const char *text, size_t n, bool specials, const Ids *want,
                     Err *e);

static bool each_record(Each f, const Tok *const *tok, size_t toks, Err *e) {
    Arena *a = arena_new();
    char *at = file_read(a, "tests/tok/o200k.txt", NULL, e), *end;
    bool ok = at != NULL;
    size_t records = 0;
    for (; ok && (end = strchr(at, '\n')); at = end + 1) {
        bool specials;
        size_t n;
        Ids want;
        *end = 0;
        char *text = read_record(at, &want, &specials, &n);
        ok = f(tok, toks, text, n, specials, &want, e) || err_wrap(e, "o200k.txt:%zu", records + 1);
        ids_free(&want);
        records++;
    }
    arena_free(a);
    return ok && (records > 4000 || err_set(e, "o200k.txt has only %zu records", records));
}

static bool check_record(const Tok *const *tok, size_t toks, const char *text, size_t n, bool specials, const Ids *want,
                         Err *e) {
    for (size_t i = 0; i < toks; i++)
        if (!expect(tok[i], text, n, specials, want, e) || !round_trip(tok[i], text, n, specials, e))
            return err_wrap(e, "file %zu", i);
    return true;
}

/* A .bin that holds the same tokens. */
static Tok *open_as_bin(const Tok *t, Err *e) {
    Text f = {0};
    text_put(&f, &(int32_t){128}, 4);
    for (int32_t id = 0; id < tok_vocab(t); id++) {
        size_t n;
        const char *b = tok_bytes(t, id, &n);
        if (b) put_bin(&f, tok_is_special(t, id) ? -1e30f : (float)id, b, n);
        else put_bin(&f, 0, "", 0);
    }
    Tok *bin = open_bytes("shared.bin", f.at, f.n, e);
    text_free(&f);
    return bin;
}

static Result test_o200k(Err *e) {
    Tok *json = open_shared("json", e), *tiktoken = json ? open_shared("tiktoken", e) : NULL, *bin = NULL;
    if (!json || !tiktoken) {
        tok_close(json);
        return shared_missing(e);
    }
    bool ok = (bin = open_as_bin(json, e)) && each_record(check_record, (const Tok *[]){json, tiktoken, bin}, 3, e);
    for (int32_t id = -1; ok && id <= tok_vocab(json); id++) {
        size_t n[3];
        const char *b[] = {tok_bytes(json, id, &n[0]), tok_bytes(tiktoken, id, &n[1]), tok_bytes(bin, id, &n[2])};
        for (int k = 1; k < 3; k++)
            if (!b[0] != !b[k] || n[0] != n[k] || (b[0] && memcmp(b[0], b[k], n[0])))
                ok = err_set(e, "bytes of id %d, file %d", id, k);
    }
    tok_close(json);
    tok_close(tiktoken);
    tok_close(bin);
    return ok ? OK : FAIL;
}

static Result test_specials(Err *e) {
    static const struct {
        int32_t id;
        const char *text;
    } known[] = {{199998, "<|startoftext|>"},
                 {199999, "<|endoftext|>"},
                 {200002, "<|return|>"},
                 {200003, "<|constrain|>"},
                 {200005, "<|channel|>"},
                 {200006, "<|start|>"},
                 {200007, "<|end|>"},
                 {200008, "<|message|>"},
                 {200012, "<|call|>"},
                 {200018, "<|endofprompt|>"},
                 {201087, "<|reserved_201087|>"},
                 {-1, "<|reserved_200018|>"},
                 {-1, "<|END|>"},
                 {-1, ""},
                 {-1, "a"}};
    bool ok = true;
    for (int k = 0; ok && k < 2; k++) {
        Tok *t = open_shared(k ? "json" : "tiktoken", e);
        if (!t) return shared_missing(e);
        for (size_t i = 0; ok && i < LEN(known); i++) {
            size_t n;
            if (tok_special(t, known[i].text) != known[i].id)
                ok = err_set(e, "%s: %d", known[i].text, tok_special(t, known[i].text));
            else if (known[i].id < 0) continue;
            else if (!tok_is_special(t, known[i].id) || !tok_bytes(t, known[i].id, &n) || n != strlen(known[i].text))
                ok = err_set(e, "id %d", known[i].id);
        }
        if (ok &&
            (tok_is_special(t, 0) || tok_is_special(t, -1) || tok_is_special(t, 1 << 30) || tok_vocab(t) != 201088))
            ok = err_set(e, "what is special");
        tok_close(t);
    }
    return ok ? OK : FAIL;
}

/* Added tokens that are not special are found in any text; the longest one wins. */
static Result test_added(Err *e) {
    static Naive v;
    naive_make(&v, "aabbc \xc3\xa9");
    Text f = json_file(&v, false, false, whole_text, added_two);
    Tok *t = open_bytes("added.json", f.at, f.n, e);
    Ids special = {(int32_t[]){900, 901, '?', 900}, 4},
        plain = {(int32_t[]){'<', '|', 'x', '|', '>', 901, '?', '<', '|', 'x', '|', '>'}, 12};
    bool ok = t && expect(t, "<|x|><|x|>y?<|x|>", 17, true, &special, e) &&
              expect(t, "<|x|><|x|>y?<|x|>", 17, false, &plain, e);
    if (ok && (tok_special(t, "<|x|>") != 900 || tok_special(t, "<|x|>y") != -1 || tok_is_special(t, 901) ||
               tok_vocab(t) != 902))
        ok = err_set(e, "an added token that is not special counts as special");
    size_t n;
    if (ok && (tok_bytes(t, 800, &n) || n)) ok = err_set(e, "id 800 is in a gap, yet has bytes");
    tok_close(t);
    text_free(&f);
    return ok ? OK : FAIL;
}

/* --- bytes that are not UTF-8 --- */

/* Length of the character at s, 0 if there is none; by decoding and looking at the value. */
static size_t character(const unsigned char *s, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    if (!len || len > n) return 0;
    for (size_t i = 1; i < len; c = c << 6 | (s[i++] & 63))
        if (s[i] >> 6 != 2) return 0;
    return len > 1 && (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) ? 0 : len;
}

/* Whole texts as pieces: a text with bad bytes is its runs of good and of bad bytes, each on its own. */
static Result test_invalid_naive(Err *e) {
    static Naive v;
    static const char *const parts[] = {"a",
                                        "b",
                                        " ",
                                        "\xc3",
                                        "\xa9",
                                        "\xc3\xa9",
                                        "\xff",
                                        "\xe4\xb8",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xc0\x80",
                                        "\xe0\x9f\x80",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x8f\xbf\xbf"};
    naive_make(&v, "aabbc \xc3\xa9");
    Text f = json_file(&v, true, false, whole_text, "[]");
    Tok *t = open_bytes("invalid.json", f.at, f.n, e);
    bool ok = t != NULL;
    for (int k = 0; ok && k < 4000; k++) {
        Text s = {0};
        Ids want = {0}, part;
        for (uint32_t i = 1 + draw(8); i; i--) text_add(&s, "%s", parts[draw(LEN(parts))]);
        for (size_t from = 0, at; from < s.n; from = at) {
            const unsigned char *p = (const unsigned char *)s.at;
            bool good = character(p + from, s.n - from);
            for (at = from; at < s.n; at += good ? character(p + at, s.n - at) : 1)
                if (good != !!character(p + at, s.n - at)) break;
            naive_encode(&v, s.at + from, at - from, true, true, &part);
            for (size_t i = 0; i < part.n; i++) ids_put(&want, part.at[i]);
            ids_free(&part);
        }
        ok = expect(t, s.at, s.n, false, &want, e);
        ids_free(&want);
        text_free(&s);
    }
    tok_close(t);
    text_free(&f);
    return ok ? OK : FAIL;
}

static Result test_round_trip(Err *e) {
    Tok *t = open_shared("tiktoken", e);
    if (!t) return shared_missing(e);
    bool ok = true;
    for (int k = 0; ok && k < 20000; k++) {
        char s[64];
        size_t n = draw(sizeof s);
        for (size_t i = 0; i < n; i++)
            s[i] = (char)(k % 3 == 0 ? draw(256) : k % 3 == 1 ? draw(96) + 32 : (draw(2) ? 0xc0 : 0x80) + draw(64));
        ok = round_trip(t, s, n, k & 1, e);
    }
    Ids apart = {(int32_t[]){64, -1, 65}, 3}; /* a bad byte is a piece of its own, and there is a token for each byte */
    for (int32_t id = 0; id < 256; id++) {
        size_t n;
        const char *b = tok_bytes(t, id, &n);
        if (n == 1 && *b == '\xff') apart.at[1] = id;
    }
    ok = ok && expect(t,
                      "a\xff"
                      "b",
                      3, false, &apart, e);
    tok_close(t);
    return ok ? OK : FAIL;
}

/* Runs that make the pattern look far ahead and come back: more than the JIT's stack, or a limit, would show. */
static Result test_long_o200k(Err *e) {
    static const char *const units[] = {"a",  "A",       "中",     " ",  "\n", "\r\n",   " \n",  "!",     "/", "7",
                                        "aA", "A\u0301", "\u0301", "'s", "é",  "\u3000", "\xff", "a\xff", "\0"};
    enum { N = 300000 };
    Tok *t = open_shared("tiktoken", e);
    if (!t) return shared_missing(e);
    char *s = malloc(N + 1);
    bool ok = true;
    for (size_t u = 0; ok && u < LEN(units); u++) {
        size_t len = *units[u] ? strlen(units[u]) : 1, n = N / len * len;
        for (size_t i = 0; i < n; i++) s[i] = units[u][i % len];
        s[n] = 'x';
        ok = round_trip(t, s, n, false, e) && round_trip(t, s, n + 1, true, e);
        if (!ok) err_wrap(e, "run %zu", u);
    }
    free(s);
    tok_close(t);
    return ok ? OK : FAIL;
}

/* --- streaming decode --- */

static bool all_characters(const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        if (!(len = character((const unsigned char *)s + i, n - i))) return false;
    return true;
}

/* Every well-formed text comes out as it is, however its bytes are cut into tokens; out never ends inside a character. */
static Result test_stream(Err *e) {
    static Naive v; /* its tokens cut characters anywhere: bytes 0 to 255 are ids 0 to 255 */
    static const char *const parts[] = {
        "a", "é", "中", "😀", "\xff", "\xe4\xb8", "\xf0\x9f\x98", "\x80", "\xed\xa0\x80", "\xf4\x90"};
    static const char *const shown[] = {
        "a", "é", "中", "😀", "\ufffd", "\ufffd", "\ufffd", "\ufffd", "\ufffd\ufffd\ufffd", "\ufffd\ufffd"};
    naive_make(&v, "aabbc \xc3\xa9");
    Text f = json_file(&v, true, false, whole_text, "[]");
    Tok *t = open_bytes("stream.json", f.at, f.n, e);
    bool ok = t != NULL;
    for (int k = 0; ok && k < 4000; k++) {
        Text in = {0}, want = {0}, out = {0};
        TokStream s = {0};
        uint32_t last = 0;
        for (uint32_t i = draw(7); i; i--) {
            uint32_t p = draw(k & 1 ? 4 : LEN(parts));
            if (p == 7 && (last == 5 || last == 6)) p = 0; /* \x80 would complete it */
            text_add(&in, "%s", parts[p]);
            text_add(&want, "%s", shown[p]);
            last = p;
        }
        for (size_t i = 0; i < in.n; i++) {
            if (!tok_stream(&s, t, (unsigned char)in.at[i], &out)) ok = err_set(e, "byte refused");
            if (!all_characters(out.at, out.n)) ok = err_set(e, "a broken character after byte %zu of %s", i, in.at);
            if (i + 1 - out.n > 3 && k & 1) ok = err_set(e, "held back a whole character of %s", in.at);
        }
        tok_stream_end(&s, &out);
        if (out.n != want.n || (want.n && memcmp(out.at, want.at, want.n)))
            ok = err_set(e, "%s for %s", out.at, want.at);
        text_free(&in), text_free(&want), text_free(&out);
    }
    TokStream s = {0};
    Text out = {0};
    if (ok && (tok_stream(&s, t, -1, &out) || tok_stream(&s, t, WORDS, &out) || out.n))
        ok = err_set(e, "an unknown id was taken");
    tok_close(t);
    text_free(&f);
    return ok ? OK : FAIL;
}

/* --- bad files --- */

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]}"
#define LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define PRE   "\"pre_tokenizer\":" LEVEL
#define SPLIT(regex, behavior)                                                                                         \
    "{" MODEL                                                                                                          \
    ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex \
    "\"},\"behavior\":\"" behavior "\"}," LEVEL "]}}"
#define BIN(...)                                                                                                       \
    (const char[]){__VA_ARGS__}, sizeof(const char[]) { __VA_ARGS__ }
#define STR(s) s, sizeof s - 1
#define L32 "abcdefghijklmnopqrstuvwxyzabcdef"
#define L256 L32 L32 L32 L32 L32 L32 L32 L32

static const struct Bad {
    const char *name, *bytes;
    size_t n;
    const char *why; /* NULL: opens */
} bad[] = {
    {"good", STR("{" MODEL "," PRE "}"), NULL},
    {"good split", STR(SPLIT("a+|[^\\\\s]", "Isolated")), NULL},
    {"empty", STR(""), "empty file"},
    {"blank", STR(" \n\n"), "empty file"},
    {"json truncated", STR("{\"model\": {\"vocab\": {\"a\""), "bad JSON at column"},
    {"json trailing", STR("{" MODEL "," PRE "} x"), "bad JSON at column"},
    {"json key twice", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}"),
     "duplicate"},
    {"json id twice", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}"),
     "id 0 occurs twice"},
    {"json negative id", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}"),
     "id -1 is out of range"},
    {"json huge id", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4611686018427387904},\"merges\":[]}}"),
     "out of range"},
    {"json id text", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}}"),
     "no whole number"},
    {"json empty token", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0},\"merges\":[]}}"),
     "a token of 0 bytes"},
    {"json no vocab", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"merges\":[]}}"), "model.vocab is not an object"},
    {"json no tokens", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}"), "no tokens"},
    {"json no model", STR("{}"), "no model"},
    {"json WordPiece", STR("{" PRE ",\"model\":{\"type\":\"WordPiece\"}}"), "model WordPiece is not supported"},
    {"json dropout", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}"), "\"dropout\" is not supported"},
    {"json no merges", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}"),
     "model.merges is not an array"},
    {"json merge unknown", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\"]]}}"),
     "model.merges[0]: \"a\" + \"b\": the right is not"},
    {"json merge result", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}"),
     "the result is not in the vocabulary"},
    {"json merge shape", STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}"),
     "not a pair"},
    {"json merge twice",
     STR("{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",[\"a\",\"a\"]]}}"),
     "model.merges[1]: the pair occurs twice"},
    {"json normalizer", STR("{" MODEL "," PRE ",\"normalizer\":{\"type\":\"NFC\"}}"),
     "normalizer NFC is not supported"},
    {"json post", STR("{" MODEL "," PRE ",\"post_processor\":{\"type\":\"TemplateProcessing\"}}"),
     "post_processor TemplateProcessing is not"},
    {"json decoder", STR("{" MODEL "," PRE ",\"decoder\":{\"type\":\"Metaspace\"}}"), "decoder Metaspace is not"},
    {"json no pre", STR("{" MODEL "}"), "pre_tokenizer: none"},
    {"json pre", STR("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Whitespace\"}}"),
     "pre_tokenizer: Whitespace is not supported"},
    {"json prefix space", STR("{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}"),
     "\"add_prefix_space\" is not supported"},
    {"json behavior", STR(SPLIT("a", "Removed")), "behavior Removed is not supported"},
    {"json escape", STR(SPLIT("\\\\w", "Isolated")), "\\w is not supported"},
    {"json regex", STR(SPLIT("(a", "Isolated")), "pattern: missing closing parenthesis"},
    {"json strip", STR("{" MODEL "," PRE ",\"added_tokens\":[{\"id\":5,\"content\":\"<x>\",\"lstrip\":true}]}"),
     "added_tokens[0]: <x>: \"lstrip\" is not"},
    {"json added id", STR("{" MODEL "," PRE ",\"added_tokens\":[{\"id\":2,\"content\":\"<x>\"}]}"),
     "added_tokens[0]: id 2 occurs twice"},
    {"json added moved", STR("{" MODEL "," PRE ",\"added_tokens\":[{\"id\":7,\"content\":\"ab\"}]}"),
     "has id 7 here, 2 in the vocabulary"},
    {"json added long", STR("{" MODEL "," PRE ",\"added_tokens\":[{\"id\":5,\"content\":\"" L256 "x\"}]}"),
     "id 5: a special or added token of 257 bytes (at most 256)"},
    {"json added shape", STR("{" MODEL "," PRE ",\"added_tokens\":[3]}"), "added_tokens[0]: an entry without"},
    {"tiktoken base64", STR("IQ== 0\nI*== 1\n"), "line 2: bad base64"},
    {"tiktoken length", STR("IQ== 0\nIgA 1\n"), "line 2: bad base64"},
    {"tiktoken no rank", STR("IQ== 0\nIg==\n"), "line 2: not base64, a space and a rank"},
    {"tiktoken rank", STR("IQ== -3\n"), "line 1: the rank is not a number"},
    {"tiktoken huge", STR("IQ== 99999999\n"), "line 1: id 99999999 is out of range"},
    {"tiktoken huger", STR("IQ== 99999999999999999999\n"), "line 1: not base64"},
    {"tiktoken rank twice", STR("IQ== 0\nIg== 0\n"), "line 2: id 0 occurs twice"},
    {"tiktoken bytes twice", STR("IQ== 0\nIQ== 1\n"), "ids 0 and 1 have the same bytes"},
    {"tiktoken specials", STR("IQ== 199998\n"), "rank 199998: o200k's end at 199997"},
    {"bin truncated", BIN(3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 0, 0, 5, 0, 0, 0, 'b'),
     "token 1, at byte 13: truncated"},
    {"bin head only", BIN(3, 0, 0, 0), "truncated"},
    {"bin half entry", BIN(3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0), "token 1, at byte 13: truncated"},
    {"bin negative", BIN(3, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, 'a'), "token 0, at byte 4: a negative length"},
    {"bin huge", BIN(3, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0x7f, 'a'), "token 0, at byte 4: truncated"},
    {"bin score", BIN(3, 0, 0, 0, 0, 0, 0, 0x3f, 1, 0, 0, 0, 'a'), "score 0.5 is neither"},
    {"bin twice", BIN(3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 0, 0, 1, 0, 0, 0, 'a'),
     "ids 0 and 1 have the same bytes"},
};

static Result test_bad_files(Err *e) {
    for (size_t i = 0; i < LEN(bad); i++) {
        Err why = {0};
        Tok *t = open_bytes("bad", bad[i].bytes, bad[i].n, &why);
        bool opened = t != NULL;
        tok_close(t);
        if (opened != !bad[i].why) return err_set(e, "%s: %s", bad[i].name, opened ? "opened" : why.msg), FAIL;
        if (!opened && !strstr(why.msg, bad[i].why))
            return err_set(e, "%s: said \"%.300s\"", bad[i].name, why.msg), FAIL;
    }
    Text many = {0}; /* two bytes of it are two hundred of memory */
    text_add(&many, "{\"a\":[{}");
    for (int i = 0; i < 6000000; i++) text_put(&many, ",{}", 3);
    text_add(&many, "]}");
    Err why = {0};
    Tok *t = open_bytes("many", many.at, many.n, &why);
    text_free(&many);
    tok_close(t);
    if (t || !strstr(why.msg, "JSON of so many items")) return err_set(e, "many objects: %s", why.msg), FAIL;
    if (tok_open("/nonexistent/tokenizer.json", &why) || !strstr(why.msg, "No such file"))
        return err_set(e, "missing file: %s", why.msg), FAIL;
    return OK;
}

/* Cut short or with one byte changed, a file opens or gives an error; what opens still encodes. */
static Result test_mutants(Err *e) {
    static const size_t rows[] = {0, 1, LEN(bad) - 1};
    for (size_t r = 0; r < LEN(rows); r++) {
        size_t n = bad[rows[r]].n;
        for (size_t k = 0; k < 3 * n; k++) {
            char copy[1024];
            memcpy(copy, bad[rows[r]].bytes, n);
            if (k >= n) copy[k % n] = k < 2 * n ? (char)draw(256) : (char)(copy[k % n] ^ 1 << draw(8));
            Err why = {0};
            Tok *t = open_bytes("mutant", copy, k < n ? k : n, &why);
            if (!t && !*why.msg) return err_set(e, "%s, mutant %zu: no message", bad[rows[r]].name, k), FAIL;
            Ids got = {0};
            if (t && encode(t, "aab \xff<x>", 8, true, &got, &why)) ids_free(&got);
            tok_close(t);
        }
    }
    return OK;
}

/* What cannot be encoded is an error that leaves the caller's ids alone. */
static Result test_encode_errors(Err *e) {
    static const struct {
        const char *file, *text, *why;
    } row[] = {{"{" MODEL "," PRE "}", "abc", "no token for byte 0x63"},
               {SPLIT("(?:a|a)*[cd]", "Isolated"), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                "splitting text at byte 0: match limit exceeded"}};
    for (size_t i = 0; i < LEN(row); i++) {
        Err why = {0};
        Tok *t = open_bytes("error.json", row[i].file, strlen(row[i].file), e);
        Ids got = {0};
        ids_put(&got, 7);
        bool ok = t && !tok_encode(t, row[i].text, strlen(row[i].text), false, &got.at, &got.n, &why) && got.n == 1 &&
                  got.at[0] == 7;
        ok = ok && tok_encode(t, "ab", 2, false, &got.at, &got.n, e) && got.n == 2 && got.at[0] == 7 && got.at[1] == 2;
        ids_free(&got);
        tok_close(t);
        if (!ok || !strstr(why.msg, row[i].why)) return err_wrap(e, "row %zu said \"%.300s\"", i, why.msg), FAIL;
    }
    return OK;
}

/* A pattern that no limit of steps bounds ends by the clock, and the message has it. (Here 50 ms are left.) */
static Result test_slow_pattern(Err *e) {
    enum { N = 20000 };
    static const char file[] = SPLIT("a*a*[bc]", "Isolated");
    static char text[N];
    Tok *t = open_bytes("slow.json", file, sizeof file - 1, e);
    Split s = {0};
    Bpe b = {0};
    Err why = {0};
    memset(text, 'a', N);
    bool ok = t && split_begin(&s, t, N, e);
    s.until -= s.seconds - 0.05;
    ok = ok && (!split_encode(&s, &b, text, N, &why) || err_set(e, "it was split"));
    if (ok && !strstr(why.msg, "takes too long on this text: a*a*[bc]")) ok = err_set(e, "said \"%.300s\"", why.msg);
    split_end(&s);
    bpe_free(&b);
    tok_close(t);
    return ok ? OK : FAIL;
}

/* Nobody can choose tokens that collide: each time another seed orders the maps, and the ids are the same. */
static Result test_seed(Err *e) {
    static const char file[] = "{" MODEL "," PRE "}";
    Tok *t = open_bytes("seed.json", file, sizeof file - 1, e), *u = open_bytes("seed.json", file, sizeof file - 1, e);
    const Ids want = {(int32_t[]){1, 2, 0}, 3};
    bool ok = t && u && (t->seed != u->seed || err_set(e, "the same seed twice")) && expect(t, "baba", 4, false, &want, e) &&
              expect(u, "baba", 4, false, &want, e);
    tok_close(t), tok_close(u);
    return ok ? OK : FAIL;
}

/* Gaps between matches are pieces, empty matches split nothing, and a match too deep for the JIT's stack is still made. */
static Result test_split(Err *e) {
    static char deep[20001];
    for (size_t i = 0; i < 20000; i++) deep[i] = "ab"[i % 2];
    static const struct {
        const char *file, *text;
        int32_t ids[4];
        size_t n;
    } row[] = {{SPLIT("b", "Isolated"), "ab", {0, 1}, 2},
               {SPLIT("z", "Isolated"), "ab", {2}, 1},
               {SPLIT("a*", "Isolated"), "baba", {1, 0, 1, 0}, 4},
               {SPLIT("(?=b)", "Isolated"), "ab", {2}, 1},
               {SPLIT("(?:a|b)+(?!b)", "Isolated"), deep, {2, 2, 2, 2}, 10000}};
    bool ok = true;
    for (size_t i = 0; ok && i < LEN(row); i++) {
        Tok *t = open_bytes("split.json", row[i].file, strlen(row[i].file), e);
        Ids want = {0};
        for (size_t k = 0; k < row[i].n; k++) ids_put(&want, row[i].ids[k % 4]);
        ok = t && expect(t, row[i].text, strlen(row[i].text), false, &want, e);
        ids_free(&want);
        tok_close(t);
    }
    return ok ? OK : FAIL;
}

/* --- threads --- */

static void *encode_all(void *arg) {
    Err *e = calloc(1, sizeof *e);
    if (!each_record(check_record, (const Tok *[]){arg}, 1, e)) return e;
    free(e);
    return NULL;
}

static Result test_threads(Err *e) {
    Tok *t = open_shared("tiktoken", e);
    if (!t) return shared_missing(e);
    pthread_t thread[4];
    for (size_t i = 0; i < LEN(thread); i++)
        if (pthread_create(&thread[i], NULL, encode_all, t)) die("pthread_create");
    bool ok = true;
    for (size_t i = 0; i < LEN(thread); i++) {
        void *why;
        pthread_join(thread[i], &why);
        if (why) ok = err_set(e, "%s", ((Err *)why)->msg);
        free(why);
    }
    tok_close(t);
    return ok ? OK : FAIL;
}

/* --- the program --- */

/* Runs "cd dir; printf IN | gptoss-tok ARGS"; expects exit status and output (NULL: any). */
static bool run(const char *args, const char *in, int status, const char *want, size_t n, Err *e) {
    const char *program = getenv("GPTOSS_TOK") ? getenv("GPTOSS_TOK") : "out/gptoss-tok";
    char command[1024], path[128], *real = realpath(program, NULL);
    snprintf(command, sizeof command, "cd %s && printf '%s' | %s %s >out 2>err", dir, in, real ? real : program, args);
    free(real);
    int r = system(command);
    if (!WIFEXITED(r) || WEXITSTATUS(r) != status) return err_set(e, "%s: status %d", args, WEXITSTATUS(r));
    Arena *a = arena_new();
    size_t got_n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, status ? "err" : "out");
    char *got = file_read(a, path, &got_n, e);
    bool ok = got && (status ? got_n && (!want || strstr(got, want)) : !want || (got_n == n && !memcmp(got, want, n)));
    if (got && !ok) err_set(e, "%s: printed \"%.200s\"", args, got);
    arena_free(a);
    return ok;
}

static Result test_program(Err *e) {
    const char *program = getenv("GPTOSS_TOK") ? getenv("GPTOSS_TOK") : "out/gptoss-tok";
    if (access(program, X_OK)) return err_set(e, "no program %s (GPTOSS_TOK)", program), SKIP;
    static const char file[] = "{" MODEL ",\"added_tokens\":[{\"id\":9,\"content\":\"<a>\",\"special\":true}]," PRE "}";
    Tok *t = open_bytes("cli.json", file, sizeof file - 1, e);
    tok_close(t);
    return t && run("encode -z cli.json", "ab\\n\\nba\\naab", 0, STR("2\n\n1 0\n0 2\n"), e) &&
                   run("decode -z cli.json", "2 1\\n\\n9\\r\\n", 0, STR("abb\n\n<a>\n"), e) &&
                   run("encode -0 --tokenizer=cli.json -", "ab\\0\\0b", 0, STR("2\n\n1\n"), e) &&
                   run("decode --null -z cli.json", "2\\n1\\n", 0, STR("ab\0b\0"), e) &&
                   run("encode -s -z cli.json", "<a>b\\n", 0, STR("9 1\n"), e) &&
                   run("encode -z cli.json --specials", "<a>", 0, STR("9\n"), e) &&
                   run("encode -z cli.json", "", 0, STR(""), e) && run("--help", "", 0, NULL, 0, e) &&
                   run("--version", "", 0, NULL, 0, e) && run("", "", 2, "encode or decode", 0, e) &&
                   run("encode", "", 2, "-z", 0, e) && run("encode -z", "", 2, "needs a value", 0, e) &&
                   run("fry -z cli.json", "", 2, "encode or decode", 0, e) &&
                   run("encode -q -z cli.json", "", 2, "no option -q", 0, e) &&
                   run("encode -z cli.json a b", "", 2, "more than one FILE", 0, e) &&
                   run("encode -z none.json", "", 1, "none.json: No such file", 0, e) &&
                   run("encode -z cli.json none", "", 1, "none: No such file", 0, e) &&
                   run("encode -z cli.json", "ab\\nx", 1, "stdin:2: the tokenizer has no token", 0, e) &&
                   run("decode -z cli.json", "0 77", 1, "stdin:1: the tokenizer has no id 77", 0, e) &&
                   run("decode -z cli.json", "0 -1", 1, "no id -1", 0, e) &&
                   run("decode -z cli.json", "0 a", 1, "not an id: a", 0, e) &&
                   run("decode -z cli.json", "99999999999999999999", 1, "no id 9999", 0, e) &&
                   run("decode -z cli.json", "1\\0002", 1, "a NUL byte", 0, e) &&
                   run("encode -z cli.json . ", "", 1, "Is a directory", 0, e) &&
                   run("encode -z cli.json >/dev/full 2>err; exit $?;", "ab", 1, "stdout: No space", 0, e)
               ? OK
               : FAIL;
}

static const struct {
    const char *name;
    Result (*run)(Err *e);
} tests[] = {
    {"merge-json", test_merge_json}, {"merge-ranks", test_merge_ranks}, {"long", test_long},
    {"added", test_added},           {"invalid", test_invalid_naive},   {"stream", test_stream},
    {"bad-files", test_bad_files},   {"mutants", test_mutants},         {"encode-errors", test_encode_errors},
    {"slow-pattern", test_slow_pattern}, {"seed", test_seed},
    {"split", test_split},           {"long-o200k", test_long_o200k},   {"o200k", test_o200k},
    {"specials", test_specials},     {"round-trip", test_round_trip},   {"threads", test_threads},
    {"program", test_program},
};

int main(int argc, char **argv) {
    bool failed = false;
    if (!mkdtemp(dir)) die("mkdtemp");
    for (size_t i = 0; i < LEN(tests); i++) {
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++) wanted |= !strcmp(argv[k], tests[i].name);
        if (!wanted) continue;
        static const char *const words[] = {"FAIL", "ok", "skip"};
        Err e = {0};
        Result r = tests[i].run(&e);
        printf("%s %s%s%s\n", words[r], tests[i].name, r == OK ? "" : ": ", r == OK ? "" : e.msg);
        fflush(stdout);
        failed |= r == FAIL;
    }
    char clean[64];
    snprintf(clean, sizeof clean, "rm -rf %s", dir);
    return system(clean) || failed;
}
