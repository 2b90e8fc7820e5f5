/* rtc.c - compiles jobs in forked processes: who runs where, crashes, timeouts, duplicates, the cache. See rtc.h.
 *
 *   caller ── fork ──► server: loads the compiler once, says what it is and what archs it knows
 *     │ looks up the cache,     │
 *     └ sends what is missing ─►├─ fork ─► worker: compiles one job, writes the result to DIR/N.out
 *       reads DIR/N.out  ◄──────┴─ says how each worker ended
 *
 * Where the compiler is known to be as it was (rtc_known.c) and all is cached there is no server.
 *
 * A fork of a process that has loaded LLVM costs 1 ms, loading it 50; so each job has its own process and starts from the
 * same state whatever was compiled before it. The compiler never runs in the caller, nor before a fork (it starts threads).
 * DIR is ours and is the workers' TMPDIR: what a crashed compiler leaves goes with it. When the caller dies the server sees
 * its socket close, kills the workers and removes DIR; workers die with the server. A worker leads a group of its own, which is killed as a
 * whole: cc has processes too. A server that does not speak in time is killed by the caller.
 * Add a compiler as a row of `backends` and a file like rtc_hip.c. */
#include "ir/socket.h"
#include "rtc_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const RtcBackend *const backends[RTC_KINDS] = {[RTC_HIP] = &rtc_hip, [RTC_CUDA] = &rtc_cuda, [RTC_HOST] = &rtc_host};

enum { TIMEOUT = 300, PATIENCE = 30 }; /* seconds: that a job may take; see rtc_patience */

typedef struct Done Done; /* server to caller: how the worker of a job ended */
struct Done {
    int32_t job, status; /* status as of waitpid; -1 when it could not be started, with errno in `error` */
    int32_t timed_out, error; /* error: also of a worker that could not write its result, else 0 */
    double seconds;
};

