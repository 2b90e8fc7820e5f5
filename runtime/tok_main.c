/* tok_main.c - gptoss-tok: texts to lines of ids, lines of ids to texts. One text a line (-0: ended by NUL) at a time, so
 * input of any length streams through. Ids give back exactly the bytes that they came from. */
#include "tok.h"
#include "version.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

enum { EXIT_USAGE = 2 };

static const char usage[] = "usage: gptoss-tok encode|decode -z TOKENIZER [-0] [-s] [FILE]\n";
static const char help[] =
    "\n"
    "encode: one text a line -> one line of ids. decode: one line of ids -> one text a line. FILE: default stdin.\n"
    "\n"
    "  -z, --tokenizer PATH  tokenizer.json, a folder that holds one, .tiktoken or tokenizer.bin\n"
    "  -0, --null            texts end in a NUL byte, not a newline\n"
    "  -s, --specials        encode: the text of a special token, such as <|end|>, becomes its id\n"
    "  -h, --help            -V, --version\n"
    "\n"
    "GPTOSS_TOKENIZER in the environment stands in for -z.\n"
    "\n"
    "Examples:\n"
    "  echo 'Hello there' | gptoss-tok encode -z gpt-oss-20b\n"
    "  gptoss-tok decode -z gpt-oss-20b data/output.txt\n";

typedef struct Args Args;
struct Args {
    const char *tokenizer, *file;
    int end; /* of a text */
    bool decode, specials, done;
};

static bool read_args(int argc, char **argv, Args *a, Err *e) {
    static const struct option options[] = {
        {"tokenizer", required_argument, NULL, 'z'}, {"null", no_argument, NULL, '0'},
        {"specials", no_argument, NULL, 's'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},         {0},
    };
    *a = (Args){.end = '\n', .tokenizer = getenv("GPTOSS_TOKENIZER")};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":z:0shV", options, NULL)) != -1;) {
        const char *word = optind > 0 ? argv[optind - 1] : "";
        switch (c) {
        case 'z': a->tokenizer = optarg; break;
        case '0': a->end = 0; break;
        case 's': a->specials = true; break;
        case 'h': a->done = true; return printf("%s%s", usage, help) > 0;
        case 'V': a->done = true; return puts("gptoss-tok " GPTOSS_VERSION) >= 0;
        case ':': return err_set(e, "%s needs a value", word);
        default: return err_set(e, "no such option: %s", word);
        }
    }
    const char *what = optind < argc ? argv[optind++] : "";
    a->decode = !strcmp(what, "decode");
    if (!a->decode && strcmp(what, "encode")) return err_set(e, "say encode or decode");
    if (optind < argc) a->file = argv[optind++];
    if (optind < argc) return err_set(e, "more than one FILE");
    return (a->tokenizer && *a->tokenizer) || err_set(e, "no tokenizer: -z FILE, or GPTOSS_TOKENIZER");
}

static bool encode_line(const Tok *t, const Args *a, const char *text, size_t n, Text *out, Err *e) {
    int32_t *ids = NULL;
    size_t count = 0;
    bool ok = tok_encode(t, text, n, a->specials, &ids, &count, e);
    for (size_t i = 0; i < count; i++) text_add(out, i ? " %d" : "%d", ids[i]);
    text_put(out, "\n", 1);
    free(ids);
    return ok;
}

static bool decode_line(const Tok *t, const Args *a, const char *line, Text *out, Err *e) {
    for (;;) {
        line += strspn(line, " \t\r");
        if (!*line) break;
        char *end;
        errno = 0;
        long id = strtol(line, &end, 10);
        size_t n;
        if (end == line || !strchr(" \t\r", *end)) return err_set(e, "not an id: %.20s", line);
        const char *bytes = errno || id < 0 || id > INT32_MAX ? NULL : tok_bytes(t, (int32_t)id, &n);
        if (!bytes) return err_set(e, "the tokenizer has no id %.*s", (int)(end - line), line);
        text_put(out, bytes, n);
        line = end;
    }
    char end = (char)a->end;
    text_put(out, &end, 1);
    return true;
}

static bool convert(const Tok *t, const Args *a, FILE *in, Err *e) {
    char *line = NULL;
    size_t cap = 0, number = 0;
    Text out = {0};
    bool ok = true;
    int end = a->decode ? '\n' : a->end;
    for (ssize_t n; ok && (n = getdelim(&line, &cap, end, in)) > 0;) {
        number++;
        if (line[n - 1] == end) line[--n] = 0;
        out.n = 0;
        if (!a->decode) ok = encode_line(t, a, line, (size_t)n, &out, e);
        else if (strlen(line) != (size_t)n) ok = err_set(e, "a NUL byte among the ids");
        else ok = decode_line(t, a, line, &out, e);
        if (!ok) err_wrap(e, "%s:%zu", a->file ? a->file : "stdin", number);
        else if (fwrite(out.at, 1, out.n, stdout) != out.n) ok = err_set(e, "stdout: %s", strerror(errno));
    }
    if (ok && ferror(in)) ok = err_set(e, "%s: %s", a->file ? a->file : "stdin", strerror(errno));
    text_free(&out);
    free(line);
    return ok;
}

static bool run(const Args *a, Err *e) {
    FILE *in = a->file && strcmp(a->file, "-") ? fopen(a->file, "rb") : stdin;
    if (!in) return err_set(e, "%s: %s", a->file, strerror(errno));
    Tok *t = tok_open(a->tokenizer, e);
    bool ok = t && convert(t, a, in, e);
    tok_close(t);
    if (in != stdin) fclose(in);
    return ok;
}

int main(int argc, char **argv) {
    Args a;
    Err e = {0};
    if (!read_args(argc, argv, &a, &e)) {
        fprintf(stderr, "gptoss-tok: %s\n%s", e.msg, usage);
        return EXIT_USAGE;
    }
    bool ok = a.done || run(&a, &e);
    if (ok && fflush(stdout)) ok = err_set(&e, "stdout: %s", strerror(errno));
    if (!ok) fprintf(stderr, "gptoss-tok: %s\n", e.msg);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
