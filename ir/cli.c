/* cli.c - see cli.h. */
#include "cli.h"
#include "json.h"

#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

enum { USAGE_ERROR = 2, HELP_COLUMN = 28 };

/* --- misspelt words ---------------------------------------------------------------------------------------------------- */

enum { WORD_MAX = 40 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Slips between two words of at most WORD_MAX letters (optimal string alignment). */
static size_t slips(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b), d[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= na; i++)
        for (size_t j = 0; j <= nb; j++) {
            d[i][j] = i ? j : i + j;
            if (!i) continue;
            d[i][j] = d[i - 1][j] + 1;
            if (!j) continue;
            d[i][j] = least(least(d[i][j], d[i][j - 1] + 1), d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[na][nb];
}

const char *cli_nearest(const char *word, const char *const *names) {
    const char *best = NULL;
    size_t n = strlen(word), few = n > WORD_MAX || n < 2 ? 0 : n < 6 ? 1 : 2;
    for (; few && *names; names++) {
        size_t k = strlen(*names) > WORD_MAX ? WORD_MAX : slips(word, *names);
        if (k <= few && (!best || k < few)) best = *names, few = k;
    }
    return best;
}

bool cli_suggest(Err *e, const char *word, const char *const *names) {
    const char *name = cli_nearest(word, names);
    return name && err_add(e, "; did you mean %s?", name);
}

/* --- values ----------------------------------------------------------------------------------------------------------- */

static bool in_range(const CliOption *o, const char *name, const char *s, double v, Err *e) {
    if (v >= o->least && (o->most == 0 || v <= o->most)) return true;
    if (o->most == 0) return err_set(e, "%s %s: it is %.15g or more", name, s, o->least);
    return err_set(e, "%s %s: it is %.15g to %.15g", name, s, o->least, o->most);
}

static bool int_of(const CliOption *o, const char *name, const char *s, int64_t *to, Err *e) {
    char *end;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (errno || end == s || *end) return err_set(e, "%s %s: not a whole number", name, s);
    *to = n;
    return in_range(o, name, s, (double)n, e);
}

static bool real_of(const CliOption *o, const char *name, const char *s, double *to, Err *e) {
    char *end;
    *to = strtod(s, &end);
    if (end == s || *end || !isfinite(*to)) return err_set(e, "%s %s: not a number", name, s);
    return in_range(o, name, s, *to, e);
}

static bool size_of(const char *name, const char *s, size_t *to, Err *e) {
    static const char units[] = "KkMmGg";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)((unit - units) / 2 + 1) : 0;
    if (errno || *s < '0' || *s > '9' || !n || n > SIZE_MAX >> shift || end[unit ? 1 : 0])
        return err_set(e, "%s %s: not a size such as 4096, 512M or 16G", name, s);
    *to = (size_t)n << shift;
    return true;
}

/* "a|b|c" as "a, b or c". */
static void list_choices(Text *t, const char *choices) {
    for (const char *s = choices; *s;) {
        size_t n = strcspn(s, "|");
        const char *next = s + n + (s[n] == '|');
        text_add(t, "%s%.*s", s == choices ? "" : *next ? ", " : " or ", (int)n, s);
        s = next;
    }
}

static bool choice_of(const CliOption *o, const char *name, const char *s, const char **to, Err *e) {
    size_t len = strlen(s);
    for (const char *p = o->arg; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == len && !strncmp(p, s, len)) return *to = s, true;
    Text t = {0};
    list_choices(&t, o->arg);
    err_set(e, "%s %s: it is %s", name, s, t.at);
    text_free(&t);
    return false;
}

static bool add(CliList *to, const char *name, const char *s, Err *e) {
    if (!*s) return err_set(e, "%s: the text is empty", name);
    if (to->n == CLI_LIST_MAX) return err_set(e, "%s: given more than %d times", name, CLI_LIST_MAX);
    return to->at[to->n++] = s, true;
}

/* name: as the user wrote it, for messages. */
static bool set(const CliOption *o, void *to, const char *name, const char *arg, Err *e) {
    void *at = (char *)to + o->at;
    switch (o->kind) {
    case CLI_FLAG: return *(bool *)at = true;
    case CLI_TEXT: return *(const char **)at = arg, true;
    case CLI_CHOICE: return choice_of(o, name, arg, at, e);
    case CLI_INT: return int_of(o, name, arg, at, e);
    case CLI_REAL: return real_of(o, name, arg, at, e);
    case CLI_SIZE: return size_of(name, arg, at, e);
    case CLI_LIST: return add(at, name, arg, e);
    case CLI_GROUP: break;
    }
    die("cli: row %s", name);
}

/* --- the environment ----------------------------------------------------------------------------------------------------- */

static const char *variable(const Cli *c, const CliOption *o, char *to, size_t n) {
    if (o->env) return o->env;
    size_t i = (size_t)snprintf(to, n, "%s%s", c->env, o->name);
    if (i >= n) die("cli: %s has a long name", o->name);
    for (char *s = to; *s; s++) *s = *s == '-' ? '_' : *s >= 'a' && *s <= 'z' ? (char)(*s - 32) : *s;
    return to;
}

static bool set_flag(bool *to, const char *name, const char *s, Err *e) {
    static const char *const words[] = {"0", "no", "off", "false", "1", "yes", "on", "true"};
    for (size_t i = 0; i < LEN(words); i++)
        if (!strcasecmp(s, words[i])) return *to = i >= LEN(words) / 2, true;
    return err_set(e, "%s %s: it is 1 or 0, yes or no", name, s);
}

/* What the command line did not give. */
static bool from_environment(const Cli *c, void *to, const bool *given, Err *e) {
    char room[64];
    for (size_t i = 0; i < c->n; i++) {
        const CliOption *o = &c->options[i];
        const char *name = o->kind == CLI_GROUP || given[i] ? "" : variable(c, o, room, sizeof room),
                   *v = *name ? getenv(name) : NULL;
        if (!v || !*v) continue;
        bool ok = o->kind == CLI_FLAG ? set_flag((bool *)((char *)to + o->at), name, v, e) : set(o, to, name, v, e);
        if (!ok) return err_wrap(e, "in the environment");
    }
    return true;
}

/* --- arguments ----------------------------------------------------------------------------------------------------------- */

typedef struct Args Args;
struct Args {
    const Cli *c;
    void *to;
    char **left; /* the arguments behind this one, NULL at the end */
    bool *done, *given;
};

/* --help and --version, which every program has. */
static bool built_in(Args *a, const char *name, Err *e) {
    Text t = {0};
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) cli_help(a->c, &t);
    else if (!strcmp(name, "--version"))
        text_add(&t, "%s " GPTOSS_VERSION "%s\n", a->c->program, a->c->version ? a->c->version : "");
    else return false;
    fputs(t.at, stdout);
    (void)cli_stdout(e); /* cli_end returns it */
    text_free(&t);
    return *a->done = true;
}