typedef struct Server Server; /* the caller's view */
struct Server {
    pid_t pid;
    int sock;
    const char *dir;
    RtcTool *tool;
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    remove(path);
    return 0;
}
static void remove_tree(const char *dir) { nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

#ifdef RTC_TEST
/* Test hooks: GPTOSS_RTC_CRASH, _EXIT, _HANG and _ONCE name a job; GPTOSS_RTC_PATIENCE replaces PATIENCE. */
static bool asked(const char *var, const char *name) { return getenv(var) && !strcmp(getenv(var), name); }
static void test_hooks(const char *name) {
    if (asked("GPTOSS_RTC_CRASH", name)) fputs("LLVM ERROR: as the test asked\n", stderr), abort();
    if (asked("GPTOSS_RTC_EXIT", name)) _exit(70);
    if (asked("GPTOSS_RTC_HANG", name))
        for (;;) pause();
}
bool rtc_test_fails(const char *name) { return asked("GPTOSS_RTC_ONCE", name); }
double rtc_patience(void) { return seconds_env("GPTOSS_RTC_PATIENCE", PATIENCE); }
#else
static void test_hooks(const char *name) { (void)name; }
bool rtc_test_fails(const char *name) { return (void)name, false; }
double rtc_patience(void) { return PATIENCE; }
#endif

/* At most 11 days: poll counts milliseconds in an int. */
static double timeout(void) { return fmin(seconds_env("GPTOSS_RTC_TIMEOUT", TIMEOUT), 1e6); }

bool rtc_wait(pid_t child, double seconds, int *status) {
    const int how = isinf(seconds) ? 0 : WNOHANG;
    for (double end = seconds_now() + seconds;;) {
        pid_t ended = waitpid(child, status, how);
        if (ended == child) return true;
        if (ended < 0 && errno != EINTR) return false;
        if (seconds_now() > end) break;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    kill(-child, SIGKILL), kill(child, SIGKILL);
    while (waitpid(child, status, 0) < 0 && errno == EINTR) {}
    return errno = ETIMEDOUT, false;
}

/* --- the worker: one job ------------------------------------------------------------------------------------------ */

/* What the compiler prints belongs to its job. */
static void redirect(const char *path) {
    int in = open("/dev/null", O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in >= 0) dup2(in, 0), in > 2 ? close(in) : 0;
    if (out >= 0) dup2(out, 1), dup2(out, 2), out > 2 ? close(out) : 0;
}

/* say: where errno goes if the result cannot be written: what the worker prints is on the same disk. */
static NORETURN void work(const RtcBackend *b, void *state, Arena *a, RtcJob *job, const char *dir, int i, pid_t server, int say) {
    end_with(server, SIGKILL);
    setpgid(0, 0);
    redirect(arena_printf(a, "%s/%d.err", dir, i));
    test_hooks(job->name);
    Err e = {0};
    Text t = {0};
    job->log = "";
    bool ok = b->compile(state, a, job, &e);
    rtc_encode(&t, job, ok ? "" : e.msg);
    FILE *f = fopen(arena_printf(a, "%s/%d.out", dir, i), "wb");
    if (!f || fwrite(t.at, 1, t.n, f) != t.n || fclose(f)) {
        int why = errno;
        write_all(say, &why, sizeof why, -1);
        _exit(1);
    }
    _exit(0);
}

/* --- the server: a worker for each job ---------------------------------------------------------------------------- */

typedef struct Run Run;
struct Run {
    pid_t pid;
    int job, alive; /* alive: a pipe that closes when the worker ends, and may bring an errno */
    double start;
    bool timed_out;
};

/* The caller hears no more, reads what is left in the folder, and goes, in whatever way. */
static NORETURN void end(const char *dir, int sock) {
    char none[64];
    shutdown(sock, SHUT_WR);
    while (read(sock, none, sizeof none) > 0) {}
    remove_tree(dir);
    _exit(0);
}

/* The caller has gone; or it cannot be served, and reads why in server.err. */
static NORETURN void give_up(Run *runs, int n, const char *dir, int sock, const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    for (int i = 0; i < n; i++) kill(-runs[i].pid, SIGKILL), waitpid(runs[i].pid, NULL, 0);
    end(dir, sock);
}

static bool start(Run *r, const RtcBackend *b, void *state, Arena *a, RtcJob *job, const char *dir, int i, int sock) {
    int ends[2];
    pid_t server = getpid();
    if (pipe2(ends, O_CLOEXEC)) return false;
    *r = (Run){.pid = fork(), .job = i, .alive = ends[0], .start = seconds_now()};
    if (r->pid == 0) {
        close(sock), close(ends[0]);
        work(b, state, a, job, dir, i, server, ends[1]);
    }
    close(ends[1]);
    if (r->pid > 0) setpgid(r->pid, r->pid); /* here too: it may have to be killed before it does so itself */
    else close(ends[0]);
    return r->pid > 0;
}

/* Runs the n jobs whose numbers are in `todo`, at most `workers` at once; tells the caller of each as it ends. */
static void serve_jobs(const RtcBackend *b, void *state, Arena *a, RtcJob *jobs, const int32_t *todo, int n,
                       int workers, const char *dir, int sock) {
    Run *runs = arena_array(a, (size_t)workers, sizeof *runs);
    struct pollfd *fds = arena_array(a, (size_t)workers + 1, sizeof *fds);
    for (int next = 0, busy = 0; next < n || busy;) {
        while (next < n && busy < workers) {
            int i = todo[next++];
            if (start(&runs[busy], b, state, a, &jobs[i], dir, i, sock)) {
                busy++;
                continue;
            }
            Done d = {.job = i, .status = -1, .error = errno};
            if (!socket_put(sock, &d, sizeof d)) give_up(runs, busy, dir, sock, "an answer");
        }
        double wait = timeout();
        for (int k = 0; k < busy; k++) {
            fds[k] = (struct pollfd){.fd = runs[k].alive, .events = POLLIN};
            double left = runs[k].timed_out ? 1 : runs[k].start + timeout() - seconds_now();
            if (left < wait) wait = left < 0 ? 0 : left;
        }
        fds[busy] = (struct pollfd){.fd = sock, .events = POLLIN};
        if (poll(fds, (nfds_t)busy + 1, (int)(wait * 1000) + 1) < 0 && errno != EINTR) give_up(runs, busy, dir, sock, "poll");
        if (fds[busy].revents) give_up(runs, busy, dir, sock, "the caller"); /* it sends nothing more: it has gone */
        for (int k = busy - 1; k >= 0; k--) {
            if (fds[k].revents) {
                Done d = {.job = runs[k].job, .timed_out = runs[k].timed_out, .seconds = seconds_now() - runs[k].start};
                int status = 0;
                if (read(runs[k].alive, &d.error, sizeof d.error) < (ssize_t)sizeof d.error) d.error = 0;
                close(runs[k].alive);
                while (waitpid(runs[k].pid, &status, 0) < 0 && errno == EINTR) {}
                d.status = status;
                runs[k] = runs[--busy];
                if (!socket_put(sock, &d, sizeof d)) give_up(runs, busy, dir, sock, "an answer");
            } else if (!runs[k].timed_out && seconds_now() - runs[k].start > timeout()) {
                runs[k].timed_out = true;
                kill(-runs[k].pid, SIGKILL);
            }
        }
    }
}

static NORETURN void serve(RtcKind kind, RtcJob *jobs, int workers, const char *dir, int sock) {
    const struct rlimit no_core = {0, 0};
    const RtcBackend *b = backends[kind];
    Arena *a = arena_new();
    RtcTool *tool = arena_alloc(a, sizeof *tool);
    signal(SIGINT, SIG_IGN), signal(SIGTERM, SIG_IGN),
        signal(SIGHUP, SIG_IGN); /* sees the caller go instead, and cleans up */
    signal(SIGCHLD, SIG_DFL);
    setrlimit(RLIMIT_CORE, &no_core);
    redirect(arena_printf(a, "%s/server.err", dir));
    setenv("TMPDIR", dir, 1);
    void *state = b->open(a, tool);
    int32_t n;
    if (!socket_put(sock, tool, sizeof *tool)) give_up(NULL, 0, dir, sock, "what it is cannot be sent");
    if (!socket_get(sock, &n, sizeof n, -1)) give_up(NULL, 0, dir, sock, "the jobs");
    int32_t *todo = arena_array(a, (size_t)n, sizeof *todo);
    if (!socket_get(sock, todo, (size_t)n * sizeof *todo, -1)) give_up(NULL, 0, dir, sock, "the jobs");
    if (state) serve_jobs(b, state, a, jobs, todo, n, workers < n ? workers : n, dir, sock);
    end(dir, sock);
}

/* --- the caller --------------------------------------------------------------------------------------------------- */

/* The line of what a crashed compiler printed that says most. */
static const char *reason(Arena *a, const char *log) {
    const char *at = strstr(log, "LLVM ERROR");
    if (!at) at = strstr(log, "fatal error");
    if (!at) at = strstr(log, "Assertion");
    if (!at) at = log + strspn(log, "\n");
    return arena_strndup(a, at, strcspn(at, "\n"));
}

/* What the server says next, which it must before the time of a job and some patience are over; of that, what this program slept itself
 * (Ctrl-Z) is no part: it is counted by the second. */
static bool hear(const Server *s, void *to, size_t n) {
    struct pollfd p = {.fd = s->sock, .events = POLLIN};
    const double most = timeout() + rtc_patience();
    for (Stopwatch watch = {0}; stopwatch(&watch, 1) < most;) {
        int ready = poll(&p, 1, (int)(fmin(1, most - watch.ran) * 1000) + 1);
        if (ready > 0) return socket_get(s->sock, to, n, PATIENCE);
        if (ready < 0 && errno != EINTR) return false;
    }
    kill(s->pid, SIGKILL); /* what is stopped does not see that nobody hears it */
    return errno = ETIMEDOUT, false;
}

/* What the server printed; "" if nothing. */
static const char *printed(Arena *a, const Server *s) {
    Err none;
    size_t n;
    const char *all = file_read(a, arena_printf(a, "%s/server.err", s->dir), &n, &none);
    return reason(a, all ? all : "");
}

/* Why it was not heard, by errno. */
static const char *silence(Arena *a, const Server *s) {
    if (errno == ETIMEDOUT) return arena_printf(a, "it said nothing for %g s, and was killed", timeout() + rtc_patience());
    if (errno != EPIPE) return strerror(errno);
    const char *line = printed(a, s);
    return arena_printf(a, "it died%s%s", *line ? "; " : "", line);
}

static void close_server(Server *s) {
    int status;
    close(s->sock);
    rtc_wait(s->pid, rtc_patience(), &status);
    remove_tree(s->dir);
}

static bool open_server(Arena *a, RtcKind kind, RtcJob *jobs, int workers, Server *s, Err *e) {
    if (kind < 0 || kind >= RTC_KINDS) die("rtc: kind %d", (int)kind);
    s->tool = arena_alloc(a, sizeof *s->tool);
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp) tmp = "/tmp";
    char *dir = arena_printf(a, "%s/gptoss-XXXXXX", tmp);
    int ends[2];
    if (!mkdtemp(dir))
        return err_set(e, "cannot make a temporary directory in %s: %s (TMPDIR names another)", tmp, strerror(errno));
    s->dir = dir;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
        int why = errno;
        remove_tree(s->dir);
        return err_set(e, "cannot start a compiler: %s", strerror(why));
    }
    s->pid = fork();
    if (s->pid == 0) {
        close(ends[0]);
        serve(kind, jobs, workers, s->dir, ends[1]);
    }
    int why = errno;
    close(ends[1]);
    s->sock = ends[0];
    if (s->pid < 0) {
        close(s->sock);
        remove_tree(s->dir);
        return err_set(e, "cannot start a compiler: %s", strerror(why));
    }
    if (hear(s, s->tool, sizeof *s->tool)) {
        if (!*s->tool->err.msg) return true;
        *e = s->tool->err;
    } else if (errno != EPIPE) {
        err_set(e, "the %s compiler does not say what it is: %s", backends[kind]->what, silence(a, s));
    } else {
        const char *line = printed(a, s);
        err_set(e, "the %s compiler crashed while it was loaded%s%s", backends[kind]->what, *line ? "; " : "", line);
    }
    close_server(s);
    return false;
}

