/* base.h - what every file needs: errors, an arena, growing text, numbers' encodings.
 *
 * Errors: a function that can fail returns bool (or a pointer) and writes one line into an Err; the caller must look.
 * Only main prints it and exits. die() is for our own bugs: it names the place and aborts.
 * Memory: an Arena owns everything that a compilation or a loaded file makes; nothing in it is freed singly.
 * Running out of memory prints one line, with the size and what it was for, and ends the program (arena_*, text_*); what holds
 * something that must survive uses malloc, and returns an error. */
#ifndef GPTOSS_BASE_H
#define GPTOSS_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined __GNUC__
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NORETURN __attribute__((noreturn))
#else
#define PRINTF(f, a)
#define NORETURN
#endif

#define LEN(a) (sizeof(a) / sizeof *(a))

/* --- errors ------------------------------------------------------------------------------------------------------ */

typedef struct Err Err;
struct Err {
    char msg[2048]; /* one or more lines, no newline at the end; "" while nothing failed */
};

int control_bytes(const char *s); /* of the control character that s begins with, C0's, DEL or C1's (U+0080 to U+009F) in UTF-8; 0: none */
/* What others made, for a terminal: of s, what would move its cursor (control characters; line breaks and tabs may stay) is a question mark.
 * Returns s. Messages of Err are such. */
char *printable(char *s, bool lines);
bool err_set(Err *e, const char *fmt, ...) PRINTF(2, 3); /* writes e->msg (truncating); always returns false */
bool err_wrap(Err *e, const char *fmt, ...) PRINTF(2, 3); /* puts "fmt: " before e->msg; always returns false */
bool err_add(Err *e, const char *fmt, ...) PRINTF(2, 3);  /* appends to e->msg; always returns false */
NORETURN void die(const char *fmt, ...) PRINTF(1, 2);     /* our own bug: prints "gptoss: internal error: …", aborts */
NORETURN void out_of_memory(size_t size, const char *what); /* prints both; exit status 1 */

/* Memory for an array of any size, not zeroed, aligned to 256; from 2 MiB on in huge pages, where the system gives them to who asks:
 * gigabytes in small ones take a third longer to fill and to read. free() frees it; NULL: there is none. */
void *large_alloc(size_t size);

/* --- arena ------------------------------------------------------------------------------------------------------- */

typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *a);                  /* NULL is fine */
void *arena_alloc(Arena *a, size_t size);   /* zeroed, aligned to 16 */
void *arena_array(Arena *a, size_t n, size_t size); /* n * size, overflow checked, zeroed */
void *arena_grow(Arena *a, void *old, size_t old_size, size_t new_size); /* copy into a larger block; rest zeroed */
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF(2, 3);

/* A growing array in an arena: struct { T *at; size_t n, cap; }. */
#define PUSH(arena, v, x)                                                                                         \
    do {                                                                                                          \
        if ((v).n == (v).cap) {                                                                                   \
            size_t cap_ = (v).cap ? (v).cap * 2 : 8;                                                              \
            (v).at = arena_grow((arena), (v).at, (v).n * sizeof *(v).at, cap_ * sizeof *(v).at);                  \
            (v).cap = cap_;                                                                                       \
        }                                                                                                         \
        (v).at[(v).n++] = (x);                                                                                    \
    } while (0)

/* --- growing text ------------------------------------------------------------------------------------------------ */

typedef struct Text Text;
struct Text {
    char *at; /* always NUL-terminated once something was added; malloc'ed */
    size_t n, cap;
};
void text_add(Text *t, const char *fmt, ...) PRINTF(2, 3);
void text_put(Text *t, const void *bytes, size_t n);
void text_free(Text *t);

/* --- files ------------------------------------------------------------------------------------------------------- */

/* A regular file, whole, NUL added; NULL on error. A file's size says nothing of what lies on the disk: so what a reader's files cannot
 * have is an error before it is read. */
char *file_read(Arena *a, const char *path, size_t *size, Err *e);                   /* of at most 4 GiB */
char *file_read_most(Arena *a, const char *path, size_t most, size_t *size, Err *e); /* of at most `most` bytes */
FILE *file_open(const char *path, Err *e); /* to read a regular file; of a pipe in its place, nobody waits for the writer. NULL on error */
bool file_stream(const char *path, Text *t, Err *e); /* appends all of a file, pipe or device, NUL added: it waits for who writes; "-": stdin */