/* What was meant as a word. */
static void behind_dashes(const Args *a, Err *e) {
    if (!strstr(e->msg, " behind --")) err_add(e, "; %s that begins with a dash goes behind --", a->c->words);
}

static bool take(Args *a, const CliOption *o, const char *name, const char *arg, Err *e) {
    a->given[o - a->c->options] = true;
    if (o->kind == CLI_FLAG) return set(o, a->to, name, NULL, e);
    if (!arg) arg = *a->left ? *a->left++ : NULL;
    return arg ? set(o, a->to, name, arg, e) : err_set(e, "%s needs a value: %s", name, o->arg);
}

/* Says which long option was meant, if one was. */
static bool suggest_option(const Args *a, const char *word, Err *e) {
    const char *names[CLI_OPTIONS_MAX + 3] = {"help", "version"};
    size_t n = 2;
    for (size_t i = 0; i < a->c->n; i++)
        if (a->c->options[i].kind != CLI_GROUP) names[n++] = a->c->options[i].name;
    const char *meant = cli_nearest(word + strspn(word, "-"), names);
    if (meant && !strstr(e->msg, "did you mean")) err_add(e, "; did you mean --%s?", meant);
    return meant != NULL;
}

static bool unknown(const Args *a, const char *name, Err *e) {
    err_set(e, "no option %s", name);
    if (!suggest_option(a, name, e) && a->c->words) behind_dashes(a, e);
    return false;
}

