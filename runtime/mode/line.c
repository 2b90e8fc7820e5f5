/* line.c - see line.h. */
#include "line.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>
#ifdef HAVE_LIBEDIT
#include <histedit.h>
#endif

enum { HISTORY_MAX = 1000, HISTORY_FILE_MAX = 1 << 20 /* bytes; a larger one is cut to HISTORY_MAX lines */ };

static char *history_file(void) {
    const char *own = getenv("GPTOSS_HISTORY"), *home = getenv("HOME");
    char *path = NULL;
    if (own) return *own ? strdup(own) : NULL;
    if (home && *home && asprintf(&path, "%s/.gptoss_history", home) < 0) return NULL;
    return path;
}

/* Text is UTF-8 here; a terminal whose locale is not named (no LANG, as in a container) speaks it too. */
static void take_utf8(void) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8")) setlocale(LC_CTYPE, "C.UTF-8");
}

static FILE *screen(void) { return isatty(1) ? stdout : stderr; }

/* --- signals: what they ask for is done where the reading is --------------------------------------------------------------- */

static volatile sig_atomic_t interrupt, resized, continued; /* a handler has no other way to its Line */

static void on_signal(int sig) {
    if (sig == SIGINT) interrupt = 1;
    else if (sig == SIGWINCH) resized = 1;
    else continued = 1;
}

static const int signals[] = {SIGINT, SIGWINCH, SIGCONT};

static void catch_signals(struct sigaction *old) {
    const struct sigaction now = {.sa_handler = on_signal}; /* no SA_RESTART: reading ends */
    interrupt = resized = continued = 0;
    for (size_t i = 0; i < LEN(signals); i++) sigaction(signals[i], &now, &old[i]);
}

static void release_signals(const struct sigaction *old) {
    for (size_t i = 0; i < LEN(signals); i++) sigaction(signals[i], &old[i], NULL);
}

/* --- plain lines ------------------------------------------------------------------------------------------------------------- */

static bool plain(Line *l, Text *t) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, l->f);
    l->why = ferror(l->f) || (n < 0 && !feof(l->f)) ? errno : 0; /* without memory only feof tells */
    size_t from = n > 0 && !l->begun ? text_mark(line, (size_t)n) : 0;
    if (n > 0) text_put(t, line + from, text_chomp(line + from, (size_t)n - from));
    l->begun |= n > 0;
    free(line);
    return n > 0 && !l->why;
}

/* --- edited lines ------------------------------------------------------------------------------------------------------------ */

#ifdef HAVE_LIBEDIT
static sigset_t before; /* the mask while read_char waits; else our signals are blocked, so that none is lost between a look and a wait */

static void block_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < LEN(signals); i++) sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, &before);
}

static Line *line_of(EditLine *el) {
    void *l = NULL;
    el_get(el, EL_CLIENTDATA, &l);
    return l;
}

static char *prompt_of(EditLine *el) { return (char *)(uintptr_t)line_of(el)->prompt; }

static void after_signal(EditLine *el) {
    if (resized) resized = 0, el_resize(el);
    if (continued) continued = 0, el_set(el, EL_PREP_TERM, 1), el_set(el, EL_REFRESH); /* behind Ctrl-Z and fg */
}

