/* base.c - errors, arena, growing text, whole files. See base.h. */
#include "base.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

bool err_set(Err *e, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    return false;
}

bool err_wrap(Err *e, const char *fmt, ...) {
    Err tail = *e;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg), room = sizeof e->msg - 1 - n;
    size_t more = strlen(tail.msg) + 2 < room ? strlen(tail.msg) + 2 : room;
    if (more > 2) memcpy(e->msg + n, ": ", 2), memcpy(e->msg + n + 2, tail.msg, more - 2), e->msg[n + more] = 0;
    return false;
}

void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("gptoss: internal error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

static NORETURN void out_of_memory(size_t size) {
    fprintf(stderr, "gptoss: out of memory (asked for %zu bytes)\n", size);
    exit(1);
}

/* --- arena --- */

typedef struct Block Block;
struct Block {
    Block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};
struct Arena {
    Block *head;
};

Arena *arena_new(void) {
    Arena *a = calloc(1, sizeof *a);
    if (!a) out_of_memory(sizeof *a);
    return a;
}

void arena_free(Arena *a) {
    if (!a) return;
    for (Block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void *arena_alloc(Arena *a, size_t size) {
    if (size > SIZE_MAX / 2) out_of_memory(size);
    size = (size + 15) & ~(size_t)15;
    Block *b = a->head;
    if (!b || b->size - b->used < size) {
        size_t want = size > 65536 ? size : 65536;
        b = calloc(1, sizeof *b + want);
        if (!b) out_of_memory(want);
        b->size = want;
        if (a->head && size > 65536) { /* a large block goes behind the head, which keeps its free space */
            b->next = a->head->next;
            a->head->next = b;
        } else {
            b->next = a->head;
            a->head = b;
        }
    }
    void *p = b->bytes + b->used;
    b->used += size;
    return p;
}

void *arena_array(Arena *a, size_t n, size_t size) {
    size_t total;
    if (!size_mul(n, size, &total)) out_of_memory(SIZE_MAX);
    return arena_alloc(a, total);
}

void *arena_grow(Arena *a, void *old, size_t old_size, size_t new_size) {
    void *p = arena_alloc(a, new_size);
    if (old_size) memcpy(p, old, old_size);
    return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n) {
    char *p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

char *arena_printf(Arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) die("arena_printf: bad format");
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

/* --- text --- */

static void reserve(Text *t, size_t more) {
    size_t need = t->n + more + 1;
    if (need <= t->cap) return;
    size_t cap = t->cap ? t->cap : 256;
    while (cap < need) cap *= 2;
    char *p = realloc(t->at, cap);
    if (!p) out_of_memory(cap);
    t->at = p;
    t->cap = cap;
}

void text_add(Text *t, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) die("text_add: bad format");
    reserve(t, (size_t)n);
    vsnprintf(t->at + t->n, (size_t)n + 1, fmt, again);
    va_end(again);
    t->n += (size_t)n;
}

void text_put(Text *t, const void *bytes, size_t n) {
    reserve(t, n);
    if (n) memcpy(t->at + t->n, bytes, n);
    t->n += n;
    t->at[t->n] = 0;
}

void text_free(Text *t) {
    free(t->at);
    *t = (Text){0};
}

/* --- files --- */

char *file_read(Arena *a, const char *path, size_t *size, Err *e) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *bytes = NULL;
    if (!f || fstat(fileno(f), &st)) {
        err_set(e, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, "%s: not a regular file", path);
    } else {
        size_t n = (size_t)st.st_size;
        bytes = arena_alloc(a, n + 1);
        if (fread(bytes, 1, n, f) != n) {
            err_set(e, "%s: read failed: %s", path, ferror(f) ? strerror(errno) : "file shrank");
            bytes = NULL;
        }
        if (size) *size = n;
    }
    if (f) fclose(f);
    return bytes;
}

static bool write_all(FILE *f, const void *bytes, size_t n) {
    return fwrite(bytes, 1, n, f) == n && fflush(f) == 0;
}

bool file_replaceable(const char *path, Err *e) {
    struct stat st;
    return stat(path, &st) || S_ISREG(st.st_mode) || err_set(e, "%s: not a regular file", path);
}

static bool write_in_place(const char *path, const void *bytes, size_t n, Err *e) {
    FILE *f = fopen(path, "wb");
    bool ok = f && write_all(f, bytes, n);
    int saved = errno;
    if (f && fclose(f) && ok) ok = false, saved = errno;
    return ok || err_set(e, "%s: %s", path, strerror(saved));
}

bool file_write(const char *path, const void *bytes, size_t n, Err *e) {
    if (!strcmp(path, "-")) return write_all(stdout, bytes, n) || err_set(e, "stdout: %s", strerror(errno));
    Err special;
    if (!file_replaceable(path, &special)) return write_in_place(path, bytes, n, e);
    Text tmp = {0};
    text_add(&tmp, "%s.tmp%ld", path, (long)getpid());
    FILE *f = fopen(tmp.at, "wb");
    bool ok = f && write_all(f, bytes, n) && fsync(fileno(f)) == 0;
    int saved = errno;
    if (f && fclose(f) && ok) ok = false, saved = errno;
    if (ok && rename(tmp.at, path)) ok = false, saved = errno;
    if (!ok) {
        err_set(e, "%s: %s", path, strerror(saved));
        if (f) unlink(tmp.at);
    }
    text_free(&tmp);
    return ok;
}

/* --- numbers --- */

const float e2m1_table[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};

float e8m0_scale(uint8_t s) { return s == 255 ? NAN : ldexpf(1, s - 127); }

uint64_t hash64(const void *bytes, size_t n) { return XXH3_64bits(bytes, n); }
