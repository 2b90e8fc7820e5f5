/* flip_tool.c - flip_tool PLAN SCRATCH MODEL INPUT: does the emulator really execute the plan's instructions?
 * One byte of one instruction is changed at a time: the byte of a v_fma_f64 that holds its negation bits, in up to PER_MODULE
 * places of every module that has any. The plan is written anew (so its checksum is right) and run. The tokens must change, or
 * an error be reported, in most places; code for a batch size or a tail that does not occur may change nothing. */
#include "plan/plan.h"

#include <elf.h>
#include <stdlib.h>

enum { PER_MODULE = 4 };
static const double least = 0.6; /* of the places; measured: 21 of 29 (2026-11-21) */

static bool text_of(const uint8_t *code, size_t size, size_t *at, size_t *n) {
    const Elf64_Ehdr *h = (const void *)code;
    if (size < sizeof *h || h->e_shoff > size || h->e_shoff + (size_t)h->e_shnum * sizeof(Elf64_Shdr) > size) return false;
    const Elf64_Shdr *s = (const void *)(code + h->e_shoff);
    const char *names = (const char *)code + s[h->e_shstrndx].sh_offset;
    for (int i = 0; i < h->e_shnum; i++)
        if (!strcmp(names + s[i].sh_name, ".text")) return *at = s[i].sh_offset, *n = s[i].sh_size, true;
    return false;
}

/* Offsets of the v_fma_f64 (VOP3A, opcode 0x1cc) in the code. */
static size_t fmas(const uint8_t *code, size_t size, size_t *place, size_t max) {
    size_t at, n, found = 0;
    if (!text_of(code, size, &at, &n)) return 0;
    for (size_t i = at; i + 8 <= at + n && found < max; i += 4) {
        uint32_t word;
        memcpy(&word, code + i, 4);
        if (word >> 16 == 0xd1cc) place[found++] = i;
    }
    return found;
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
    int changed = 0, reported = 0, same_tokens = 0;
    for (int i = 0; i < p->n_modules; i++) {
        PlanModule *m = &p->modules[i];
        const void *old = m->code;
        size_t place[4096], n = fmas(old, m->code_size, place, LEN(place));
        for (size_t k = 0; k < PER_MODULE && k < n; k++) {
            uint8_t *code = arena_alloc(p->arena, m->code_size);
            memcpy(code, old, m->code_size);
            code[place[k * n / PER_MODULE] + 7] ^= 0x20; /* negates its first operand */
            m->code = code;
            if (!plan_write(p, argv[2], &e)) return fprintf(stderr, "%s\n", e.msg), 1;
            m->code = old;
            if (run(argv[2], argv[3], argv[4], got)) reported++;
            else if (same(p->arena, want, got)) same_tokens++;
            else changed++;
        }
    }
    int all = changed + reported + same_tokens;
    printf("%d flips: %d changed the tokens, %d reported, %d changed nothing\n", all, changed, reported, same_tokens);
    plan_close(p);
    return changed && changed + reported >= least * all ? 0 : 1;
}
