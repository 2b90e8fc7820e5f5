/* rtc_host.c - the system's C compiler: C source to a shared object for this CPU. See rtc.h, rtc_internal.h.
 *
 * What the CPU has is a list of words, "x86_64 avx2 fma …", as /proc/cpuinfo says them; each word allows the compiler its
 * instructions. A job's arch is "host:" and that list, so the list is part of the cache's key and of the plan (target_id).
 * Add a feature that templates/arch/host.h looks for: a row of `features`. */
#include "rtc_internal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORDS = 64 };

/* --- features ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *option; /* in /proc/cpuinfo; of gcc and clang */
} features[] = {
    {"popcnt", "-mpopcnt"},        {"f16c", "-mf16c"},           {"fma", "-mfma"},           {"bmi1", "-mbmi"},
    {"bmi2", "-mbmi2"},            {"avx2", "-mavx2"},           {"avx512f", "-mavx512f"},   {"avx512cd", "-mavx512cd"},
    {"avx512bw", "-mavx512bw"},    {"avx512dq", "-mavx512dq"},   {"avx512vl", "-mavx512vl"}, {"avx512_bf16", "-mavx512bf16"},
    {"amx_tile", "-mamx-tile"},    {"amx_bf16", "-mamx-bf16"},
};

/* Is `word` one of the words of list? Words are separated by spaces or commas. */
static bool has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || strchr(" ,\t:", p[-1])) && strchr(" ,\n", p[n])) return true;
    return false;
}

/* The kernel gives a process its tile registers only when asked. */
static bool may_use_tiles(void) {
#if defined __x86_64__ && defined SYS_arch_prctl
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

/* The line of /proc/cpuinfo that lists what the CPU has; "" when there is none. NULL: it cannot be read, which is not to be taken for a
 * CPU that has nothing. */
static const char *cpu_flags(Arena *a, Err *e) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char *line = NULL, *found = "";
    size_t size = 0;
    if (!f && errno == ENOENT) return "";
    while (f && !*found && getline(&line, &size, f) > 0)
        if (!strncmp(line, "flags", 5) || !strncmp(line, "Features", 8)) found = arena_strdup(a, line);
    bool lost = !f || (!*found && !feof(f));
    if (lost) err_set(e, "/proc/cpuinfo: %s", strerror(errno));
    free(line);
    if (f) fclose(f);
    return lost ? NULL : found;
}

static bool here(const char *flags, const char *name) {
    const char *only = getenv("GPTOSS_HOST_FEATURES"); /* for tests and for code that other machines run too */
    if (only && !has_word(only, name)) return false;
    return has_word(flags, name) && (strncmp(name, "amx", 3) || may_use_tiles());
}

static const char *machine(Arena *a, Err *e) {
    struct utsname u;
    if (uname(&u)) return err_set(e, "the machine's name: %s", strerror(errno)), NULL;
    return arena_strdup(a, u.machine);
}

/* --- the compiler ------------------------------------------------------------------------------------------------ */

typedef struct Cc Cc;
struct Cc {
    const char *argv[MAX_WORDS]; /* "ccache gcc" is two */
    int n;
};

