/* shim.c - LD_PRELOAD: counts a program's calls of a class, and lets one of them fail.
 *
 *   FAULT_CALLS  classes, e.g. memory,read: see the table; unset: nothing is done
 *   FAULT_AT     which fails, from 1; 0 or unset: none
 *   FAULT_FOR    how many from there on: 1; a full disk stays full: 1000000000
 *   FAULT_KILL   a signal's number: instead the process gets it right before the call (9, 19: stopped until it gets SIGCONT)
 *   FAULT_PART   1: reading and writing takes a few bytes at a time, and each third call none, as a signal came first (EINTR)
 *   FAULT_COUNT  a file that gets the number of calls of each class when the process ends, a line each: NAME NUMBER
 *   FAULT_SAYS   a file that gets the name of the call that failed
 *   FAULT_STACKS a file that gets the numbers of the calls that are the first by their stack, a line each
 *
 * Only the processes that were started with a name that begins with gptoss- take part, and not those that they fork. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum Class { MEMORY, MAP, OPEN, READ, WRITE, SYNC, NAME, FORK, THREAD, CLASSES } Class;
static const struct {
    const char *name;
    int error;
} classes[CLASSES] = {
    [MEMORY] = {"memory", ENOMEM}, [MAP] = {"map", ENOMEM},   [OPEN] = {"open", EMFILE},
    [READ] = {"read", EIO},        [WRITE] = {"write", ENOSPC}, [SYNC] = {"sync", EIO},
    [NAME] = {"name", EIO},        [FORK] = {"fork", EAGAIN},  [THREAD] = {"thread", EAGAIN},
};

static bool on[CLASSES];
static long signal_sent;
static long at, last, calls, of_class[CLASSES]; /* at 0: none fails */
static const char *count_to, *says_to;

static void put(const char *path, const char *text) {
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    if (fd < 0) return;
    syscall(SYS_write, fd, text, strlen(text));
    syscall(SYS_close, fd);
}

/* --- stacks: a call that fails is met again wherever the same functions called each other --------------------------------------- */

static int stacks = -1; /* FAULT_STACKS */
static __thread bool looking; /* what looking at the stack calls itself is not counted */
static pthread_mutex_t stacks_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seen[1 << 17]; /* stacks */

static bool among(void *const *at, int n, const void *one) {
    for (int i = 0; i < n; i++)
        if (at[i] == one) return true;
    return false;
}

/* Each place once: however deep a recursion is, it is one stack. */
static uint64_t stack_hash(void) {
    void *at[128];
    uint64_t sum = 0;
    int n = backtrace(at, sizeof at / sizeof *at);
    for (int i = 3; i < n; i++) { /* without this, the next and the wrapper */
        uint64_t x = (uint64_t)(uintptr_t)at[i] * 0x9e3779b97f4a7c15u;
        if (!among(at, i, at[i])) sum += x ^ x >> 29;
    }
    return sum | 1;
}

static void note_stack(long n) {
    looking = true;
    uint64_t hash = stack_hash();
    size_t i = hash >> 20;
    pthread_mutex_lock(&stacks_lock);
    while (seen[i & (sizeof seen / sizeof *seen - 1)] && seen[i & (sizeof seen / sizeof *seen - 1)] != hash) i++;
    uint64_t *slot = &seen[i & (sizeof seen / sizeof *seen - 1)];
    char line[32];
    if (!*slot) syscall(SYS_write, stacks, line, snprintf(line, sizeof line, "%ld\n", n));
    *slot = hash;
    pthread_mutex_unlock(&stacks_lock);
    looking = false;
}

/* Is this call the one? */
static bool fails(Class c, const char *name) {
    if (!on[c] || looking) return false;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&of_class[c], 1, __ATOMIC_RELAXED);
    if (stacks >= 0) note_stack(n);
    if (!at || n < at || n > last) return false;
    if (n == at) put(says_to, name);
    if (signal_sent) return syscall(SYS_kill, syscall(SYS_getpid), signal_sent), false;
    errno = classes[c].error;
    return true;
}

static bool parts; /* FAULT_PART */

/* How many of *n bytes this call may take; false: it was interrupted. */
static bool part(size_t *n) {
    static __thread unsigned turn;
    if (!parts || !*n) return true;
    if (++turn % 3 == 0) return errno = EINTR, false;
    size_t most = 1 + turn * 7 % 13;
    if (*n > most) *n = most;
    return true;
}