/* An arch may carry features: gfx90a:xnack-. */
static bool knows(RtcKind kind, const RtcTool *t, const char *arch, Err *e) {
    size_t n = strcspn(arch, ":");
    for (uint32_t i = 0; i < t->n_archs; i++)
        if (strlen(t->archs[i]) == n && !strncmp(t->archs[i], arch, n)) return true;
    const char *needs = backends[kind]->needs(arch);
    if (*needs)
        return err_set(e, "%s cannot compile for %s: it is too old; needs %s or later", t->name, arch,
                       needs);
    return err_set(e, "%s cannot compile for %s: it knows %s to %s", t->name, arch,
                   t->n_archs ? t->archs[0] : "nothing", t->n_archs ? t->archs[t->n_archs - 1] : "");
}

/* As rtc_probe. True: the server is open. */
static bool open_for(Arena *a, RtcKind kind, const char *arch, RtcJob *jobs, int workers, Server *s, const char **version, Err *e) {
    *version = "a compiler that does not start";
    if (!open_server(a, kind, jobs, workers, s, e)) {
        if (s->tool->absent) *version = NULL;
        return false;
    }
    *version = s->tool->version;
    return knows(kind, s->tool, arch, e) || (close_server(s), false);
}

bool rtc_probe(Arena *a, RtcKind kind, const char *arch, const char **version, Err *e) {
    Server s = {0};
    if (!open_for(a, kind, arch, NULL, 0, &s, version, e)) return false;
    close_server(&s);
    return true;
}