static bool in_path(Arena *a, const char *name) {
    const char *path = getenv("PATH");
    if (strchr(name, '/')) return !access(name, X_OK);
    while (path && *path) {
        size_t n = strcspn(path, ":");
        if (!access(arena_printf(a, "%.*s/%s", (int)n, path, name), X_OK)) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static bool find_cc(Arena *a, Cc *cc, Err *e) {
    static const char *const names[] = {"cc", "gcc", "clang"};
    const char *own = getenv("CC");
    cc->n = 0;
    if (own && *own) {
        char *words = arena_strdup(a, own);
        for (char *w = strtok(words, " "); w && cc->n < 16; w = strtok(NULL, " ")) cc->argv[cc->n++] = w;
        if (cc->n && in_path(a, cc->argv[0])) return true;
        return err_set(e, "CC is \"%s\", which is not there; unset it or install it", own);
    }
    for (size_t i = 0; i < LEN(names); i++)
        if (in_path(a, names[i])) return cc->argv[cc->n++] = names[i], true;
    return err_set(e, "no C compiler found (neither $CC nor cc, gcc, clang in PATH); install gcc or clang");
}

/* In the child, which ends when its parent does. `failed` gets errno where it cannot become cc. */
static NORETURN void become(const Cc *cc, pid_t parent, int in, int out, int err, bool own_group, int failed) {
    end_with(parent, SIGKILL);
    if (own_group) setpgid(0, 0);
    if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0) execvp(cc->argv[0], (char *const *)cc->argv);
    int why = errno;
    write_all(failed, &why, sizeof why, -1);
    _exit(127);
}

/* Starts it in this process's group, or in one of its own. -1: errno says why. */
static pid_t start(const Cc *cc, int in, int out, int err, bool own_group) {
    int ends[2], why = 0;
    ssize_t n = 0;
    pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC)) return -1;
    pid_t pid = fork();
    if (!pid) become(cc, self, in, out, err, own_group, ends[1]);
    if (pid < 0) why = errno;
    close(ends[1]);
    while (pid > 0 && (n = read(ends[0], &why, sizeof why)) < 0 && errno == EINTR) {}
    close(ends[0]);
    if (n == sizeof why) waitpid(pid, NULL, 0), pid = -1;
    return errno = why, pid;
}

/* Runs it, its standard input, output and error as given. A question must be answered soon: nobody waits for it with a limit of his own.
 * Its exit status; -1: there is none, e says why. */
static int run_cc(const Cc *cc, int in, int out, int err, bool question, Err *e) {
    int status, rc;
    pid_t pid = start(cc, in, out, err, question);
    if (pid < 0) return err_set(e, "cannot run %s: %s", cc->argv[0], strerror(errno)), -1;
    if (!rtc_wait(pid, question ? rtc_patience() : INFINITY, &status)) {
        if (errno == ETIMEDOUT) return err_set(e, "%s did not answer within %g s", cc->argv[0], rtc_patience()), -1;
        return err_set(e, "%s cannot be waited for: %s", cc->argv[0], strerror(errno)), -1;
    }
    rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (rc > 128 && rc <= 128 + SIGRTMAX) return err_set(e, "%s was ended by signal %d", cc->argv[0], rc - 128), -1; /* a shell says so of what it ran */
    return rc;
}

static void add(Cc *cc, const char *word) {
    if (cc->n + 1 >= MAX_WORDS) die("rtc_host: too many options");
    cc->argv[cc->n++] = word;
    cc->argv[cc->n] = NULL;
}

static void add_features(Cc *cc, const char *target) {
    for (size_t i = 0; i < LEN(features); i++)
        if (has_word(target, features[i].name)) add(cc, features[i].option);
}

/* Does the compiler know the options of this list? An old one does not know a new CPU's. -1: it cannot be asked, e says why. It is
 * asked again before a no is believed: gcc fails in the same way when the compiler proper, its child, is killed. */
static int cc_knows(const Cc *base, const char *target, Err *e) {
    Cc cc = *base;
    int rc = 1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return err_set(e, "/dev/null: %s", strerror(errno)), -1;
    add_features(&cc, target);
    add(&cc, "-fsyntax-only"), add(&cc, "-x"), add(&cc, "c"), add(&cc, "-");
    for (int i = 0; i < 2 && rc > 0; i++) rc = run_cc(&cc, null, null, null, true, e);
    close(null);
    return rc < 0 ? -1 : rc == 0;
}

/* --- rtc.h ------------------------------------------------------------------------------------------------------- */

const char *rtc_host_target(Arena *a, Err *e) {
    const char *flags = cpu_flags(a, e), *name = flags ? machine(a, e) : NULL, *shorter[LEN(features) + 1];
    size_t n = 1;
    int knows = 0;
    Cc cc;
    Err none;
    if (!name) return NULL;
    const char *all = shorter[0] = arena_printf(a, "host:%s", name);
    for (size_t i = 0; i < LEN(features); i++)
        if (here(flags, features[i].name)) shorter[n++] = all = arena_printf(a, "%s %s", all, features[i].name);
    if (!find_cc(a, &cc, &none)) return all;
    while (n > 1 && !(knows = cc_knows(&cc, shorter[n - 1], e))) n--; /* the newest last */
    if (knows < 0) return err_wrap(e, "what the C compiler knows cannot be asked"), NULL;
    return shorter[n - 1];
}