/* "--steps", "--steps=64" */
static bool long_option(Args *a, const char *word, Err *e) {
    char name[64];
    size_t n = strcspn(word, "=");
    const char *arg = word[n] ? word + n + 1 : NULL;
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    if (built_in(a, name, e)) return true;
    for (size_t i = 0; i < a->c->n; i++) {
        const CliOption *o = &a->c->options[i];
        if (o->kind == CLI_GROUP || strcmp(o->name, name + 2)) continue;
        if (o->kind == CLI_FLAG && arg) return err_set(e, "%s takes no value", name);
        return take(a, o, name, arg, e);
    }
    return unknown(a, name, e);
}

/* "-n", "-n64", "-0s" */
static bool letters(Args *a, const char *word, Err *e) {
    for (const char *s = word + 1; *s; s++) {
        const char name[] = {'-', *s, 0};
        const CliOption *o = NULL;
        for (size_t i = 0; i < a->c->n; i++)
            if (a->c->options[i].letter == *s) o = &a->c->options[i];
        if (!o && s[1]) return unknown(a, word, e);
        if (!o) return built_in(a, name, e) || unknown(a, word, e);
        if (o->kind != CLI_FLAG) return take(a, o, name, s[1] ? s + 1 : NULL, e);
        if (!take(a, o, name, NULL, e)) return false;
    }
    return true;
}

/* No option has a blank in its name: that was a text. "-seed" was --seed. */
static bool misread(const Args *a, const char *word, Err *e) {
    if (word[1] != '-' && word[2]) suggest_option(a, word, e);
    if (a->c->words && strcspn(word, " \t\n") < strcspn(word, "=")) behind_dashes(a, e);
    return false;
}

static bool arguments(Args *a, char **argv, int *words, Err *e) {
    bool only_words = false;
    while (*a->left && !*a->done) {
        char *word = *a->left++;
        bool option = !only_words && word[0] == '-' && word[1];
        if (option && !strcmp(word, "--")) only_words = true;
        else if (!option) argv[(*words)++] = word; /* no further than what was read */
        else if (!(word[1] == '-' ? long_option(a, word, e) : letters(a, word, e))) return misread(a, word, e);
    }
    argv[*words] = NULL;
    return true;
}

/* In a closed stream's place: /dev/null, for stdin and stdout the wrong way round, so that using them is an error still. */
static void hold_streams(void) {
    static const int mode[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < (int)LEN(mode); fd++)
        if (fcntl(fd, F_GETFD) < 0) (void)!open("/dev/null", mode[fd]); /* the lowest free number: fd */
}

bool cli_parse(const Cli *c, void *to, int argc, char **argv, CliParsed *parsed, Err *e) {
    hold_streams();
    signal(SIGXFSZ, SIG_IGN); /* a limit on files' size is then an error of write() */
    signal(SIGCHLD, SIG_DFL); /* ignored, as some start it, no child's end can be waited for */
    json_memory();
    *parsed = (CliParsed){.words = 0};
    if (c->n > CLI_OPTIONS_MAX) die("cli: %zu options", c->n);
    Args a = {c, to, argv + (argc > 0), &parsed->done, parsed->given};
    return arguments(&a, argv, &parsed->words, e) && (parsed->done || from_environment(c, to, parsed->given, e));
}