static bool same(const RtcJob *x, const RtcJob *y) {
    if (strcmp(x->name, y->name) || strcmp(x->arch, y->arch) || x->n_options != y->n_options) return false;
    for (int i = 0; i < x->n_options; i++)
        if (strcmp(x->options[i], y->options[i])) return false;
    return !strcmp(x->source, y->source);
}

/* The first job equal to job i; i itself mostly. */
static int first_like(const RtcJob *jobs, const RtcKey *keys, int i) {
    for (int k = 0; k < i; k++)
        if (keys[k].hi == keys[i].hi && keys[k].lo == keys[i].lo && same(&jobs[k], &jobs[i])) return k;
    return i;
}

static void copy_results(RtcJob *to, const RtcJob *from) {
    to->code = from->code, to->code_size = from->code_size, to->lines = from->lines;
    to->kernels = from->kernels, to->n_kernels = from->n_kernels;
    to->log = from->log, to->cached = from->cached, to->seconds = 0;
}

/* Takes over how a worker ended. On false e says it. */
static bool finish(Arena *a, const Server *s, RtcJob *job, const Done *d, Err *e) {
    Err ignored = {0}, unread = {0};
    size_t n = 0;
    const char *why = "", *out = NULL;
    job->seconds = d->seconds;
    if (d->status == -1) return err_set(e, "%s: cannot start a compiler: %s", job->name, strerror(d->error));
    if (d->error) return err_set(e, "%s: cannot write to %s: %s (TMPDIR names another folder)", job->name, s->dir, strerror(d->error));
    if (d->status == 0) out = file_read(a, arena_printf(a, "%s/%d.out", s->dir, d->job), &n, &unread);
    if (out && rtc_decode(a, out, n, job, &why)) {
        if (!*why) return true;
        return err_set(e, "%s: %s%s%.1600s", job->name, why, *job->log ? ":\n" : "", job->log);
    }
    char *said = file_read(a, arena_printf(a, "%s/%d.err", s->dir, d->job), &n, &ignored);
    job->log = said ? said : "";
    const char *line = *job->log ? reason(a, job->log) : unread.msg, *sep = *line ? "; " : "";
    if (d->timed_out) return err_set(e, "%s: the compiler did not end within %g s", job->name, timeout());
    if (WIFSIGNALED(d->status))
        return err_set(e, "%s: the compiler crashed (signal %d)%s%s", job->name, WTERMSIG(d->status), sep, line);
    return err_set(e, "%s: the compiler ended without a result (exit status %d)%s%s", job->name, WEXITSTATUS(d->status),
                   sep, line);
}

