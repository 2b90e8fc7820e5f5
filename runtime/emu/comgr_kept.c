/* comgr_kept.c - what comgr said, kept on disk: loading LLVM takes longer than what most plans ask of it. See comgr_said.h.
 *
 * DIR/HASH.said is a Head, the code object, its code as it was disassembled, and what was said. The hash, of all but the last, only finds:
 * the bytes are compared. An entry is written beside and renamed; a damaged one counts as none and is replaced. */
#include "comgr_said.h"

enum { KEPT_FORMAT = 1 /* of Head, and of comgr_said.h */ };

typedef struct Head Head;
struct Head {
    uint64_t format, object_size;
    uint32_t lo, hi;
};

static void put_asked(Text *t, const ComgrCode *code) {
    const Head head = {KEPT_FORMAT, code->object_size, code->lo, code->hi};
    text_put(t, &head, sizeof head);
    text_put(t, code->object, code->object_size);
    text_put(t, code->image + code->lo, code->hi - code->lo);
}

static const char *path_of(Arena *a, const char *dir, const Text *asked) {
    return arena_printf(a, "%s/%016llx.said", dir, (unsigned long long)hash64(asked->at, asked->n));
}

bool comgr_kept_get(Arena *a, const char *dir, const ComgrCode *code, Text *said) {
    Text asked = {0};
    Err none;
    uint64_t sum;
    size_t n = 0;
    put_asked(&asked, code);
    const size_t head = asked.n + sizeof sum;
    const char *entry = file_read(a, path_of(a, dir, &asked), &n, &none);
    bool ok = entry && n >= head && !memcmp(entry, asked.at, asked.n);
    if (ok) memcpy(&sum, entry + asked.n, sizeof sum), ok = hash64(entry + head, n - head) == sum;
    if (ok) text_put(said, entry + head, n - head);
    text_free(&asked);
    return ok;
}

void comgr_kept_put(Arena *a, const char *dir, const ComgrCode *code, const Text *said) {
    const uint64_t sum = hash64(said->at, said->n);
    Text entry = {0};
    Err none;
    put_asked(&entry, code);
    const char *path = path_of(a, dir, &entry);
    text_put(&entry, &sum, sizeof sum);
    text_put(&entry, said->at, said->n);
    file_write(path, entry.at, entry.n, &none);
    text_free(&entry);
}
