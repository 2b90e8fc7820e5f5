/* fuzz_lua.c - graph files and rules: any text, run as a file of rules and as a graph file, by one interpreter as gptoss-compile does. */
#include "compiler/front.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    const FrontOptions o = {.max_batch = 4, .max_tokens = 64, .lua_dir = "lua"};
    RuleList list = {0};
    Arena *a = arena_new();
    Err e = {0};
    Front *f = front_open(a, &o, &e);
    if (!f) fprintf(stderr, "%s\n", e.msg), abort();
    fuzz_file(&fd, path, data, n);
    if (!front_rules(f, path, &list, &e)) fuzz_said(&e);
    if (!front_program(f, path, &e)) fuzz_said(&e);
    front_close(f);
    arena_free(a);
    return 0;
}
