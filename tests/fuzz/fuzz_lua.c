/* fuzz_lua.c - graph files and rules: any text, run as a graph file and as a file of rules. */
#include "compiler/front.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    fuzz_file(&fd, path, data, n);
    for (int rules = 0; rules < 2; rules++) {
        Arena *a = arena_new();
        Err e = {0};
        const FrontOptions o = {.max_batch = 4, .max_tokens = 64, .lua_dir = "lua"};
        RuleList list = {0};
        Front *f = front_open(a, &o, &e);
        if (!f) fprintf(stderr, "%s\n", e.msg), abort();
        bool ok = rules ? front_rules(f, path, &list, &e) : front_program(f, path, &e) != NULL;
        if (!ok) fuzz_said(&e);
        front_close(f);
        arena_free(a);
    }
    return 0;
}
