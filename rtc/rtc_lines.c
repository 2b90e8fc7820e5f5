/* rtc_lines.c - which source line each instruction of a code object is of, taken out of its debug sections.
 *
 * Kernels are compiled with -gline-tables-only, which changes no instruction (tests/rtc compares); of what it adds only DWARF 5's line
 * table is read, and all of it is cut off again, so that a code object is what it would be without. Runs in workers only.
 * The table, as text: "FILE NAME" for each file that has a line, then "WORDS FILE LINE" for each change: WORDS instruction words
 * of 4 bytes behind the one before (the first: from address 0) the code is of LINE of the FILEth file (from 1; 0: of none).
 * Paths are as #line gave them; of a file that the compiler brings only the name is kept, so that equal sources give equal text. */
#include "rtc_internal.h"

#include <elf.h>
#include <stdlib.h>

enum { MAX_SECTIONS = 64, MAX_FILES = 4096 };

/* --- ELF ---------------------------------------------------------------------------------------------------------- */

typedef struct Elf Elf;
struct Elf {
    const uint8_t *at;
    size_t n;
    Elf64_Ehdr head;
    Elf64_Shdr sections[MAX_SECTIONS];
};

static const char *section_name(const Elf *f, const Elf64_Shdr *s) {
    const Elf64_Shdr *names = &f->sections[f->head.e_shstrndx];
    if (s->sh_name >= names->sh_size) return "";
    const char *name = (const char *)f->at + names->sh_offset + s->sh_name;
    return memchr(name, 0, names->sh_size - s->sh_name) ? name : "";
}

static bool elf_open(Elf *f, const void *code, size_t n) {
    *f = (Elf){.at = code, .n = n};
    if (n < sizeof f->head) return false;
    memcpy(&f->head, code, sizeof f->head);
    const Elf64_Ehdr *h = &f->head;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_shentsize != sizeof(Elf64_Shdr) ||
        h->e_shnum > MAX_SECTIONS || h->e_shstrndx >= h->e_shnum || h->e_shoff > n ||
        h->e_shnum > (n - h->e_shoff) / sizeof(Elf64_Shdr))
        return false;
    memcpy(f->sections, f->at + h->e_shoff, h->e_shnum * sizeof *f->sections);
    for (int i = 0; i < h->e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type != SHT_NOBITS && (s->sh_offset > n || s->sh_size > n - s->sh_offset)) return false;
    }
    return true;
}

/* --- bytes: reading past the end gives zeros and is remembered ------------------------------------------------------ */

typedef struct Bytes Bytes;
struct Bytes {
    const uint8_t *at, *end;
    bool over;
};

static Bytes section(const Elf *f, const char *name) {
    for (int i = 0; i < f->head.e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type == SHT_PROGBITS && !strcmp(section_name(f, s), name))
            return (Bytes){f->at + s->sh_offset, f->at + s->sh_offset + s->sh_size, false};
    }
    return (Bytes){0};
}

static uint64_t take(Bytes *b, size_t n) { /* little-endian, n <= 8 */
    uint64_t v = 0;
    if ((size_t)(b->end - b->at) < n) return b->over = true, b->at = b->end, 0;
    memcpy(&v, b->at, n);
    b->at += n;
    return v;
}

static Bytes part(Bytes *b, uint64_t n) {
    if ((uint64_t)(b->end - b->at) < n) b->over = true, n = 0;
    Bytes r = {b->at, b->at + n, false};
    b->at += n;
    return r;
}

static uint64_t leb(Bytes *b, bool is_signed) {
    uint64_t v = 0, byte;
    unsigned shift = 0;
    do {
        byte = take(b, 1);
        if (shift < 64) v |= (byte & 127) << shift;
        shift += 7;
    } while (byte & 128);
    if (is_signed && byte & 64 && shift < 64) v |= ~0ull << shift;
    return v;
}

static const char *take_string(Bytes *b) {
    const uint8_t *s = b->at, *zero = s < b->end ? memchr(s, 0, (size_t)(b->end - s)) : NULL;
    if (!zero) return b->over = true, b->at = b->end, "";
    b->at = zero + 1;
    return (const char *)s;
}

/* --- the header's tables: directories, then files ------------------------------------------------------------------- */

typedef struct Entry Entry;
struct Entry {
    const char *path;
    uint64_t dir;
};

typedef struct Table Table;
struct Table {
    Entry *at;
    size_t n;
};

/* A value of one of the forms that a header may have. */
static uint64_t take_form(Bytes *b, Bytes strings, uint64_t form, const char **text) {
    enum { DATA2 = 0x05, DATA4 = 0x06, DATA8 = 0x07, STRING = 0x08, DATA1 = 0x0b, UDATA = 0x0f, DATA16 = 0x1e, LINE_STRP = 0x1f };
    switch (form) {
    case DATA1: return take(b, 1);
    case DATA2: return take(b, 2);
    case DATA4: return take(b, 4);
    case DATA8: return take(b, 8);
    case UDATA: return leb(b, false);
    case DATA16: part(b, 16); return 0;
    case STRING: *text = take_string(b); return 0;
    case LINE_STRP:
        part(&strings, take(b, 4));
        *text = take_string(&strings);
        b->over |= strings.over;
        return 0;
    default: b->over = true; return 0;
    }
}

