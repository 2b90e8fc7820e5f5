/* child.c - see child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ir/cli.h"

enum { GRACE = 5 /* s between a program's last word and its end */ };

/* --- command lines ------------------------------------------------------------------------------------------------------- */

void args_add(Arena *a, Args *to, const char *arg) {
    PUSH(a, *to, arg);
    PUSH(a, *to, NULL);
    to->n--;
}

void args_pair(Arena *a, Args *to, const char *option, const char *value) {
    if (!value) return;
    args_add(a, to, option);
    args_add(a, to, value);
}

void args_int(Arena *a, Args *to, const char *option, int64_t value) {
    args_pair(a, to, option, arena_printf(a, "%lld", (long long)value));
}

/* --- signals -------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t came; /* 0, or which */
static void on_signal(int sig) { came = sig; }

void child_watch(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction once = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* a second one ends the program at once */
    for (size_t i = 0; i < LEN(signals); i++) {
        struct sigaction is;
        if (!sigaction(signals[i], NULL, &is) && is.sa_handler != SIG_IGN) sigaction(signals[i], &once, NULL);
    }
}

bool child_ended(Err *e) { return came && !err_set(e, "ended by signal %d (%s)", (int)came, strsignal(came)); }

/* --- starting and ending ------------------------------------------------------------------------------------------------- */

/* In the child, which ends when the lab does. What it cannot do it says on the stderr that it was given. */
static void become(const char *path, char *const *argv, pid_t lab, int in, int out, int err) {
    end_with(lab, SIGKILL);
    dup2(in, 0), dup2(out, 1), dup2(err, 2);
    signal(SIGPIPE, SIG_DFL);
    execv(path, argv);
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    _exit(127);
}

static int start(Arena *a, const Args *args, int in, int out, int err, Err *e) {
    const char *path = cli_sibling(a, args->at[0]);
    if (access(path, X_OK))
        return err_set(e, "%s: %s (gptoss-lab runs its sibling programs)", path, strerror(errno)), -1;
    if (child_ended(e)) return -1;
    fflush(NULL);
    pid_t lab = getpid(), pid = fork();
    if (pid < 0) return err_set(e, "cannot start %s: %s", args->at[0], strerror(errno)), -1;
    if (!pid) become(path, (char *const *)args->at, lab, in, out, err);
    return pid;
}

static bool make_pipe(int to[2], Err *e) { return !pipe2(to, O_CLOEXEC) || err_set(e, "pipe: %s", strerror(errno)); }

/* Both, or neither. */
static bool make_pipes(int a[2], int b[2], Err *e) {
    if (!make_pipe(a, e)) return false;
    if (make_pipe(b, e)) return true;
    close(a[0]), close(a[1]);
    return false;
}