const char *rtc_host_lacks(Arena *a, const char *target, Err *e) {
    const char *flags = cpu_flags(a, e), *name = flags ? machine(a, e) : NULL, *lacks = "";
    if (!name) return NULL;
    if (strncmp(target, "host:", 5)) return target;
    char *list = arena_strdup(a, target + 5), *w = strtok(list, " ");
    if (!w || strcmp(w, name)) return w ? w : "a CPU";
    while ((w = strtok(NULL, " ")))
        if (!here(flags, w)) lacks = arena_printf(a, "%s%s%s", lacks, *lacks ? " " : "", w);
    return lacks;
}

/* --- the backend ------------------------------------------------------------------------------------------------- */

static const char *const variables[] = {"C_INCLUDE_PATH", "CPATH", NULL};

static void identify(Arena *a, const Cc *cc, const char *version, RtcTool *tool) {
    const char *path = getenv("PATH");
    Text t = {0};
    for (int i = 0; i < cc->n; i++) text_add(&t, "%s\n", cc->argv[i]);
    text_add(&t, "%s\n", version);
    const char *file = strchr(cc->argv[0], '/') ? cc->argv[0] : "";
    while (path && *path && !*file) { /* the file found first */
        size_t n = strcspn(path, ":");
        const char *found = arena_printf(a, "%.*s/%s", (int)n, path, cc->argv[0]);
        if (!access(found, F_OK)) file = found;
        path += n + (path[n] == ':');
    }
    snprintf(tool->files, sizeof tool->files, "%s", strlen(file) < sizeof tool->files ? file : "");
    rtc_stamp_each(a, &t, file, "\n", "");
    rtc_variables(&t, variables);
    tool->identity = hash64(t.at, t.n);
    text_free(&t);
}

typedef struct Scratch Scratch;
struct Scratch {
    FILE *f; /* NULL: there is none */
    const char *path;
};

static bool scratch_open(Arena *a, const char *name, Scratch *s, Err *e) {
    const char *tmp = getenv("TMPDIR"); /* the server's own */
    s->path = arena_printf(a, "%s/%d.%s", tmp ? tmp : "/tmp", (int)getpid(), name);
    s->f = fopen(s->path, "wb+");
    return s->f || err_set(e, "%s: %s", s->path, strerror(errno));
}

/* What cc printed to it. */
static char *scratch_text(Arena *a, const Scratch *s) {
    Err none;
    char *text = s->f ? file_read(a, s->path, NULL, &none) : NULL;
    return text ? text : arena_strdup(a, "");
}

static void scratch_close(Scratch *s) {
    if (s->f) fclose(s->f), unlink(s->path);
}

/* The first line of cc --version; NULL on error. */
static char *version_of(Arena *a, const Cc *cc, Err *e) {
    Cc ask = *cc;
    Scratch s = {0};
    char *version = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), rc = -1;
    add(&ask, "--version");
    if (null < 0) err_set(e, "/dev/null: %s", strerror(errno));
    else if (scratch_open(a, "version", &s, e)) rc = run_cc(&ask, null, fileno(s.f), null, true, e);
    if (rc > 0) err_set(e, "%s --version fails (exit status %d)", cc->argv[0], rc);
    if (!rc) {
        version = scratch_text(a, &s);
        version[strcspn(version, "\n")] = 0;
        if (!*version) err_set(e, "%s --version prints nothing, or it cannot be read", cc->argv[0]), version = NULL;
    }
    if (null >= 0) close(null);
    scratch_close(&s);
    return version;
}