int cli_usage_error(const Cli *c, const Err *e) {
    fprintf(stderr, "%s: error: %s; see %s --help\n", c->program, e->msg, c->program);
    return USAGE_ERROR;
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static bool lost(int why, Err *e) { return err_set(e, "stdout: %s", why ? strerror(why) : "cannot be written"); }

/* After a write that failed a flush may well succeed: there is nothing left. Right behind it errno still says why. */
bool cli_stdout(Err *e) {
    if (fflush(stdout) || ferror(stdout)) return lost(errno, e);
    return true;
}

int cli_end(const Cli *c, bool ok, Err *e) {
    Err why = {0};
    errno = 0;
    bool whole = cli_stdout(&why);
    if (fclose(stdout) && whole) whole = lost(errno, &why);
    bool said = !strncmp(e->msg, "stdout: ", 8); /* by the cli_stdout that met it first, which knows more */
    if (ok && !whole && !said) *e = why;
    ok = ok && whole;
    bool placed = c->places && strstr(e->msg, ": error: ");
    if (!ok) fprintf(stderr, placed ? "%s%s\n" : "%s: error: %s\n", placed ? "" : c->program, e->msg);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- help ---------------------------------------------------------------------------------------------------------------- */

static void help_row(Text *t, char letter, const char *name, const char *arg, const char *help) {
    char left[96];
    size_t n = 0;
    n += (size_t)snprintf(left, sizeof left, letter ? "  -%c, " : "      ", letter);
    n += (size_t)snprintf(left + n, sizeof left - n, "--%s%s%s", name, arg ? " " : "", arg ? arg : "");
    text_add(t, "%-*s", HELP_COLUMN, left);
    if (n >= HELP_COLUMN) text_add(t, "\n%*s", HELP_COLUMN, "");
    for (const char *s = help;; s++) { /* a help of several lines keeps its column */
        size_t line = strcspn(s, "\n");
        text_add(t, "%.*s\n", (int)line, s);
        s += line;
        if (!*s) break;
        text_add(t, "%*s", HELP_COLUMN, "");
    }
}

void cli_help(const Cli *c, Text *t) {
    text_add(t, "usage: %s %s\n%s", c->program, c->synopsis, c->about);
    for (size_t i = 0; i < c->n; i++) {
        const CliOption *o = &c->options[i];
        if (o->kind == CLI_GROUP) text_add(t, "\n%s:\n", o->help);
        else help_row(t, o->letter, o->name, o->arg, o->help);
    }
    text_add(t, "\nHelp:\n");
    help_row(t, 'h', "help", NULL, "this text");
    help_row(t, 0, "version", NULL, "the version");
    if (c->notes) text_add(t, "\n%s", c->notes);
    text_add(t,
             "\nExamples:\n%s\nIn the environment --some-name is %sSOME_NAME; the command line wins.\nMore: man %s\n",
             c->examples, c->env, c->program);
}

/* --- siblings ------------------------------------------------------------------------------------------------------------ */

const char *cli_home(Arena *a, Err *e) {
    const char *env = getenv("GPTOSS_HOME");
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    if (env && *env && access(arena_printf(a, "%s/templates/lib/common.h", env), R_OK))
        return err_set(e, "GPTOSS_HOME is %s, which has no templates/lib/common.h", env), NULL;
    const char *tries[] = {env && *env ? env : NULL, arena_printf(a, "%s/..", self), arena_printf(a, "%s/../share/gptoss", self)};
    for (size_t i = 0; i < LEN(tries); i++)
        if (tries[i] && !access(arena_printf(a, "%s/templates/lib/common.h", tries[i]), R_OK)) return tries[i];
    err_set(e, "cannot find templates/ and lua/ beside %s; set GPTOSS_HOME to the folder that holds them", self);
    return NULL;
}

const char *cli_sibling(Arena *a, const char *program) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    return arena_printf(a, "%.*s/%s", slash ? (int)(slash - self) : 0, self, program);
}
