/* prompts.c - getp's input file (docs/formats.md): the number of requests, then one a line, text or ids. */
#include "mode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

bool input_read(const char *path, Text *t, Err *e) {
    if (!file_stream(path, t, e)) return false;
    size_t mark = text_mark(t->at, t->n);
    memmove(t->at, t->at + mark, t->n - mark + 1);
    t->n -= mark;
    return true;
}

typedef struct Line Line;
struct Line {
    const char *at;
    size_t n;
};

/* Cuts the next line off *rest. False at the end of the text. */
static bool next_line(Line *rest, Line *line) {
    if (!rest->n) return false;
    const char *end = memchr(rest->at, '\n', rest->n);
    size_t n = end ? (size_t)(end - rest->at) + 1 : rest->n;
    *line = (Line){rest->at, text_chomp(rest->at, n)};
    rest->at += n, rest->n -= n;
    return true;
}

static bool parse_count(const char *path, Line l, size_t *count, Err *e) {
    size_t n = 0, i = 0;
    while (l.n && (l.at[l.n - 1] == ' ' || l.at[l.n - 1] == '\t')) l.n--;
    for (; i < l.n && i < 9 && l.at[i] >= '0' && l.at[i] <= '9'; i++) n = n * 10 + (size_t)(l.at[i] - '0');
    if (!l.n || i < l.n)
        return err_set(e, "%s:1: the first line must be the number of requests, it is \"%.*s\"", path,
                       l.n > 40 ? 40 : (int)l.n, l.at);
    *count = n;
    return true;
}

static bool check_id(const Session *s, int64_t id, Err *e) {
    int64_t vocab = s->plan->config.vocab;
    return (id >= 0 && id < vocab) ||
           err_set(e, "token id %" PRId64 " is not in the model's vocabulary of %" PRId64, id, vocab);
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool not_an_id(const char *word, size_t n, Err *e) {
    size_t k = 0;
    while (k < n && k < 20 && word[k] && !blank(word[k])) k++;
    if (k < n && !word[k]) return err_set(e, "a NUL byte among the ids, behind \"%.*s\"", (int)k, word);
    return err_set(e, "\"%.*s\" is not a token id", (int)k, word);
}

bool ids_read(const Session *s, const char *text, size_t n, int32_t *ids, size_t *count, Err *e) {
    *count = 0;
    for (size_t i = 0; i < n;) {
        int64_t id = 0;
        size_t from = i;
        if (blank(text[i])) {
            i++;
            continue;
        }
        for (; i < n && i - from < 10 && text[i] >= '0' && text[i] <= '9'; i++) id = id * 10 + (text[i] - '0');
        if (i == from || (i < n && !blank(text[i]))) return not_an_id(text + from, n - from, e);
        if (!check_id(s, id, e)) return false;
        ids[(*count)++] = (int32_t)id;
    }
    return true;
}

static bool parse_ids(Session *s, Line l, struct Prompt *p, Err *e) {
    p->ids = arena_array(s->arena, l.n / 2 + 1, sizeof *p->ids); /* a digit and a space each */
    return ids_read(s, l.at, l.n, p->ids, &p->n, e);
}

bool prompt_encode(Session *s, const char *text, size_t n, bool special, struct Prompt *p, Err *e) {
    int32_t *ids = NULL;
    size_t count = 0;
    bool ok = !n || tok_encode(s->tok, text, n, special, &ids, &count, e);
    p->ids = arena_array(s->arena, count + 1, sizeof *p->ids);
    if (count) memcpy(p->ids, ids, count * sizeof *ids);
    p->n = count;
    free(ids);
    for (size_t i = 0; ok && i < count; i++)
        ok = check_id(s, p->ids[i], e) || err_wrap(e, "the tokenizer does not fit the model");
    return ok;
}

/* -z, else tokenizer.json in the model's folder (that of a .bin file: beside it); nothing where the session has one already. */
bool session_tokenizer(Session *s, Err *e) {
    struct stat st;
    const char *path = s->o->tokenizer;
    if (s->tok) return true;
    if (!path) {
        const char *slash = strrchr(s->model_path, '/');
        bool folder = !stat(s->model_path, &st) && S_ISDIR(st.st_mode);
        char *dir = folder  ? arena_strdup(s->arena, s->model_path)
                    : slash ? arena_strndup(s->arena, s->model_path, (size_t)(slash - s->model_path))
                            : arena_strdup(s->arena, ".");
        path = arena_printf(s->arena, "%s/tokenizer.json", dir);
        if (stat(path, &st))
            return err_set(e, "no tokenizer: -z TOKENIZER was not given and there is no %s (--input-ids needs none)",
                           path);
    }
    return (s->tok = tok_open(path, e)) || err_wrap(e, "tokenizer");
}

static bool more_text(Line rest) {
    Line l;
    while (next_line(&rest, &l))
        if (l.n) return true;
    return false;
}

static bool parse(Session *s, const char *path, Line rest, Prompts *p, Err *e) {
    Line line;
    size_t count = 0;
    if (!next_line(&rest, &line)) return err_set(e, "%s: empty; the first line must be the number of requests", path);
    if (!parse_count(path, line, &count, e)) return false;
    size_t wanted = s->o->lines >= 0 && (size_t)s->o->lines < count ? (size_t)s->o->lines : count;
    if (wanted > rest.n + 1) wanted = rest.n + 1; /* bounds what is allocated; the loop says what is missing */
    p->at = arena_array(s->arena, wanted + 1, sizeof *p->at);
    for (; p->n < wanted; p->n++) {
        if (!next_line(&rest, &line))
            return err_set(e, "%s: the first line says %zu requests, there are %zu", path, count, p->n);
        bool ok = s->o->input_ids ? parse_ids(s, line, &p->at[p->n], e)
                                  : prompt_encode(s, line.at, line.n, s->o->special, &p->at[p->n], e);
        if (!ok) return err_wrap(e, "%s:%zu", path, p->n + 2);
    }
    if (wanted == count && more_text(rest))
        warning("%s: the first line says %zu requests; the lines after them are ignored", path, count);
    return true;
}

bool prompts_read(Session *s, const char *path, Prompts *p, Err *e) {
    Text t = {0};
    *p = (Prompts){0};
    bool ok = (s->o->input_ids || session_tokenizer(s, e)) && input_read(path, &t, e) &&
              parse(s, path, (Line){t.at, t.n}, p, e);
    text_free(&t);
    return ok;
}
