/* gptoss-check: compares two files of logits, each raw little-endian f32 or text of numbers.
 * Two values match when |a - b| <= atol + rtol * |b|, or when both are the same infinity; NaN never does. */
#include "ir/cli.h"
#include "ir/rowstat.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct Args Args;
struct Args {
    double atol, rtol;
    int64_t row; /* values in a row; 0: rows are not looked at */
    bool raw;
};

/* --- reading ---------------------------------------------------------------------------------------------------------- */

typedef struct Values Values;
struct Values {
    const char *path;
    Text bytes;   /* the file */
    double *text; /* its values, when it is text; else its bytes are f32 */
    size_t n;
};

static double value(const Values *v, size_t i) {
    float f;
    if (v->text) return v->text[i];
    memcpy(&f, v->bytes.at + 4 * i, 4);
    return (double)f;
}

/* Clearly text: printable ASCII, foreign letters aside; or, with bytes that do not belong there (a stray NUL, UTF-16), mostly
 * what numbers are written with. f32 values are neither, one or two of an odd size aside, which --raw reads. */
static bool is_text(const char *s, size_t n) {
    size_t control = 0, ascii = 0, zeros = 0, written = 0;
    if (text_mark(s, n)) return true;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        zeros += !c;
        control += (c < 32 && !isspace(c)) || c == 127;
        ascii += c < 127;
        written += c && strchr("0123456789+-., \t\r\n", c);
    }
    return (!control && ascii >= n - n / 4) || (zeros <= n / 2 && written >= (n - zeros) - (n - zeros) / 4);
}

static bool not_number(const Values *v, size_t nth, const char *s, Err *e) {
    size_t line = 1, n = strcspn(s, ", \t\r\n");
    for (const char *c = v->bytes.at; c < s; c++) line += *c == '\n';
    if (!n) return err_set(e, "%s:%zu: value %zu is missing", v->path, line, nth);
    return err_set(
        e, "%s:%zu: value %zu is not a number: \"%.*s\" (numbers stand between blanks or commas; --raw reads f32)",
        v->path, line, nth, n < 20 ? (int)n : 20, s);
}

/* Blanks, or one comma among them. A comma at either end would be a value that is missing. */
static const char *separator(const char *s, bool *comma) {
    while (isspace((unsigned char)*s)) s++;
    *comma = *s == ',';
    if (*comma) s++;
    while (isspace((unsigned char)*s)) s++;
    return s;
}

static bool read_text(Arena *a, Values *v, Err *e) {
    struct {
        double *at;
        size_t n, cap;
    } list = {0};
    const char *s = v->bytes.at + text_mark(v->bytes.at, v->bytes.n), *all = v->bytes.at + v->bytes.n;
    bool comma;
    while (isspace((unsigned char)*s)) s++;
    for (comma = false; s < all || comma;) {
        char *end;
        errno = 0;
        double x = strtod(s, &end);
        bool ended = end == all || *end == ',' || isspace((unsigned char)*end), large = errno == ERANGE && isinf(x);
        if (end == s || !ended || large) return not_number(v, list.n + 1, s, e);
        PUSH(a, list, x);
        s = separator(end, &comma);
    }
    v->text = list.at, v->n = list.n;
    return true;
}

static bool read_values(Arena *a, const Args *args, const char *path, Values *v, Err *e) {
    *v = (Values){.path = strcmp(path, "-") ? path : "stdin"};
    if (!file_stream(path, &v->bytes, e)) return false;
    size_t n = v->bytes.n;
    bool raw = args->raw || !is_text(v->bytes.at, n);
    if (raw && n % 4)
        return err_set(e, "%s: %zu bytes: %swhole f32 values", v->path, n, args->raw ? "not " : "neither text nor ");
    if (raw) v->n = n / 4;
    else if (!read_text(a, v, e)) return false;
    if (!v->n) return err_set(e, "%s: it holds no values", v->path);
    if (args->row && v->n % (size_t)args->row)
        return err_set(e, "%s: %zu values are not whole rows of %" PRId64, v->path, v->n, args->row);
    return true;
}

/* --- comparing -------------------------------------------------------------------------------------------------------- */

static bool same(double a, double b, const Args *args) {
    if (isnan(a) || isnan(b)) return false;
    if (isinf(a) || isinf(b)) return a == b;
    return fabs(a - b) <= args->atol + args->rtol * fabs(b);
}

