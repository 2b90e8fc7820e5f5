/* mapped.c - map a file, and end with its name when it goes from under us. See mapped.h. */
#include "mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- the mappings, as the signal handler sees them ----------------------------------------------------------------- */

typedef struct Mapping Mapping; /* never freed, for the handler may be walking the list; used again */
struct Mapping {
    uintptr_t lo, hi; /* hi 0: free */
    char *message;    /* whole: the handler only writes it */
    size_t length;
    Mapping *next;
};

static Mapping *mappings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of writers */
static struct sigaction before;

static const Mapping *mapping_of(uintptr_t at) {
    const Mapping *m = __atomic_load_n(&mappings, __ATOMIC_ACQUIRE);
    for (; m; m = m->next)
        if (at >= __atomic_load_n(&m->lo, __ATOMIC_ACQUIRE) && at < __atomic_load_n(&m->hi, __ATOMIC_ACQUIRE)) return m;
    return NULL;
}

/* Only what is safe in a signal handler. */
static void on_bus(int sig, siginfo_t *info, void *context) {
    (void)context;
    const Mapping *m = info->si_code > 0 ? mapping_of((uintptr_t)info->si_addr) : NULL;
    if (m) {
        ssize_t ignored = write(STDERR_FILENO, m->message, m->length);
        (void)ignored;
        _exit(1);
    }
    sigaction(sig, &before, NULL); /* not ours: as if we were not here */
    if (info->si_code <= 0) raise(sig);
}

static bool remember(const void *at, size_t size, const char *path) {
    static bool handled;
    Text said = {0};
    text_add(&said, "gptoss: %s: the file became shorter while it was in use, or its disk cannot be read: stopped\n",
             path);
    Mapping *m;
    pthread_mutex_lock(&lock);
    for (m = mappings; m && m->hi; m = m->next) {}
    bool fresh = !m;
    if (fresh && (m = calloc(1, sizeof *m))) m->next = mappings;
    if (m) {
        free(m->message);
        m->message = said.at, m->length = said.n;
        __atomic_store_n(&m->lo, (uintptr_t)at, __ATOMIC_RELEASE);
        __atomic_store_n(&m->hi, (uintptr_t)at + size, __ATOMIC_RELEASE);
        if (fresh) __atomic_store_n(&mappings, m, __ATOMIC_RELEASE);
        const struct sigaction act = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
        if (!handled) handled = !sigaction(SIGBUS, &act, &before);
    }
    pthread_mutex_unlock(&lock);
    if (!m) text_free(&said);
    return m;
}

static void forget(const void *at) {
    pthread_mutex_lock(&lock);
    for (Mapping *m = mappings; m; m = m->next)
        if (m->hi && m->lo == (uintptr_t)at) __atomic_store_n(&m->hi, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static bool map(MappedFile *f, const char *path, Err *e) {
    if (fstat(f->fd, &f->was)) return err_set(e, "%s: %s", path, strerror(errno));
    if (!S_ISREG(f->was.st_mode)) return err_set(e, "%s: not a regular file", path);
    if (f->was.st_size == 0) return err_set(e, "%s: the file is empty", path);
    f->size = (size_t)f->was.st_size;
    void *at = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0);
    if (at == MAP_FAILED) return err_set(e, "%s: cannot map the file's %zu bytes: %s", path, f->size, strerror(errno));
    f->at = at;
    return remember(at, f->size, path) || err_set(e, "%s: out of memory", path);
}

bool mapped_open(MappedFile *f, const char *path, Err *e) {
    *f = (MappedFile){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)}; /* a FIFO must not hang us */
    if (f->fd < 0) return *f = (MappedFile){0}, err_set(e, "%s: %s", path, strerror(errno));
    if (map(f, path, e)) return true;
    if (!f->at) close(f->fd);
    mapped_close(f);
    return false;
}

void mapped_close(MappedFile *f) {
    if (f->at) {
        forget(f->at);
        munmap((void *)(uintptr_t)f->at, f->size);
        close(f->fd);
    }
    *f = (MappedFile){0};
}

bool mapped_unchanged(const MappedFile *f, const char *path, Err *e) {
    struct stat now;
    if (!f->at) return true;
    if (fstat(f->fd, &now)) return err_set(e, "%s: %s", path, strerror(errno));
    bool same = now.st_size == f->was.st_size && now.st_mtim.tv_sec == f->was.st_mtim.tv_sec && now.st_mtim.tv_nsec == f->was.st_mtim.tv_nsec;
    return same || err_set(e, "%s: the file changed after it was opened: start again", path);
}