static void *host_open(Arena *a, RtcTool *tool) {
    Cc *cc = arena_alloc(a, sizeof *cc);
    if (!find_cc(a, cc, &tool->err)) return tool->absent = true, NULL;
    const char *version = version_of(a, cc, &tool->err);
    if (!version) return NULL;
    snprintf(tool->name, sizeof tool->name, "%.31s", cc->argv[0]);
    snprintf(tool->version, sizeof tool->version, "%.127s", version);
    identify(a, cc, version, tool);
    tool->n_archs = 1;
    snprintf(tool->archs[0], sizeof tool->archs[0], "host");
    return cc;
}

/* The functions that a shared object exports; false when it is none of this machine's form. */
static bool read_symbols(Arena *a, RtcJob *job) {
    const char *code = job->code;
    const Elf64_Ehdr *h = (const void *)code;
    if (job->code_size < sizeof *h || memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64) return false;
    if (h->e_shoff > job->code_size || (size_t)h->e_shnum * sizeof(Elf64_Shdr) > job->code_size - h->e_shoff) return false;
    const Elf64_Shdr *s = (const void *)(code + h->e_shoff);
    for (int i = 0; i < h->e_shnum; i++) {
        if (s[i].sh_type != SHT_DYNSYM || s[i].sh_link >= h->e_shnum) continue;
        const Elf64_Sym *sym = (const void *)(code + s[i].sh_offset);
        const char *names = code + s[s[i].sh_link].sh_offset;
        size_t n = s[i].sh_size / sizeof *sym;
        job->kernels = arena_array(a, n + 1, sizeof *job->kernels);
        for (size_t k = 0; k < n; k++) {
            if (ELF64_ST_TYPE(sym[k].st_info) != STT_FUNC || sym[k].st_shndx == SHN_UNDEF) continue;
            RtcKernel *r = &job->kernels[job->n_kernels++];
            snprintf(r->symbol, sizeof r->symbol, "%s", names + sym[k].st_name);
            r->code_bytes = (uint32_t)sym[k].st_size;
        }
    }
    return true;
}

/* The text on standard input keeps temporary names out of the result. */
static bool compile_to(const Cc *self, RtcJob *job, const Scratch *source, const Scratch *log, const char *so, Err *e) {
    Cc cc = *self;
    if (fprintf(source->f, "#line 1 \"%s\"\n%s", job->name, job->source) < 0 || fflush(source->f) || fseek(source->f, 0, SEEK_SET))
        return err_set(e, "%s: %s", source->path, strerror(errno));
    add(&cc, "-std=gnu11"), add(&cc, "-shared"), add(&cc, "-fPIC"), add(&cc, "-fvisibility=hidden"), add(&cc, "-nostartfiles");
    add(&cc, "-Wno-psabi"), add(&cc, "-Wl,--build-id=none"), add(&cc, "-s");
    add_features(&cc, job->arch);
    for (int i = 0; i < job->n_options; i++) add(&cc, job->options[i]);
    add(&cc, "-x"), add(&cc, "c"), add(&cc, "-"), add(&cc, "-lm"), add(&cc, "-o"), add(&cc, so);
    int rc = run_cc(&cc, fileno(source->f), fileno(log->f), fileno(log->f), false, e);
    if (rc > 0) err_set(e, "does not compile (%s, exit status %d)", cc.argv[0], rc);
    return !rc;
}

static bool host_compile(void *self, Arena *a, RtcJob *job, Err *e) {
    const Cc *cc = self;
    Scratch source = {0}, log = {0}, so = {0};
    bool ok = scratch_open(a, "c", &source, e) && scratch_open(a, "log", &log, e) && scratch_open(a, "so", &so, e) &&
              compile_to(cc, job, &source, &log, so.path, e);
    job->log = scratch_text(a, &log);
    if (ok) ok = (job->code = file_read(a, so.path, &job->code_size, e)) && (read_symbols(a, job) || err_set(e, "%s gave no 64-bit ELF file", cc->argv[0]));
    scratch_close(&source), scratch_close(&log), scratch_close(&so);
    return ok;
}

static const char *host_needs(const char *arch) { return (void)arch, ""; }

const RtcBackend rtc_host = {"host", variables, host_open, host_compile, host_needs};