static bool compare(const Values *a, const Values *b, const Args *args) {
    size_t n = a->n < b->n ? a->n : b->n, bad = 0, first = 0;
    double max_abs = 0, max_rel = 0;
    for (size_t i = 0; i < n; i++) {
        double x = value(a, i), y = value(b, i), d = x == y ? 0 : fabs(x - y), r = d == 0 ? 0 : d / fabs(y);
        if (!(d <= max_abs)) max_abs = d; /* NaN sticks */
        if (!(r <= max_rel)) max_rel = r;
        if (!same(x, y, args) && !bad++) first = i;
    }
    if (a->n != b->n) printf("sizes differ: %zu and %zu values\n", a->n, b->n);
    if (bad) printf("first mismatch at index %zu: %.9g and %.9g\n", first, value(a, first), value(b, first));
    printf("%zu of %zu values differ by more than %g + %g * |b|; max abs error %.6g, max rel error %.6g\n", bad, n,
           args->atol, args->rtol, max_abs, max_rel);
    return !bad && a->n == b->n;
}

static void print_top1(size_t a, size_t b, size_t n) {
    if (a == n || b == n) printf("top-1 none: NaN in %s\n", a == b ? "both" : a == n ? "A" : "B");
    else if (a == b) printf("top-1 %zu in both\n", a);
    else printf("top-1 %zu and %zu\n", a, b);
}

/* A line for each row, B being what is wanted; then how many agree, and the worst. */
static void compare_rows(Arena *arena, const Values *a, const Values *b, size_t n) {
    size_t rows = (a->n < b->n ? a->n : b->n) / n, agree = 0, worst = 0;
    double *x = arena_array(arena, 2 * n, sizeof *x), *y = x + n, most = 0, sum = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < n; i++) x[i] = value(a, r * n + i), y[i] = value(b, r * n + i);
        double kl = judge_kl(x, y, n);
        size_t top = judge_top1(x, n), want = judge_top1(y, n);
        printf("row %zu: nmse %.3g, kl %.3g, ", r, judge_nmse(x, y, n), kl);
        print_top1(top, want, n);
        agree += top == want && top < n;
        sum += kl;
        if (!(kl <= most)) most = kl, worst = r;
    }
    printf("top-1 agrees in %zu of %zu rows; kl of A from B: mean %.3g, most %.3g in row %zu\n", agree, rows,
           sum / (double)rows, most, worst);
}

/* --- the command line ------------------------------------------------------------------------------------------------- */

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "Options"},
    {'a', "atol", CLI_REAL, offsetof(Args, atol), "X", "absolute tolerance (1e-6)"},
    {'r', "rtol", CLI_REAL, offsetof(Args, rtol), "Y", "relative tolerance (1e-5)"},
    {0, "rows", CLI_INT, offsetof(Args, row), "V",
     "rows of V values (a model's vocabulary): NMSE, KL divergence of A from B\nand the likeliest token of each",
     .least = 1},
    {0, "raw", CLI_FLAG, offsetof(Args, raw), NULL, "both files are raw f32, whatever they look like"},
};

static const Cli cli = {
    .program = "gptoss-check",
    .synopsis = "A B [--atol X] [--rtol Y] [--rows V] [--raw]",
    .about = "Compares two files of logits: every |a - b| must be at most X + Y * |b|.\n"
             "A file is text of numbers between blanks or commas, or raw f32; - is stdin.\n",
    .notes = "Exits 0 when sizes and values match, 1 when not or when a file cannot be read. NaN matches nothing.\n",
    .examples = "  gptoss-check device.f32 ref.f32\n"
                "  gptoss-check out.f32 golden.txt --atol 1e-5 --rtol 1e-4\n"
                "  gptoss-check fast.f32 strict.f32 --rows 201088 | tail -1\n",
    .env = "GPTOSS_",
    .options = options,
    .n = LEN(options),
};

static bool check_words(char **words, int n, Err *e) {
    if (n != 2) return err_set(e, "two files are compared, %d given", n);
    return strcmp(words[0], "-") || strcmp(words[1], "-") || err_set(e, "A and B are both stdin");
}

int main(int argc, char **argv) {
    Args args = {.atol = 1e-6, .rtol = 1e-5};
    Err e = {0};
    CliParsed parsed;
    if (!cli_parse(&cli, &args, argc, argv, &parsed, &e)) return cli_usage_error(&cli, &e);
    if (parsed.done) return cli_end(&cli, true, &e);
    if (!check_words(argv, parsed.words, &e)) return cli_usage_error(&cli, &e);
    Arena *arena = arena_new();
    Values a = {0}, b = {0};
    bool read = read_values(arena, &args, argv[0], &a, &e) && read_values(arena, &args, argv[1], &b, &e);
    bool same = read && compare(&a, &b, &args);
    if (read && args.row) compare_rows(arena, &a, &b, (size_t)args.row);
    text_free(&a.bytes), text_free(&b.bytes);
    arena_free(arena);
    int status = cli_end(&cli, read, &e);
    return status ? status : !same;
}