static void in_child(void) { memset(on, 0, sizeof on), count_to = NULL, stacks = -1; }

/* The first look loads what looks. */
static void open_stacks(const char *path) {
    void *one[1];
    if (!path) return;
    looking = true;
    backtrace(one, 1);
    looking = false;
    stacks = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static long number(const char *name, long otherwise) {
    const char *v = getenv(name);
    return v ? atol(v) : otherwise;
}

__attribute__((constructor)) static void begin(void) {
    const char *which = getenv("FAULT_CALLS");
    if (strncmp(program_invocation_short_name, "gptoss-", 7)) return;
    parts = number("FAULT_PART", 0);
    if (!which) return;
    at = number("FAULT_AT", 0), last = at + number("FAULT_FOR", 1) - 1;
    signal_sent = number("FAULT_KILL", 0);
    count_to = getenv("FAULT_COUNT"), says_to = getenv("FAULT_SAYS");
    open_stacks(getenv("FAULT_STACKS"));
    pthread_atfork(NULL, NULL, in_child);
    for (int c = 0; c < CLASSES; c++) {
        char list[128], name[32];
        snprintf(list, sizeof list, ",%s,", which), snprintf(name, sizeof name, ",%s,", classes[c].name);
        on[c] = strstr(list, name) || !strcmp(which, "all");
    }
}

__attribute__((destructor)) static void end(void) {
    char text[CLASSES * 32];
    size_t n = 0;
    memset(on, 0, sizeof on);
    for (int c = 0; c < CLASSES; c++) n += (size_t)snprintf(text + n, sizeof text - n, "%s %ld\n", classes[c].name, of_class[c]);
    put(count_to, text);
}

/* --- memory: glibc's own names, as dlsym itself allocates --------------------------------------------------------------------- */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n) { return fails(MEMORY, "malloc") ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails(MEMORY, "calloc") ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails(MEMORY, "realloc") ? NULL : __libc_realloc(p, n); }
void *memalign(size_t align, size_t n) { return fails(MEMORY, "memalign") ? NULL : __libc_memalign(align, n); }
void *aligned_alloc(size_t align, size_t n) { return fails(MEMORY, "aligned_alloc") ? NULL : __libc_memalign(align, n); }
int posix_memalign(void **p, size_t align, size_t n) {
    if (fails(MEMORY, "posix_memalign")) return ENOMEM;
    return (*p = __libc_memalign(align, n)) ? 0 : ENOMEM;
}

/* --- the rest ------------------------------------------------------------------------------------------------------------------ */

