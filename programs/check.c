/* check_main.c - gptoss-check: compare two files of logits, each raw little-endian f32 or text with one number a line.
 * Two values match when |a - b| <= atol + rtol * |b|, or when both are the same infinity; NaN never does. */
#include "ir/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

typedef struct Values Values;
struct Values {
    double *at;
    size_t n, cap;
};

/* Text holds nothing but what numbers (inf and nan too) and blanks are made of. Raw floats of this kind would have to
 * be all of printable bytes, that is about 1e-11 to 1e33 with a few mantissas; a single 0 or negative gives it away. */
static bool is_text(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr("0123456789+-.eExXpPabcdfABCDFinfINFtyTYnaNA \t\r\n", s[i])) return false;
    return n > 0;
}

static bool read_text(Arena *a, const char *path, const char *s, Values *v, Err *e) {
    for (size_t nth = 1;; nth++) {
        char *end;
        while (isspace((unsigned char)*s)) s++;
        if (!*s) return true;
        double x = strtod(s, &end);
        if (end == s || (*end && !isspace((unsigned char)*end)))
            return err_set(e, "%s: value %zu is not a number: %.20s", path, nth, s);
        PUSH(a, *v, x);
        s = end;
    }
}

static bool read_raw(Arena *a, const char *path, const char *s, size_t n, Values *v, Err *e) {
    if (n % 4) return err_set(e, "%s: %zu bytes: neither text nor whole f32 values", path, n);
    v->at = arena_array(a, n / 4 + 1, sizeof *v->at);
    v->n = n / 4;
    for (size_t i = 0; i < v->n; i++) {
        float f;
        memcpy(&f, s + 4 * i, 4);
        v->at[i] = (double)f;
    }
    return true;
}

static bool read_values(Arena *a, const char *path, Values *v, Err *e) {
    size_t n;
    char *s = file_read(a, path, &n, e);
    *v = (Values){0};
    if (!s) return false;
    return is_text(s, n) ? read_text(a, path, s, v, e) : read_raw(a, path, s, n, v, e);
}

static bool same(double a, double b, double atol, double rtol) {
    if (isnan(a) || isnan(b)) return false;
    if (isinf(a) || isinf(b)) return a == b;
    return fabs(a - b) <= atol + rtol * fabs(b);
}

static bool compare(const Values *a, const Values *b, double atol, double rtol) {
    size_t n = a->n < b->n ? a->n : b->n, bad = 0, first = 0;
    double max_abs = 0, max_rel = 0;
    for (size_t i = 0; i < n; i++) {
        double x = a->at[i], y = b->at[i], d = x == y ? 0 : fabs(x - y), r = d == 0 ? 0 : d / fabs(y);
        if (!(d <= max_abs)) max_abs = d; /* NaN sticks */
        if (!(r <= max_rel)) max_rel = r;
        if (!same(x, y, atol, rtol) && !bad++) first = i;
    }
    if (a->n != b->n) printf("sizes differ: %zu and %zu values\n", a->n, b->n);
    if (bad) printf("first mismatch at index %zu: %.9g and %.9g\n", first, a->at[first], b->at[first]);
    printf("%zu of %zu values differ by more than %g + %g * |b|; max abs error %.6g, max rel error %.6g\n", bad, n,
           atol, rtol, max_abs, max_rel);
    return !bad && a->n == b->n;
}

typedef struct Args Args;
struct Args {
    double atol, rtol;
};

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "Options"},
    {'a', "atol", CLI_REAL, offsetof(Args, atol), "X", "absolute tolerance (1e-6)"},
    {'r', "rtol", CLI_REAL, offsetof(Args, rtol), "Y", "relative tolerance (1e-5)"},
};

static const Cli cli = {
    .program = "gptoss-check",
    .synopsis = "A B [--atol X] [--rtol Y]",
    .about = "Compares two files of logits, raw f32 or text with one number a line:\nevery |a - b| must be at most X + Y * |b|.\n",
    .notes = "Exits 0 when sizes and values match, 1 when not or when a file cannot be read. NaN matches nothing.\n",
    .examples = "  gptoss-check device.f32 ref.f32\n"
                "  gptoss-check out.f32 golden.txt --atol 1e-5 --rtol 1e-4\n",
    .env = "GPTOSS_",
    .options = options,
    .n = LEN(options),
};

int main(int argc, char **argv) {
    Args args = {.atol = 1e-6, .rtol = 1e-5};
    Err e = {0};
    CliParsed parsed;
    if (!cli_parse(&cli, &args, argc, argv, &parsed, &e)) return cli_usage_error(&cli, &e);
    if (parsed.done) return 0;
    if (parsed.words != 2) return err_set(&e, "two files are compared, %d given", parsed.words), cli_usage_error(&cli, &e);
    Arena *arena = arena_new();
    Values a, b;
    bool read = read_values(arena, argv[0], &a, &e) && read_values(arena, argv[1], &b, &e);
    if (!read) fprintf(stderr, "gptoss-check: error: %s\n", e.msg);
    bool ok = read && compare(&a, &b, args.atol, args.rtol);
    arena_free(arena);
    if (fflush(stdout)) return fprintf(stderr, "gptoss-check: error: stdout: %s\n", strerror(errno)), 1;
    return ok ? 0 : 1;
}
