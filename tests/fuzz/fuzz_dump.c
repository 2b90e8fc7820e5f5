/* fuzz_dump.c - dumps of graphs, read back (ir/load.c): what it accepts must dump to a text that reads as the same text. */
#include "fuzz.h"
#include "ir/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    Err e = {0};
    Program *p = program_load(a, arena_strndup(a, (const char *)data, n), "fuzz.ir", &e);
    if (p) {
        Text once = {0}, twice = {0};
        program_dump(p, &once);
        Program *q = program_load(a, once.at, "again.ir", &e);
        if (!q) fprintf(stderr, "%s\n", e.msg), abort();
        program_dump(q, &twice);
        if (once.n != twice.n || memcmp(once.at, twice.at, once.n)) abort();
        text_free(&once), text_free(&twice);
    } else {
        fuzz_said(&e);
    }
    arena_free(a);
    return 0;
}