static Table take_table(Arena *a, Bytes *b, Bytes strings) {
    enum { PATH = 1, DIRECTORY = 2 };
    uint64_t n_formats = take(b, 1), format[255][2];
    for (uint64_t i = 0; i < n_formats; i++) format[i][0] = leb(b, false), format[i][1] = leb(b, false);
    Table t = {.n = leb(b, false)};
    if (t.n > MAX_FILES) b->over = true, t.n = 0;
    t.at = arena_array(a, t.n, sizeof *t.at);
    for (size_t i = 0; i < t.n; i++) {
        t.at[i].path = "";
        for (uint64_t k = 0; k < n_formats; k++) {
            const char *text = "";
            uint64_t v = take_form(b, strings, format[k][1], &text);
            if (format[k][0] == PATH) t.at[i].path = text;
            if (format[k][0] == DIRECTORY) t.at[i].dir = v;
        }
    }
    return t;
}

static const char *file_name(Arena *a, const Table *dirs, const Entry *f) {
    const char *dir = f->dir && f->dir < dirs->n ? dirs->at[f->dir].path : "", *slash = strrchr(f->path, '/');
    if (*f->path == '/') return slash + 1;
    return *dir && *dir != '/' ? arena_printf(a, "%s/%s", dir, f->path) : f->path;
}

/* --- the line program ------------------------------------------------------------------------------------------------- */

typedef struct Row Row;
struct Row {
    uint64_t address;
    uint32_t file, line, order; /* file: of Lines.files, from 1; 0: of none */
};

typedef struct Lines Lines;
struct Lines {
    Arena *a;
    struct { const char **at; size_t n, cap; } files;
    struct { Row *at; size_t n, cap; } rows;
};

typedef struct Unit Unit; /* the head of one program */
struct Unit {
    uint64_t min_inst, line_range, opcode_base, lengths[256];
    int8_t line_base;
    Table dirs, files;
};

static uint32_t file_index(Lines *l, const Unit *u, uint64_t file) {
    if (file >= u->files.n) return 0;
    const char *name = file_name(l->a, &u->dirs, &u->files.at[file]);
    for (size_t i = 0; i < l->files.n; i++)
        if (!strcmp(l->files.at[i], name)) return (uint32_t)i + 1;
    PUSH(l->a, l->files, name);
    return (uint32_t)l->files.n;
}

static void add_row(Lines *l, const Unit *u, uint64_t address, uint64_t file, uint64_t line, bool end) {
    bool known = !end && line && line <= INT32_MAX;
    Row r = {address, known ? file_index(l, u, file) : 0, known ? (uint32_t)line : 0, (uint32_t)l->rows.n};
    PUSH(l->a, l->rows, r);
}

static bool take_unit(Lines *l, Bytes *b, Bytes strings, Unit *u) {
    uint64_t version = take(b, 2), address = take(b, 1), segment = take(b, 1);
    if (version != 5 || address != 8 || segment) return false;
    take(b, 4);
    u->min_inst = take(b, 1), take(b, 2);
    u->line_base = (int8_t)take(b, 1), u->line_range = take(b, 1), u->opcode_base = take(b, 1);
    for (uint64_t i = 1; i < u->opcode_base; i++) u->lengths[i] = take(b, 1);
    u->dirs = take_table(l->a, b, strings);
    u->files = take_table(l->a, b, strings);
    return !b->over && u->line_range && u->opcode_base;
}

typedef struct Machine Machine;
struct Machine {
    uint64_t address, file, line;
};

static void extended(Lines *l, const Unit *u, Bytes *b, Machine *m) {
    enum { END_SEQUENCE = 1, SET_ADDRESS = 2 };
    Bytes in = part(b, leb(b, false));
    uint64_t code = take(&in, 1);
    if (code == SET_ADDRESS) m->address = take(&in, 8);
    if (code == END_SEQUENCE) add_row(l, u, m->address, 0, 0, true), *m = (Machine){0, 1, 1};
}

static void standard(Lines *l, const Unit *u, Bytes *b, Machine *m, uint64_t code) {
    enum { COPY = 1, ADVANCE_PC = 2, ADVANCE_LINE = 3, SET_FILE = 4, CONST_ADD_PC = 8, FIXED_ADVANCE_PC = 9 };
    switch (code) {
    case COPY: add_row(l, u, m->address, m->file, m->line, false); break;
    case ADVANCE_PC: m->address += leb(b, false) * u->min_inst; break;
    case ADVANCE_LINE: m->line += leb(b, true); break;
    case SET_FILE: m->file = leb(b, false); break;
    case CONST_ADD_PC: m->address += (255 - u->opcode_base) / u->line_range * u->min_inst; break;
    case FIXED_ADVANCE_PC: m->address += take(b, 2); break;
    default:
        for (uint64_t i = 0; i < u->lengths[code]; i++) leb(b, false);
    }
}