static void note_end(Said *s, int status) {
    s->ok = WIFEXITED(status) && !WEXITSTATUS(status);
    if (*s->how) return;
    if (WIFSIGNALED(status))
        snprintf(s->how, sizeof s->how, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (!s->ok) snprintf(s->how, sizeof s->how, "exit status %d", WEXITSTATUS(status));
}

/* It ends by itself within so many seconds, or by force. False: how is not known, by errno. */
static bool ends(int pid, double seconds, int *status) {
    double end = seconds_now() + seconds;
    int ended;
    while (!(ended = waitpid(pid, status, WNOHANG)) && seconds_now() < end && !came) usleep(1000);
    if (!ended) kill(pid, SIGKILL);
    while (!ended || (ended < 0 && errno == EINTR)) ended = waitpid(pid, status, 0);
    return ended == pid;
}

/* --- to the end ---------------------------------------------------------------------------------------------------------- */

/* Reads what is there; false at the end of the stream. */
static bool take(int fd, Text *t) {
    char block[65536];
    ssize_t n = read(fd, block, sizeof block);
    if (n > 0) text_put(t, block, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* Until both streams have ended; false: the time was over first, or a signal came. */
static bool listen_to(struct pollfd p[2], Said *s, double seconds) {
    double end = seconds_now() + seconds;
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        double left = end - seconds_now();
        if (left <= 0 || came) return false;
        if (poll(p, 2, left > 1 ? 1000 : (int)(left * 1000) + 1) < 0 && errno != EINTR) return true;
        for (int i = 0; i < 2; i++)
            if (p[i].fd >= 0 && p[i].revents && !take(p[i].fd, i ? &s->err : &s->out)) p[i].fd = -1;
    }
    return true;
}

bool child_run(Arena *a, const Args *args, double seconds, Said *said, Err *e) {
    int out[2], err[2], status = 0;
    *said = (Said){.how = ""};
    text_put(&said->out, "", 0), text_put(&said->err, "", 0);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0) return err_set(e, "/dev/null: %s", strerror(errno));
    if (!make_pipes(out, err, e)) return close(nothing), false;
    int pid = start(a, args, nothing, out[1], err[1], e);
    close(nothing), close(out[1]), close(err[1]);
    if (pid > 0) {
        struct pollfd p[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
        double end = seconds_now() + seconds;
        bool late = !listen_to(p, said, seconds), known;
        if (late) kill(pid, SIGKILL);
        known = ends(pid, fmax(GRACE, end - seconds_now()), &status);
        if (late || (seconds_now() > end && WIFSIGNALED(status))) snprintf(said->how, sizeof said->how, "not done within %g s", seconds);
        if (known) note_end(said, status);
        else snprintf(said->how, sizeof said->how, "its end is not known: %s", strerror(errno));
    }
    close(out[0]), close(err[0]);
    bool ok = pid > 0 && !child_ended(e);
    if (!ok) said_free(said);
    return ok;
}

void said_free(Said *s) { text_free(&s->out), text_free(&s->err); }

/* The first line that begins with "error: " behind whatever names its place, else the last one. */
const char *said_why(Arena *a, const Said *s) {
    const char *error = strstr(s->err.at, "error: "), *at = s->err.at + s->err.n;
    if (*s->how && strncmp(s->how, "exit", 4)) return arena_strdup(a, s->how);
    if (!error) {
        while (at > s->err.at && at[-1] == '\n') at--;
        const char *end = at;
        while (at > s->err.at && at[-1] != '\n') at--;
        return end > at ? arena_strndup(a, at, (size_t)(end - at)) : arena_strdup(a, s->how);
    }
    const char *line = error;
    while (line > s->err.at && line[-1] != '\n') line--;
    if (!strncmp(line, "gptoss-", 7)) line = error + strlen("error: "); /* "gptoss-exec: error: " */
    return arena_strndup(a, line, strcspn(line, "\n"));
}

/* --- taking turns -------------------------------------------------------------------------------------------------------- */

bool partner_start(Arena *a, const Args *args, Partner *p, Err *e) {
    int to[2], from[2];
    *p = (Partner){.err = tmpfile()};
    if (!p->err) return err_set(e, "a temporary file: %s", strerror(errno));
    if (!make_pipes(to, from, e)) return fclose(p->err), p->err = NULL, false;
    p->pid = start(a, args, to[0], from[1], fileno(p->err), e);
    p->to = to[1], p->from = from[0];
    close(to[0]), close(from[1]);
    return p->pid > 0;
}

/* What it said last on stderr, or how it ended. */
static void why_ended(Partner *p, Err *e) {
    Said s = {.how = ""};
    Arena *a = arena_new();
    char block[4096];
    int status = 0;
    if (ends(p->pid, GRACE, &status)) note_end(&s, status);
    p->pid = 0;
    rewind(p->err);
    text_put(&s.err, "", 0);
    for (size_t n; (n = fread(block, 1, sizeof block, p->err)) > 0;) text_put(&s.err, block, n);
    err_set(e, "%s", said_why(a, &s));
    said_free(&s);
    arena_free(a);
}

const char *partner_ask(Partner *p, double seconds, Err *e) {
    double end = seconds_now() + seconds;
    p->line.n = 0;
    bool ok = write_all(p->to, "\n", 1, -1);
    while (ok && (!p->line.n || p->line.at[p->line.n - 1] != '\n')) {
        struct pollfd f = {p->from, POLLIN, 0};
        int n = poll(&f, 1, 1000);
        if (n < 0 && errno != EINTR) ok = false;
        if (n > 0) ok = take(p->from, &p->line);
        if (!ok || (seconds_now() <= end && !came)) continue;
        kill(p->pid, SIGKILL);
        why_ended(p, e);
        if (!child_ended(e)) err_set(e, "no answer within %g s", seconds);
        return NULL;
    }
    if (ok) return p->line.at;
    why_ended(p, e);
    child_ended(e); /* a Ctrl-C reaches both */
    return NULL;
}

void partner_end(Partner *p) {
    int status;
    if (p->to) close(p->to);
    if (p->pid > 0) ends(p->pid, GRACE, &status);
    if (p->from) close(p->from);
    if (p->err) fclose(p->err);
    text_free(&p->line);
    *p = (Partner){0};
}
