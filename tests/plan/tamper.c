/* tamper PLAN OUT: the plan with another code object in its first module, and a right checksum. One byte differs, which ELF does not
 * use (e_ident's padding), so the code runs as before: whether it was run shows in what is said, not in a crash. */
#include "plan/plan.h"

int main(int argc, char **argv) {
    Err e;
    size_t n = 0;
    Arena *a = arena_new();
    Plan *p = argc == 3 ? plan_open(argv[1], &e) : NULL;
    if (!p) return fputs(argc == 3 ? e.msg : "usage: tamper PLAN OUT\n", stderr), 1;
    char *bytes = file_read(a, argv[1], &n, &e);
    if (!bytes || !p->n_modules || !p->modules[0].code) return fputs("no code to change\n", stderr), 1;
    bytes[(const char *)p->modules[0].code - (const char *)p->file.at + 15] ^= 1;
    uint64_t hash = hash64(bytes + 40, n - 40);
    memcpy(bytes + 32, &hash, sizeof hash);
    plan_close(p);
    bool ok = file_write(argv[2], bytes, n, &e);
    arena_free(a);
    return !ok;
}