static bool run_unit(Lines *l, Bytes b, Bytes strings) {
    Unit u = {0};
    if (!take_unit(l, &b, strings, &u)) return false;
    Machine m = {0, 1, 1};
    while (b.at < b.end) {
        uint64_t code = take(&b, 1);
        if (!code) extended(l, &u, &b, &m);
        else if (code < u.opcode_base) standard(l, &u, &b, &m, code);
        else {
            code -= u.opcode_base;
            m.address += code / u.line_range * u.min_inst;
            m.line += (uint64_t)(int64_t)(u.line_base + (int)(code % u.line_range));
            add_row(l, &u, m.address, m.file, m.line, false);
        }
    }
    return !b.over;
}

static bool run_program(Lines *l, const Elf *f) {
    Bytes b = section(f, ".debug_line"), strings = section(f, ".debug_line_str");
    while (b.at < b.end) {
        uint64_t n = take(&b, 4); /* DWARF64 begins with 0xffffffff, which is too long here */
        Bytes unit = part(&b, n);
        if (b.over || !run_unit(l, unit, strings)) return false;
    }
    return l->rows.n > 0;
}

/* --- the table as text -------------------------------------------------------------------------------------------------- */

static int by_address(const void *x, const void *y) {
    const Row *a = x, *b = y;
    return a->address != b->address ? (a->address > b->address) - (a->address < b->address)
                                    : (a->order > b->order) - (a->order < b->order);
}

static char *lines_text(Arena *a, Lines *l) {
    Text t = {0};
    Row last = {0}, *r = l->rows.at;
    qsort(r, l->rows.n, sizeof *r, by_address);
    for (size_t i = 0; i < l->files.n; i++) text_add(&t, "FILE %s\n", l->files.at[i]);
    for (size_t i = 0; i < l->rows.n; i++) {
        if (i + 1 < l->rows.n && r[i + 1].address == r[i].address) continue; /* the last word counts */
        if (r[i].file == last.file && r[i].line == last.line) continue;
        text_add(&t, "%llu %u %u\n", (unsigned long long)(r[i].address - last.address) / 4, r[i].file, r[i].line);
        last = r[i];
    }
    char *s = arena_strndup(a, t.at, t.n);
    text_free(&t);
    return s;
}

/* --- the code object without its debug sections ----------------------------------------------------------------------------- */

static bool is_debug(const Elf *f, const Elf64_Shdr *s) { return !strncmp(section_name(f, s), ".debug_", 7); }

/* What is loaded lies before all else and stays where it is; the rest moves up, and the table of sections comes last. */
static void strip(Arena *a, const Elf *f, RtcJob *job) {
    size_t top = f->head.e_phoff + (size_t)f->head.e_phnum * f->head.e_phentsize, n = 0;
    uint32_t to[MAX_SECTIONS] = {0};
    Elf64_Shdr kept[MAX_SECTIONS];
    for (int i = 0; i < f->head.e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_flags & SHF_ALLOC && s->sh_type != SHT_NOBITS && s->sh_offset + s->sh_size > top) top = s->sh_offset + s->sh_size;
        if (!is_debug(f, s)) to[i] = (uint32_t)n, kept[n++] = *s;
    }
    if (top > f->n) return;
    uint8_t *out = arena_alloc(a, f->n + MAX_SECTIONS * 16); /* zeroed; alignments of what is kept are at most 16 more each */
    memcpy(out, f->at, top);
    for (size_t i = 0; i < n; i++) {
        Elf64_Shdr *s = &kept[i];
        s->sh_link = s->sh_link < f->head.e_shnum ? to[s->sh_link] : 0;
        if (!s->sh_type || s->sh_flags & SHF_ALLOC || s->sh_type == SHT_NOBITS) continue;
        uint64_t align = s->sh_addralign ? s->sh_addralign : 1;
        if (align > 16) return;
        top = (top + align - 1) / align * align;
        memcpy(out + top, f->at + s->sh_offset, s->sh_size);
        s->sh_offset = top, top += s->sh_size;
    }
    Elf64_Ehdr h = f->head;
    h.e_shoff = top = (top + 7) & ~(size_t)7, h.e_shnum = (uint16_t)n, h.e_shstrndx = (uint16_t)to[h.e_shstrndx];
    memcpy(out, &h, sizeof h);
    memcpy(out + top, kept, n * sizeof *kept);
    job->code = out, job->code_size = top + n * sizeof *kept;
}

void rtc_lines(Arena *a, RtcJob *job) {
    Elf f;
    if (!elf_open(&f, job->code, job->code_size)) return;
    Arena *own = arena_new();
    Lines l = {.a = own};
    if (run_program(&l, &f)) job->lines = lines_text(a, &l);
    strip(a, &f, job);
    arena_free(own);
}