/* Longest source first: a long job that starts last would be waited for alone. Stable, so failures are too. */
static void sort_by_size(const RtcJob *jobs, int32_t *todo, int n) {
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && strlen(jobs[todo[k]].source) > strlen(jobs[todo[k - 1]].source); k--) {
            int32_t t = todo[k];
            todo[k] = todo[k - 1], todo[k - 1] = t;
        }
}

typedef struct Pass Pass; /* one call of rtc_compile */
struct Pass {
    Arena *a;
    RtcJob *jobs;
    const RtcOptions *o;
    const char *cache;   /* NULL: none */
    const char *include; /* a source with this is not kept */
    RtcKey *keys;
    int32_t *todo, *first; /* what to compile; for each job the first one equal to it */
    Err *errs;             /* of each job */
    int n, n_todo, done;
};

static void report(Pass *p, int i) {
    p->done++;
    if (p->o->progress) p->o->progress(p->o->ctx, p->done, p->n, p->jobs[i].name);
}

/* No job has a result yet. */
static void start_over(Pass *p) {
    p->n_todo = p->done = 0;
    for (int i = 0; i < p->n; i++) {
        RtcJob *j = &p->jobs[i];
        p->errs[i] = (Err){""};
        j->code = NULL, j->code_size = 0, j->lines = NULL, j->kernels = NULL, j->n_kernels = 0, j->cached = false, j->seconds = 0;
        j->log = arena_strdup(p->a, "");
    }
}

