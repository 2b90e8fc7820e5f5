/* line.c - see line.h. */
#include "line.h"

#include "../ir/base.h"

#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

enum { HISTORY_MAX = 1000 };

static char *history_file(void) {
    const char *own = getenv("GPTOSS_HISTORY"), *home = getenv("HOME");
    char *path = NULL;
    if (own) return *own ? strdup(own) : NULL;
    if (home && *home && asprintf(&path, "%s/.gptoss_history", home) < 0) return NULL;
    return path;
}

void line_open(Line *l, FILE *f) {
    *l = (Line){.f = f, .terminal = isatty(fileno(f)) && isatty(1)};
    if (!l->terminal) return;
    setlocale(LC_CTYPE, "");
    l->history = history_file();
#ifdef HAVE_LIBEDIT
    rl_readline_name = "gptoss";
    using_history();
    stifle_history(HISTORY_MAX);
    if (l->history) read_history(l->history);
#endif
}

#ifdef HAVE_LIBEDIT
static char *edited(Line *l, const char *prompt) {
    char *line = readline(prompt);
    (void)l;
    if (line && *line) add_history(line);
    return line;
}
#else
static char *edited(Line *l, const char *prompt) {
    fputs(prompt, stdout), fflush(stdout);
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, l->f);
    if (n <= 0) return free(line), NULL;
    if (line[n - 1] == '\n') line[n - 1] = 0;
    return line;
}
#endif

char *line_read(Line *l, const char *prompt) {
    char *line = NULL;
    size_t cap = 0;
    if (l->terminal) return edited(l, prompt);
    ssize_t n = getline(&line, &cap, l->f);
    if (n <= 0) return free(line), NULL;
    if (n && line[n - 1] == '\n') line[--n] = 0;
    if (n && line[n - 1] == '\r') line[--n] = 0;
    return line;
}

void line_close(Line *l) {
#ifdef HAVE_LIBEDIT
    if (l->history) {
        mode_t old = umask(077); /* what was said is nobody else's */
        write_history(l->history);
        umask(old);
    }
#endif
    free(l->history);
}