/* Text, whoever reads it: a UTF-8 byte order mark before it is no part of it; a line ends in "\n" or "\r\n", or with the text;
 * a NUL byte is a byte like others. */
char *file_read_text(Arena *a, const char *path, size_t *size, Err *e); /* as file_read, without the mark; of at most 256 MiB */
char *file_read_text_most(Arena *a, const char *path, size_t most, size_t *size, Err *e);
size_t text_mark(const char *text, size_t n);  /* bytes of a mark that it begins with: 3 or 0 */
size_t text_chomp(const char *line, size_t n); /* its length without its end */

/* A file that is being written. It gets its name when it is whole: what was there stays until then, and a program that is
 * killed leaves nothing, where the file system has files without names (else PATH.tmpPID). A link is followed; permissions
 * stay. What is no regular file (a pipe, a device, anything in /dev and /proc) is written in place. */
typedef struct FileOut FileOut;
struct FileOut {
    FILE *f;
    const char *path; /* as given, for messages */
    char *target;     /* what will be replaced; NULL: written in place */
    char *tmp;        /* its name so far; NULL: it has none */
    bool seekable;    /* a new, empty file; else rows can only follow each other */
};
bool file_begin(FileOut *o, const char *path, Err *e);
bool file_end(FileOut *o, bool ok, Err *e); /* !ok: thrown away, e as it is. Returns ok, or false with e set */

bool file_write(const char *path, const void *bytes, size_t n, Err *e);

/* All n bytes to fd, which may take a part at a time; at: where in the file, -1: behind what was written. False: errno says why. */
bool write_all(int fd, const void *bytes, size_t n, off_t at);

/* Before long work: could path be written now? A folder, a missing folder, no permission: no. */
bool file_writable(const char *path, Err *e);
bool file_same(const char *a, const char *b);             /* are these names of one regular file? */
bool file_inside(const char *path, const char *folder); /* is path a regular file that lies right in folder? */
bool file_in_place(const char *path); /* is it written where it is: a device, a pipe, or a link whose target is still to be made? */
bool file_is_stdout(const char *path);                    /* "-", /dev/stdout and its other names */

/* Brings the names in path's folder to disk: a new or renamed file is found there after a power failure. False with errno: it cannot. */
bool file_sync_name(const char *path);

/* May path be replaced by renaming a file to it? No, with e set, when a folder, a pipe or a device is there. */
bool file_replaceable(const char *path, Err *e);

/* --- checked sizes ----------------------------------------------------------------------------------------------- */

static inline bool size_mul(size_t a, size_t b, size_t *r) { return !__builtin_mul_overflow(a, b, r); }
static inline bool size_add(size_t a, size_t b, size_t *r) { return !__builtin_add_overflow(a, b, r); }

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static inline float f32_of_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t bits_of_f32(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

static inline float f32_of_bf16(uint16_t h) { return f32_of_bits((uint32_t)h << 16); }

/* Round to nearest even; NaN stays NaN (quiet). */
static inline uint16_t bf16_of_f32(float f) {
    uint32_t u = bits_of_f32(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

extern const float e2m1_table[16]; /* MXFP4's 4-bit values by code, sign in bit 3 */
float e8m0_scale(uint8_t s);       /* 2^(s-127); NaN for 255 */

uint64_t hash64(const void *bytes, size_t n); /* XXH3, for checksums and cache keys */
uint64_t random_seed(void); /* another each time; nobody else knows it */

/* In a fork: it gets the signal when `parent`, which made it, ends, and ends at once if that was before. */
void end_with(long parent, int signal);

double seconds_now(void); /* of the monotonic clock */
/* Seconds in which this process could run since *w was zeros, if it is asked often: of a gap between two calls only so much counts, as it was
 * stopped then (Ctrl-Z, a job that is suspended), and what it waits for may have come. */
typedef struct Stopwatch Stopwatch;
struct Stopwatch {
    double last, ran;
};
double stopwatch(Stopwatch *w, double most);
/* From here on the process may have so many bytes more than it has now, of memory that it can write to and shares with none; a limit that
 * it was started with is not raised. */
void memory_bound(size_t more);
int cpu_count(void);      /* CPUs that this process may run on; at least 1 */
double seconds_env(const char *name, double otherwise); /* what the variable says, if it is more than 0; at most 1e9, which is "never" */

#endif
