/* flip_tool.c - flip_tool PLAN SCRATCH MODEL INPUT: does the emulator really execute the plan's instructions?
 * One instruction is changed at a time: the byte of a v_fma_f64 that holds its negation bits, in up to PER_MODULE places of every
 * module that has any. The plan is written anew (so its checksum is right) and run. Where the run reaches the place - with
 * s_endpgm there it ends otherwise - the tokens or the logits must change, or an error be reported, for most of them. */
#include "plan/plan.h"

#include <elf.h>
#include <stdlib.h>

enum { PER_MODULE = 2 };
static const double least = 0.6; /* of the places reached; measured: 15 of 17 (2026-11-29), 8 of 8 (2026-11-30) */
static const uint64_t s_endpgm = 0xbf810000bf810000u, negate_first = 1ull << 61;

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

/* Tokens into OUTPUT, the prompt's logits behind them. */
static int run(const char *plan, const char *model, const char *input, const char *output) {
    char command[4096];
    snprintf(command, sizeof command,
             "for mode in 'getp -n 20' logits; do timeout 10 out/gptoss-exec %s -m $mode --device emu -w %s -i %s -t 1 -o %s.part && cat %s.part || exit 1; done >%s 2>/dev/null",
             plan, model, input, output, output, output);
    return system(command);
}

static bool same(Arena *a, const char *x, const char *y) {
    Err e;
    size_t n, m;
    const char *p = file_read(a, x, &n, &e), *q = file_read(a, y, &m, &e);
    return p && q && n == m && !memcmp(p, q, n);
}

typedef enum { SAME, CHANGED, REPORTED } Outcome;

/* Of a run with the 8 bytes of module m at `place` replaced. */
static Outcome run_with(Plan *p, PlanModule *m, size_t place, uint64_t instruction, char **argv, const char *want, const char *got) {
    Err e;
    const void *old = m->code;
    uint8_t *code = arena_alloc(p->arena, m->code_size);
    memcpy(code, old, m->code_size);
    memcpy(code + place, &instruction, 8);
    m->code = code;
    if (!plan_write(p, argv[2], &e)) die("%s", e.msg);
    m->code = old;
    if (run(argv[2], argv[3], argv[4], got)) return REPORTED;
    return same(p->arena, want, got) ? SAME : CHANGED;
}

int main(int argc, char **argv) {
    Err e = {""};
    if (argc != 5) return fprintf(stderr, "usage: flip_tool PLAN SCRATCH MODEL INPUT\n"), 2;
    Plan *p = plan_open(argv[1], &e);
    if (!p) return fprintf(stderr, "%s\n", e.msg), 1;
    const char *want = arena_printf(p->arena, "%s.want", argv[2]), *got = arena_printf(p->arena, "%s.got", argv[2]);
    if (run(argv[1], argv[3], argv[4], want)) return fprintf(stderr, "the plan itself does not run\n"), 1;
    int n_of[3] = {0}, reached = 0, unreached = 0;
    for (int i = 0; i < p->n_modules; i++) {
        PlanModule *m = &p->modules[i];
        size_t place[4096], n = fmas(m->code, m->code_size, place, LEN(place));
        for (size_t k = 0; k < PER_MODULE && k < n; k++) {
            size_t at = place[k * n / PER_MODULE];
            uint64_t instruction;
            memcpy(&instruction, (const char *)m->code + at, 8);
            if (run_with(p, m, at, s_endpgm, argv, want, got) == SAME) unreached++;
            else reached++, n_of[run_with(p, m, at, instruction ^ negate_first, argv, want, got)]++;
        }
    }
    printf("%d places reached, %d not: %d changed the tokens or the logits, %d reported, %d changed nothing\n", reached, unreached, n_of[CHANGED], n_of[REPORTED], n_of[SAME]);
    plan_close(p);
    return reached > unreached && n_of[CHANGED] && n_of[CHANGED] + n_of[REPORTED] >= least * reached ? 0 : 1;
}