#define NEXT(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))
#define WRAP_IF(fine, class, result, name, failed, params, args)                                                                       \
    result name params {                                                                                                               \
        static __typeof__(&name) next;                                                                                                 \
        if (!next) next = NEXT(name);                                                                                                  \
        if (fails(class, #name) || !(fine)) return failed;                                                                             \
        return next args;                                                                                                              \
    }
#define WRAP(class, result, name, failed, params, args) WRAP_IF(true, class, result, name, failed, params, args)
#define WRAP_PART(class, name, params, args) WRAP_IF(part(&n), class, ssize_t, name, -1, params, args) /* of n bytes */

WRAP(MAP, void *, mmap, MAP_FAILED, (void *a, size_t n, int prot, int flags, int fd, off_t off), (a, n, prot, flags, fd, off))
WRAP(OPEN, FILE *, fopen, NULL, (const char *path, const char *mode), (path, mode))
WRAP(OPEN, FILE *, fdopen, NULL, (int fd, const char *mode), (fd, mode))
WRAP(OPEN, FILE *, tmpfile, NULL, (void), ())
WRAP(OPEN, DIR *, opendir, NULL, (const char *path), (path))
WRAP(OPEN, int, pipe, -1, (int fd[2]), (fd))
WRAP(OPEN, int, pipe2, -1, (int fd[2], int flags), (fd, flags))
WRAP(OPEN, int, socketpair, -1, (int domain, int type, int protocol, int fd[2]), (domain, type, protocol, fd))
WRAP(OPEN, int, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
WRAP(MAP, int, mprotect, -1, (void *a, size_t n, int prot), (a, n, prot))
WRAP_PART(READ, read, (int fd, void *to, size_t n), (fd, to, n))
WRAP_PART(READ, pread, (int fd, void *to, size_t n, off_t off), (fd, to, n, off))
WRAP(READ, int, poll, -1, (struct pollfd * p, nfds_t n, int ms), (p, n, ms))
WRAP(READ, int, stat, -1, (const char *path, struct stat *st), (path, st))
WRAP(READ, int, lstat, -1, (const char *path, struct stat *st), (path, st))
WRAP(READ, struct dirent *, readdir, NULL, (DIR *d), (d))
WRAP(READ, int, fstat, -1, (int fd, struct stat *st), (fd, st))
WRAP(READ, char *, realpath, NULL, (const char *path, char *to), (path, to))
WRAP_PART(WRITE, write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP_PART(WRITE, pwrite, (int fd, const void *from, size_t n, off_t off), (fd, from, n, off))
WRAP_PART(WRITE, send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))
WRAP(WRITE, int, ftruncate, -1, (int fd, off_t n), (fd, n))
WRAP(SYNC, int, fsync, -1, (int fd), (fd))
WRAP(SYNC, int, fdatasync, -1, (int fd), (fd))
WRAP(NAME, int, rename, -1, (const char *a, const char *b), (a, b))
WRAP(NAME, int, renameat2, -1, (int da, const char *a, int db, const char *b, unsigned flags), (da, a, db, b, flags))
WRAP(NAME, int, linkat, -1, (int da, const char *a, int db, const char *b, int flags), (da, a, db, b, flags))
WRAP(NAME, int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
WRAP(FORK, pid_t, fork, -1, (void), ())
WRAP(THREAD, int, pthread_create, EAGAIN, (pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg), (t, a, f, arg))

int open(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = va_arg(ap, mode_t);
    va_end(ap);
    return fails(OPEN, "open") ? -1 : NEXT(open)(path, flags, mode);
}

/* What a fortified build calls instead (-D_FORTIFY_SOURCE: docs/testing.md). The size that is checked is theirs to check. */
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __pread_chk(int, void *, size_t, off_t, size_t);
size_t __fread_chk(void *, size_t, size_t, size_t, FILE *);
char *__realpath_chk(const char *, char *, size_t);
int __open_2(const char *, int);
WRAP_PART(READ, __read_chk, (int fd, void *to, size_t n, size_t room), (fd, to, n, room))
WRAP_PART(READ, __pread_chk, (int fd, void *to, size_t n, off_t off, size_t room), (fd, to, n, off, room))
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
WRAP(READ, int, __poll_chk, -1, (struct pollfd * p, nfds_t n, int ms, size_t room), (p, n, ms, room))
WRAP(READ, char *, __realpath_chk, NULL, (const char *path, char *to, size_t room), (path, to, room))
WRAP(OPEN, int, __open_2, -1, (const char *path, int flags), (path, flags))

/* stdio's own reads and writes do not come by the names above. A failure leaves the stream's error set, as theirs does. */
static int spoil(FILE *f) {
    if (f) f->_flags |= 0x20; /* _IO_ERR_SEEN */
    return EOF;
}
WRAP(READ, size_t, fread, (size_t)(spoil(f) + 1), (void *to, size_t size, size_t n, FILE *f), (to, size, n, f))
WRAP(READ, size_t, __fread_chk, (size_t)(spoil(f) + 1), (void *to, size_t room, size_t size, size_t n, FILE *f), (to, room, size, n, f))
WRAP(WRITE, size_t, fwrite, (size_t)(spoil(f) + 1), (const void *from, size_t size, size_t n, FILE *f), (from, size, n, f))
WRAP(WRITE, int, fflush, spoil(f), (FILE *f), (f))
WRAP(WRITE, int, fputs, spoil(f), (const char *s, FILE *f), (s, f))
WRAP(WRITE, int, fputc, spoil(f), (int c, FILE *f), (c, f))
WRAP(READ, ssize_t, getline, spoil(f), (char **line, size_t *n, FILE *f), (line, n, f))

/* The file is closed all the same. */
int fclose(FILE *f) {
    bool failed = fails(WRITE, "fclose");
    int error = errno, result = NEXT(fclose)(f);
    if (failed) errno = error;
    return failed ? EOF : result;
}
