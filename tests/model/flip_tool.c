/* flip_tool.c - flip_tool PLAN SCRATCH MODEL INPUT: does the emulator really execute the plan's instructions?
 * One bit of one instruction byte is flipped at a time, at places spread over the code of the kernels a step launches; the plan
 * is written anew (so its checksum is right) and run. The tokens must change, or an error be reported, for most places:
 * a flip in a wait count, a hint or an unused operand bit may change nothing. */
#include "runtime/plan.h"

#include <elf.h>
#include <stdlib.h>

enum { FLIPS = 24, DETECTED = 16 }; /* measured 2026-11-21: see the line it prints */

static bool text_of(const uint8_t *code, size_t size, size_t *at, size_t *n) {
    const Elf64_Ehdr *h = (const void *)code;
    if (size < sizeof *h || h->e_shoff > size || h->e_shoff + (size_t)h->e_shnum * sizeof(Elf64_Shdr) > size) return false;
    const Elf64_Shdr *s = (const void *)(code + h->e_shoff);
    const char *names = (const char *)code + s[h->e_shstrndx].sh_offset;
    for (int i = 0; i < h->e_shnum; i++)
        if (!strcmp(names + s[i].sh_name, ".text")) return *at = s[i].sh_offset, *n = s[i].sh_size, true;
    return false;
}

static int run(const char *plan, const char *model, const char *input, const char *output) {
    char command[2048];
    snprintf(command, sizeof command, "timeout 10 out/gptoss-exec %s -m getp --device emu -w %s -i %s -o %s -n 24 -t 1 >/dev/null 2>&1", plan, model, input, output);
    return system(command);
}

static bool same(Arena *a, const char *x, const char *y) {
    Err e;
    const char *p = file_read(a, x, NULL, &e), *q = file_read(a, y, NULL, &e);
    return p && q && !strcmp(p, q);
}

int main(int argc, char **argv) {
    Err e = {""};
    if (argc != 5) return fprintf(stderr, "usage: flip_tool PLAN SCRATCH MODEL INPUT\n"), 2;
    Plan *p = plan_open(argv[1], &e);
    if (!p) return fprintf(stderr, "%s\n", e.msg), 1;
    const char *want = arena_printf(p->arena, "%s.want", argv[2]), *got = arena_printf(p->arena, "%s.got", argv[2]);
    if (run(argv[1], argv[3], argv[4], want)) return fprintf(stderr, "the plan itself does not run\n"), 1;
    int changed = 0, error = 0, unchanged = 0;
    for (int i = 0; i < FLIPS; i++) {
        PlanModule *m = &p->modules[i % p->n_modules];
        size_t at, n;
        uint8_t *code = arena_alloc(p->arena, m->code_size);
        const void *old = m->code;
        memcpy(code, old, m->code_size);
        if (!text_of(code, m->code_size, &at, &n)) return fprintf(stderr, "%s: no .text\n", m->name), 1;
        /* The first third of a kernel's text is code that runs; the rest of .text may be padding. Byte 0 of a word: mostly a source operand. */
        code[at + (n / 3 * (size_t)(i + 1) / FLIPS & ~(size_t)3)] ^= 0x01;
        m->code = code;
        if (!plan_write(p, argv[2], &e)) return fprintf(stderr, "%s\n", e.msg), 1;
        m->code = old;
        if (run(argv[2], argv[3], argv[4], got)) error++;
        else if (same(p->arena, want, got)) unchanged++;
        else changed++;
    }
    printf("%d flips: %d changed the tokens, %d reported, %d changed nothing\n", FLIPS, changed, error, unchanged);
    plan_close(p);
    return changed + error >= DETECTED && changed && error ? 0 : 1;
}