/* What this compiler has made before, and what it is to make. */
static void look_up(Pass *p, RtcKind kind, const RtcTool *tool) {
    for (int i = 0; i < p->n; i++) {
        RtcJob *job = &p->jobs[i];
        p->keys[i] = rtc_key(kind, tool, job);
        p->first[i] = first_like(p->jobs, p->keys, i);
        if (p->first[i] != i) continue; /* verdict() copies */
        if (!knows(kind, tool, job->arch, &p->errs[i])) {
            err_wrap(&p->errs[i], "%s", job->name);
            report(p, i);
            continue;
        }
        double t = seconds_now();
        if (p->cache && rtc_cache_get(p->a, p->cache, p->keys[i], job)) {
            job->cached = true;
            job->seconds = seconds_now() - t;
            report(p, i);
        } else {
            p->todo[p->n_todo++] = i;
        }
    }
    sort_by_size(p->jobs, p->todo, p->n_todo);
}

static void run(Pass *p, const Server *s) {
    int32_t n = p->n_todo;
    bool up = socket_put(s->sock, &n, sizeof n) && socket_put(s->sock, p->todo, (size_t)n * sizeof *p->todo);
    bool *heard = arena_array(p->a, (size_t)p->n, sizeof *heard); /* how this job ended */
    for (Done d; up && n > 0 && (up = hear(s, &d, sizeof d)); n--) {
        RtcJob *job = &p->jobs[d.job];
        heard[d.job] = true;
        bool ok = finish(p->a, s, job, &d, &p->errs[d.job]);
        /* an included file is not part of the key, so what includes one is not kept; cc's own headers come with cc. What has no kernels
         * helps nobody: if a fault made it, it is not to stay */
        if (ok && job->n_kernels && p->cache && !strstr(job->source, p->include) && !rtc_cache_put(p->a, p->cache, p->keys[d.job], job))
            p->cache = NULL;
        report(p, d.job);
    }
    const char *why = up ? "" : silence(p->a, s);
    for (int i = 0; i < p->n_todo; i++)
        if (!heard[p->todo[i]]) err_set(&p->errs[p->todo[i]], "%s: the compiler's server is gone: %s", p->jobs[p->todo[i]].name, why);
}

static bool verdict(Pass *p, Err *e) {
    int failed = 0, at = 0;
    for (int i = 0; i < p->n; i++) {
        int f = p->first[i];
        if (f != i) {
            copy_results(&p->jobs[i], &p->jobs[f]);
            report(p, i);
        } else if (*p->errs[i].msg && !failed++) {
            at = i;
        }
    }
    if (!failed) return true;
    *e = p->errs[at];
    return failed > 1 && err_add(e, "\n(and %d more failed)", failed - 1);
}

bool rtc_compile(Arena *a, RtcKind kind, RtcJob *jobs, int n, const RtcOptions *o, Err *e) {
    static const RtcOptions none;
    size_t room = (size_t)(n > 0 ? n : 0);
    Pass p = {.a = a, .jobs = jobs, .o = o ? o : &none, .n = n, .include = kind == RTC_HOST ? "#include \"" : "#include"};
    Server s = {0};
    Err ignored;
    const char *unasked, **version = p.o->version ? p.o->version : &unasked;
    if (n <= 0) return true;
    p.keys = arena_array(a, room, sizeof *p.keys);
    p.todo = arena_array(a, room, sizeof *p.todo);
    p.first = arena_array(a, room, sizeof *p.first);
    p.errs = arena_array(a, room, sizeof *p.errs);
    start_over(&p);
    if (!p.o->no_cache) p.cache = rtc_cache_open(a);
    const RtcTool *known = p.cache ? rtc_known_get(a, p.cache, backends[kind]) : NULL;
    if (known && !knows(kind, known, jobs[0].arch, &ignored)) known = NULL;
    if (known) look_up(&p, kind, known), *version = known->version;
    if (!known || p.n_todo) {
        if (!open_for(a, kind, jobs[0].arch, jobs, p.o->workers > 0 ? p.o->workers : cpu_count(), &s, version, e)) return false;
        if (!known || known->identity != s.tool->identity) { /* another than was known */
            start_over(&p);
            look_up(&p, kind, s.tool);
            if (p.cache) rtc_known_put(a, p.cache, backends[kind], s.tool);
        }
        run(&p, &s);
        close_server(&s);
    }
    return verdict(&p, e);
}
