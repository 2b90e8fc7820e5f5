/* driver.c - runs a fuzzer where there is no libFuzzer: replays inputs, then mutates them.
 *
 *   fuzz_NAME [-n N] [-t SECONDS] [-s SEED] [-d DICTIONARY] [-o CRASH_FILE] FILE|FOLDER…
 *
 * Every file is an input; N more are made of them, the same ones for the same seed, or as many as SECONDS (of the clock) allow.
 * An input that crashes, ends the program, or takes more than 10 s of CPU time is left in CRASH_FILE, and is a failure. Prints
 * how many ran, and every few seconds a line "#N" on stderr, for who reads the log of one that was killed. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#pragma weak LLVMFuzzerInitialize
#pragma weak LLVMFuzzerCustomMutator

enum { LONGEST = 1 << 20, MAX_SECONDS = 10, SAY_SECONDS = 5 };

typedef struct Input Input;
struct Input {
    uint8_t *at;
    size_t n;
};
typedef struct Inputs Inputs;
struct Inputs {
    Input *at;
    size_t n, cap;
};

static Arena *arena;
static Inputs seeds, words;
static uint64_t rng;
static const char *crash_file = "crash";
static const uint8_t *now_at; /* the input that runs: NULL between inputs */
static size_t now_n;
static unsigned long long n_run;
static volatile sig_atomic_t seconds_of_it; /* CPU time of the input that runs */

static uint64_t draw(uint64_t below) { /* splitmix64 */
    uint64_t z = rng += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return below ? z % below : 0;
}

/* --- what an input does ------------------------------------------------------------------------------------------- */

static void save(void) {
    int fd = open(crash_file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0 && write(fd, now_at, now_n) == (ssize_t)now_n) close(fd);
    dprintf(STDERR_FILENO, "#%llu\n", n_run);
}
static void on_signal(int sig) {
    if (now_at) save();
    signal(sig, SIG_DFL);
    raise(sig);
}
static void on_second(int sig) {
    if (++seconds_of_it > MAX_SECONDS) on_signal(sig);
}
static void on_exit_(void) {
    if (!now_at) return;
    save();
    fputs("the program ended\n", stderr);
    _exit(1);
}

static void run(const uint8_t *bytes, size_t n) {
    uint8_t *copy = malloc(n ? n : 1); /* so that reading past the end is seen by tools */
    if (!copy) abort();
    memcpy(copy, bytes, n);
    now_at = copy, now_n = n;
    seconds_of_it = 0;
    LLVMFuzzerTestOneInput(copy, n);
    now_at = NULL;
    n_run++;
    free(copy);
}

/* --- mutation ----------------------------------------------------------------------------------------------------- */

static const uint64_t edges[] = {0,
                                 1,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 0x7fffffffffffffff,
                                 0x8000000000000000,
                                 0xffffffffffffffff,
                                 0xfffffffffffffff8};

static size_t insert(uint8_t *d, size_t n, size_t max, const uint8_t *from, size_t k) {
    size_t at = draw(n + 1);
    if (k > max - n) return n;
    memmove(d + at + k, d + at, n - at);
    memcpy(d + at, from, k);
    return n + k;
}

static size_t change(uint8_t *d, size_t n, size_t max) {
    uint64_t v = edges[draw(LEN(edges))];
    size_t w = 1u << draw(4), at = n ? draw(n) : 0;
    switch (draw(n ? 8 : 2)) {
    case 0:
        if (words.n) {
            const Input *k = &words.at[draw(words.n)];
            return insert(d, n, max, k->at, k->n);
        } /* fallthrough */
    case 1: {
        uint8_t b = (uint8_t)draw(256);
        return insert(d, n, max, &b, 1);
    }
    case 2: d[at] ^= (uint8_t)(1u << draw(8)); return n;
    case 3: d[at] = (uint8_t)draw(256); return n;
    case 4: memcpy(d + at, &v, w < n - at ? w : n - at); return n;
    case 5: { /* a part goes */
        size_t k = 1 + draw(n - at < 64 ? n - at : 64);
        memmove(d + at, d + at + k, n - at - k);
        return n - k;
    }
    case 6: { /* a part again, elsewhere */
        size_t k = 1 + draw(n - at < 64 ? n - at : 64);
        uint8_t part[64];
        memcpy(part, d + at, k);
        return insert(d, n, max, part, k);
    }
    default: { /* a part of another seed */
        const Input *s = &seeds.at[draw(seeds.n)];
        size_t from = s->n ? draw(s->n) : 0, k = s->n ? draw(s->n - from < 256 ? s->n - from : 256) : 0;
        return insert(d, n, max, s->at + from, k);
    }
    }
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max) {
    for (uint64_t k = 1 + draw(4); k; k--) n = change(data, n, max);
    return n;
}

