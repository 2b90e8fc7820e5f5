/* gptoss-tok: texts to lines of ids, lines of ids to texts. One text a line (-0: ended by NUL) at a time, so
 * input of any length streams through. Ids give back exactly the bytes that they came from. */
#include "ir/cli.h"
#include "text/tok.h"

#include <errno.h>
#include <stdlib.h>

typedef struct Args Args;
struct Args {
    const char *tokenizer, *file;
    bool null, specials, decode;
};

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "Options"},
    {'z', "tokenizer", CLI_TEXT, offsetof(Args, tokenizer), "FILE", "tokenizer.json, a folder with one, .tiktoken or tokenizer.bin (required)", .env = "GPTOSS_TOKENIZER"},
    {'0', "null", CLI_FLAG, offsetof(Args, null), NULL, "texts end in a NUL byte, not a newline, and are taken byte for byte"},
    {'s', "specials", CLI_FLAG, offsetof(Args, specials), NULL, "encode: the text of a special token, such as <|end|>, becomes its id"},
};

static const Cli cli = {
    .program = "gptoss-tok",
    .synopsis = "encode|decode -z TOKENIZER [-0] [-s] [FILE]",
    .about = "Turns each line of text into a line of ids (encode), or each line of ids into its text (decode).\nFILE: "
             "default stdin.\n",
    .examples = "  echo 'Hello there' | gptoss-tok encode -z gpt-oss-20b\n"
                "  gptoss-tok decode -z gpt-oss-20b data/output.txt\n",
    .notes = "A line ends in a newline or a carriage return and a newline. A byte order mark before the first\n"
             "line is dropped.\n"
             "GPTOSS_TOKENIZER in the environment stands in for -z, here and in gptoss-exec.\n",
    .env = "GPTOSS_TOK_",
    .options = options,
    .n = LEN(options),
};

static bool read_args(int argc, char **argv, Args *a, bool *done, Err *e) {
    CliParsed parsed;
    *a = (Args){0};
    if (!cli_parse(&cli, a, argc, argv, &parsed, e)) return false;
    if ((*done = parsed.done)) return true;
    int n = parsed.words;
    a->decode = n && !strcmp(argv[0], "decode");
    if (!n || (!a->decode && strcmp(argv[0], "encode"))) {
        static const char *const verbs[] = {"encode", "decode", NULL};
        err_set(e, "say encode or decode");
        return cli_suggest(e, n ? argv[0] : "", verbs);
    }
    if (n > 1) a->file = argv[1];
    if (n > 2) return err_set(e, "more than one FILE");
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
    char end = a->null ? 0 : '\n';
    text_put(out, &end, 1);
    return true;
}

static bool convert(const Tok *t, const Args *a, FILE *in, Err *e) {
    char *line = NULL;
    size_t cap = 0, number = 0;
    Text out = {0};
    bool ok = true;
    bool text = !a->null || a->decode; /* with -0 every byte counts */
    int end = text ? '\n' : 0;
    for (ssize_t n; ok && (n = getdelim(&line, &cap, end, in)) > 0;) {
        size_t from = text && !number ? text_mark(line, (size_t)n) : 0, len = (size_t)n - from;
        number++;
        len = text ? text_chomp(line + from, len) : len - (line[n - 1] == end);
        line[from + len] = 0;
        out.n = 0;
        if (!a->decode) ok = encode_line(t, a, line + from, len, &out, e);
        else if (strlen(line + from) != len) ok = err_set(e, "a NUL byte among the ids");
        else ok = decode_line(t, a, line + from, &out, e);
        if (!ok) err_wrap(e, "%s:%zu", a->file ? a->file : "stdin", number);
        else if (fwrite(out.at, 1, out.n, stdout) != out.n) ok = err_set(e, "stdout: %s", strerror(errno));
    }
    if (ok && (ferror(in) || !feof(in))) ok = err_set(e, "%s: %s", a->file ? a->file : "stdin", strerror(errno)); /* without memory only feof tells */
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
    bool done = false;
    if (!read_args(argc, argv, &a, &done, &e)) return cli_usage_error(&cli, &e);
    bool ok = done || run(&a, &e);
    return cli_end(&cli, ok, &e);
}