/* The next character; 0 at the end and on Ctrl-C. */
static int read_char(EditLine *el, wchar_t *c) {
    mbstate_t state = {0};
    for (;;) {
        char byte;
        struct pollfd p = {.fd = fileno(line_of(el)->f), .events = POLLIN};
        if (ppoll(&p, 1, NULL, &before) < 0 && errno == EINTR && !interrupt) {
            after_signal(el);
            continue;
        }
        ssize_t n = interrupt ? 0 : read(p.fd, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return 0;
        size_t k = mbrtowc(c, &byte, 1, &state);
        if (k == (size_t)-2) continue;
        if (k == (size_t)-1) *c = 0xfffd;
        return 1;
    }
}

/* Behind the terminal's mark of a pasted text: all of it, to the mark of its end, goes into the line. */
static unsigned char paste(EditLine *el, int ch) {
    static const wchar_t end[] = L"\033[201~";
    enum { END = sizeof end / sizeof *end - 1 };
    wchar_t *text = NULL, c, last = 0;
    size_t n = 0, cap = 0;
    (void)ch;
    while ((n < END || wmemcmp(text + n - END, end, END)) && el_wgetc(el, &c) == 1) {
        if (n + 1 >= cap) {
            cap = cap ? 2 * cap : 256;
            text = realloc(text, cap * sizeof *text);
            if (!text) out_of_memory(cap * sizeof *text, "a pasted text");
        }
        bool again = c == '\n' && last == '\r'; /* "\r\n" is one line break */
        last = c;
        if (!again) text[n++] = c == '\r' ? '\n' : c;
    }
    if (n >= END && !wmemcmp(text + n - END, end, END)) n -= END;
    if (n) text[n] = 0, el_winsertstr(el, text);
    free(text);
    return CC_REFRESH;
}

/* The file, which is too large, becomes what was taken of it, at once. */
static void shorten(const Line *l) {
    HistEvent v;
    char *whole = NULL, *file = realpath(l->file, NULL); /* of a link, the file */
    if (file && asprintf(&whole, "%s.%ld", file, (long)getpid()) < 0) whole = NULL;
    if (whole && (history(l->history, &v, H_SAVE, whole) < 0 || rename(whole, file))) unlink(whole);
    free(whole), free(file);
}

static void editor_open(Line *l) {
    HistEvent v;
    struct stat st;
    l->editor = el_init("gptoss", l->f, screen(), stderr);
    l->history = history_init();
    if (!l->editor || !l->history) out_of_memory(0, "the line editor (libedit)");
    el_set(l->editor, EL_CLIENTDATA, l);
    el_set(l->editor, EL_PROMPT, prompt_of);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_GETCFN, read_char);
    el_set(l->editor, EL_HIST, history, l->history);
    el_set(l->editor, EL_ADDFN, "gptoss-paste", "insert what is pasted", paste);
    el_set(l->editor, EL_BIND, "\\e[200~", "gptoss-paste", NULL);
    el_set(l->editor, EL_BIND, "^I", "ed-insert", NULL);
    el_set(l->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(l->editor, NULL); /* ~/.editrc */
    history(l->history, &v, H_SETSIZE, HISTORY_MAX);
    history(l->history, &v, H_SETUNIQUE, 1);
    if (!l->file) return;
    history(l->history, &v, H_LOAD, l->file);
    if (!stat(l->file, &st) && st.st_size > HISTORY_FILE_MAX) shorten(l);
}

/* Line by line, so that neither a crash nor another chat loses any: the file is a history of one line, appended. */
static void append(const char *file, const char *line) {
    HistEvent v;
    mode_t old = umask(077); /* what was said is nobody else's */
    FILE *f = fopen(file, "a");
    umask(old);
    History *one = f ? history_init() : NULL;
    if (one) {
        history(one, &v, H_SETSIZE, 1);
        history(one, &v, H_ENTER, line);
        fseek(f, 0, SEEK_END); /* a file that is not empty has its first line already */
        history(one, &v, H_SAVE_FP, f);
        history_end(one);
    }
    if (f) fclose(f);
}

static void remember(Line *l, const char *line) {
    HistEvent v;
    history(l->history, &v, H_ENTER, line);
    if (l->file) append(l->file, line);
}

static bool edited(Line *l, Text *t) {
    struct sigaction old[LEN(signals)];
    int n = 0;
    fputs("\033[?2004h", screen()), fflush(screen()); /* pasted text is to be marked */
    catch_signals(old);
    block_signals();
    const char *got = el_gets(l->editor, &n);
    sigprocmask(SIG_SETMASK, &before, NULL);
    release_signals(old);
    l->interrupted = interrupt;
    fputs(l->interrupted ? "\033[?2004l\n" : "\033[?2004l", screen()), fflush(screen());
    if (!got || n <= 0 || l->interrupted) return el_reset(l->editor), false;
    size_t from = t->n;
    text_put(t, got, (size_t)n - (got[n - 1] == '\n'));
    if (t->n > from) remember(l, t->at + from);
    return true;
}

static void editor_close(Line *l) {
    if (l->editor) el_end(l->editor);
    if (l->history) history_end(l->history);
}
#else
static void editor_open(Line *l) { (void)l; }
static void editor_close(Line *l) { (void)l; }

static bool edited(Line *l, Text *t) {
    struct sigaction old[LEN(signals)];
    fputs(l->prompt, screen()), fflush(screen());
    catch_signals(old);
    bool got = plain(l, t);
    release_signals(old);
    l->interrupted = interrupt;
    if (interrupt) l->why = 0, clearerr(l->f), fputc('\n', screen());
    return got && !interrupt;
}
#endif

void line_open(Line *l, FILE *f) {
    *l = (Line){.f = f, .terminal = isatty(fileno(f)) && isatty(fileno(screen()))};
    if (!l->terminal) return;
    take_utf8();
    l->file = history_file();
    editor_open(l);
}

bool line_read(Line *l, const char *prompt, Text *t) {
    l->prompt = prompt, l->interrupted = false;
    return l->terminal ? edited(l, t) : plain(l, t);
}

void line_close(Line *l) {
    editor_close(l);
    free(l->file);
}