static void run_mutated(uint8_t *room) {
    const Input *s = &seeds.at[draw(seeds.n)];
    size_t n = s->n < LONGEST ? s->n : LONGEST;
    memcpy(room, s->at, n);
    if (LLVMFuzzerCustomMutator) n = LLVMFuzzerCustomMutator(room, n, LONGEST, (unsigned)draw(0x7fffffff));
    else n = LLVMFuzzerMutate(room, n, LONGEST);
    run(room, n);
}

/* Returns how many were tried. */
static uint64_t run_many(uint64_t most, double seconds) {
    uint8_t *room = arena_alloc(arena, LONGEST);
    double end = seconds_now() + seconds, say = 0;
    uint64_t i = 0;
    for (; i < most; i++) {
        double now = seconds_now();
        if (now > end) break;
        if (now > say) say = now + SAY_SECONDS, fprintf(stderr, "#%llu\n", n_run);
        run_mutated(room);
    }
    return i;
}

/* --- inputs ------------------------------------------------------------------------------------------------------- */

static void add_file(const char *path) {
    Err e;
    Input s;
    s.at = (uint8_t *)file_read(arena, path, &s.n, &e);
    if (!s.at) fprintf(stderr, "%s\n", e.msg), exit(2);
    PUSH(arena, seeds, s);
}

static void add_path(const char *path) {
    struct dirent **list;
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        add_file(path);
        return;
    }
    int n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') add_path(arena_printf(arena, "%s/%s", path, list[i]->d_name));
        free(list[i]);
    }
    if (n >= 0) free(list);
}

/* libFuzzer's form: name="value" a line, with \\, \" and \xHH. */
static void read_dictionary(const char *path) {
    Err e;
    char *text = file_read(arena, path, NULL, &e), *line;
    if (!text) fprintf(stderr, "%s\n", e.msg), exit(2);
    while ((line = strsep(&text, "\n"))) {
        char *s = strchr(line, '"');
        Input w = {arena_alloc(arena, strlen(line) + 1), 0};
        if (*line == '#' || !s) continue;
        for (s++; *s && *s != '"'; s++) {
            unsigned hex;
            if (*s == '\\' && s[1] == 'x' && sscanf(s + 2, "%2x", &hex) == 1) w.at[w.n++] = (uint8_t)hex, s += 3;
            else w.at[w.n++] = (uint8_t)(*s == '\\' && s[1] ? *++s : *s);
        }
        PUSH(arena, words, w);
    }
}

int main(int argc, char **argv) {
    static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};
    const struct itimerval second = {{1, 0}, {1, 0}};
    uint64_t n = 0;
    double seconds = 1e9;
    arena = arena_new();
    for (int c; (c = getopt(argc, argv, "n:t:s:d:o:")) >= 0;) {
        if (c == 'n') n = strtoull(optarg, NULL, 0);
        else if (c == 't') seconds = strtod(optarg, NULL);
        else if (c == 's') rng = strtoull(optarg, NULL, 0);
        else if (c == 'd') read_dictionary(optarg);
        else if (c == 'o') crash_file = optarg;
        else return 2;
    }
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    for (int i = optind; i < argc; i++) add_path(argv[i]);
    if (!seeds.n) PUSH(arena, seeds, ((Input){arena_alloc(arena, 1), 0}));
    for (size_t i = 0; i < LEN(crashes); i++) signal(crashes[i], on_signal);
    signal(SIGPROF, on_second);
    setitimer(ITIMER_PROF, &second, NULL); /* once: a system call is dear where others are watched */
    mallopt(M_MMAP_THRESHOLD, 4 << 20), mallopt(M_TRIM_THRESHOLD, 256 << 20);
    atexit(on_exit_);
    for (size_t i = 0; i < seeds.n; i++) run(seeds.at[i].at, seeds.at[i].n);
    n = run_many(n, seconds);
    fprintf(stderr, "#%llu\n", n_run);
    printf("%zu inputs, %llu mutated\n", seeds.n, (unsigned long long)n);
    arena_free(arena);
    return 0;
}
