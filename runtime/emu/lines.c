/* lines.c - the source line of each instruction, and which lines were executed most.
 *
 * The table comes from a plan (rtc/rtc_lines.c wrote it and says its form), so nothing in it is trusted. */
#include <errno.h>
#include <stdlib.h>

#include "wave.h"

enum { MAX_FILES = 4096, MAX_NAME = 200 };

static bool is_name(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] < ' ' || s[i] > '~') return false;
    return n > 0 && n <= MAX_NAME;
}

/* "FILE NAME" lines; *at moves behind them. */
static bool read_files(EmuModule *m, const char **at, Err *e) {
    struct { const char **at; size_t n, cap; } files = {0};
    while (!strncmp(*at, "FILE ", 5)) {
        const char *name = *at + 5, *end = name + strcspn(name, "\n");
        if (!is_name(name, (size_t)(end - name)) || files.n == MAX_FILES)
            return err_set(e, "damaged table of lines: the name of file %zu", files.n + 1);
        PUSH(m->arena, files, arena_strndup(m->arena, name, (size_t)(end - name)));
        *at = end + (*end != 0);
    }
    m->files = files.at, m->n_files = (uint32_t)files.n;
    return true;
}

static bool take_number(const char **at, char until, uint64_t most, uint64_t *v) {
    char *end;
    if (**at < '0' || **at > '9') return false;
    errno = 0;
    *v = strtoull(*at, &end, 10);
    if (errno || *v > most || *end != until) return false;
    *at = end + 1;
    return true;
}

bool emu_lines(EmuModule *m, const char *text, Err *e) {
    const char *at = text;
    if (!read_files(m, &at, e)) return false;
    SourceLine *lines = arena_array(m->arena, m->n_code, sizeof *lines);
    uint64_t pc = 0, words, file, line;
    size_t next = 0;
    for (SourceLine now = {0}; *at; now = (SourceLine){(uint32_t)file, (uint32_t)line}) {
        if (!take_number(&at, ' ', UINT32_MAX, &words) || !take_number(&at, ' ', m->n_files, &file) || !take_number(&at, '\n', INT32_MAX, &line))
            return err_set(e, "damaged table of lines, at byte %zu", (size_t)(at - text));
        pc += 4 * words;
        for (; next < m->n_code && m->code[next].pc < pc; next++) lines[next] = now;
    }
    m->lines = lines; /* behind the last change there is no line: it ends a sequence */
    return true;
}

const char *inst_place(const EmuModule *m, const Inst *i, Place *to) {
    const SourceLine *l = m->lines ? &m->lines[i->index] : NULL;
    if (l && l->file) snprintf(to->at, sizeof to->at, "%s:%u", m->files[l->file - 1], l->line);
    else snprintf(to->at, sizeof to->at, "pc 0x%x", i->pc);
    return to->at;
}

/* --- hot spots ------------------------------------------------------------------------------------------------------- */

static int by_line(const void *x, const void *y) {
    const EmuHot *a = x, *b = y;
    int name = strcmp(a->file, b->file);
    return name ? name : (a->line > b->line) - (a->line < b->line);
}

static int by_executed(const void *x, const void *y) {
    const EmuHot *a = x, *b = y;
    if (a->executed != b->executed) return a->executed < b->executed ? 1 : -1;
    return by_line(x, y);
}

size_t emu_hot(const EmuModule *m, const uint64_t *executed, EmuHot *top, size_t n) {
    EmuHot *all = m->lines ? calloc(m->n_code + 1, sizeof *all) : NULL;
    size_t k = 0, lines = 0;
    for (size_t i = 0; all && i < m->n_code; i++)
        if (executed[i] && m->lines[i].file) all[k++] = (EmuHot){m->files[m->lines[i].file - 1], m->lines[i].line, executed[i]};
    if (k) qsort(all, k, sizeof *all, by_line);
    for (size_t i = 0; i < k; i++) {
        if (lines && !by_line(&all[lines - 1], &all[i])) all[lines - 1].executed += all[i].executed;
        else all[lines++] = all[i];
    }
    if (lines) qsort(all, lines, sizeof *all, by_executed);
    if (lines < n) n = lines;
    if (n) memcpy(top, all, n * sizeof *top);
    free(all);
    return n;
}

size_t emu_instruction_count(const EmuModule *m) { return m->n_code; }
