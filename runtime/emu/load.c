/* load.c - a code object to an EmuModule: the loaded image, its kernels, and its instructions through comgr.
 *
 * The ELF's segments are copied to their addresses in one image, relocated, and disassembled there; so s_getpc_b64 and
 * addresses computed from it (functions, constant tables, __device__ variables) are host addresses inside the image.
 * Nothing in the file is trusted: its tables are copied (they may lie anywhere), and each number is checked here, where it is
 * read; what runs the code relies on it. comgr.c says what comgr makes of it. */
#include <elf.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "comgr.h"
#include "decode.h"

/* The limits are above what compilers make, and low enough for a file that lies to be refused at once. */
enum {
    EM_AMDGPU_ = 224,
    MACH_GFX90A = 0x3f,
    MAX_SECTIONS = 256,
    MAX_SEGMENTS = 64,
    DESCRIPTOR = 64,
    MAX_KERNARG = 1 << 16,
    MAX_CODE = 1 << 20, /* 15 times what the largest module of gpt-oss-120b has */
    MAX_SCRATCH = 1 << 17, /* bytes a work-item: what the hardware can address */
    /* An image is as large as its file and a few pages; relocations make the pages that they touch take memory. */
    IMAGE_TIMES = 16,
    IMAGE_MORE = 1 << 16
};
static const uint64_t MAX_IMAGE = 1ull << 30;

/* --- ELF ----------------------------------------------------------------------------------------------------------------- */

typedef struct Symbol Symbol;
struct Symbol {
    const char *name;
    uint64_t value;
};

typedef struct Elf Elf;
struct Elf {
    Arena *arena; /* of the tables below */
    const uint8_t *at;
    size_t size;
    Elf64_Ehdr head;
    Elf64_Shdr *sections;
    Elf64_Phdr *segments;
    struct {
        Symbol *at;
        size_t n, cap;
    } symbols; /* by name */
};

static const void *elf_at(const Elf *f, uint64_t offset, uint64_t size) {
    return offset <= f->size && size <= f->size - offset ? f->at + offset : NULL;
}

/* n entries of one of ELF's two tables, copied. */
static void *elf_table(const Elf *f, const char *what, uint64_t offset, size_t n, size_t entry, size_t want, size_t max,
                       Err *e) {
    if (n > max) return err_set(e, "code object with %zu %s (at most %zu)", n, what, max), NULL;
    if (n && entry != want)
        return err_set(e, "code object whose %s take %zu bytes each, not %zu", what, entry, want), NULL;
    const void *from = elf_at(f, offset, n * want);
    if (!n || !from)
        return err_set(e, n ? "code object whose %s lie outside it" : "code object without %s", what), NULL;
    return memcpy(arena_array(f->arena, n, want), from, n * want);
}

static bool elf_open(Elf *f, Arena *a, const void *p, size_t size, Err *e) {
    *f = (Elf){.arena = a, .at = p, .size = size};
    const Elf64_Ehdr *h = &f->head;
    if (size < sizeof *h || memcmp(p, ELFMAG, SELFMAG)) return err_set(e, "not an ELF code object");
    memcpy(&f->head, p, sizeof f->head);
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB)
        return err_set(e, "not an ELF code object of 64 bits");
    if (h->e_machine != EM_AMDGPU_) return err_set(e, "an ELF file, but not for an AMD GPU");
    if ((h->e_flags & 0xff) != MACH_GFX90A)
        return err_set(e, "the emulator runs gfx90a code only (this code object's machine is 0x%x)", h->e_flags & 0xff);
    f->sections =
        elf_table(f, "sections", h->e_shoff, h->e_shnum, h->e_shentsize, sizeof *f->sections, MAX_SECTIONS, e);
    if (!f->sections) return false;
    f->segments =
        elf_table(f, "segments", h->e_phoff, h->e_phnum, h->e_phentsize, sizeof *f->segments, MAX_SEGMENTS, e);
    return f->segments;
}

/* --- the image ------------------------------------------------------------------------------------------------------------- */

static bool image_load(EmuModule *m, const Elf *f, Err *e) {
    uint64_t top = 0, end;
    for (int i = 0; i < f->head.e_phnum; i++) {
        const Elf64_Phdr *s = &f->segments[i];
        if (s->p_type != PT_LOAD) continue;
        if (__builtin_add_overflow(s->p_vaddr, s->p_memsz, &end) || end > MAX_IMAGE || s->p_filesz > s->p_memsz ||
            !elf_at(f, s->p_offset, s->p_filesz))
            return err_set(e,
                           "code object with a broken segment: %llu bytes (%llu of them in the file, from %llu on) at "
                           "address 0x%llx",
                           (unsigned long long)s->p_memsz, (unsigned long long)s->p_filesz,
                           (unsigned long long)s->p_offset, (unsigned long long)s->p_vaddr);
        if (end > top) top = end;
    }
    if (!top) return err_set(e, "code object without a loaded segment");
    if (top > IMAGE_TIMES * f->size + IMAGE_MORE)
        return err_set(e, "code object of %zu bytes with an image of %llu (at most %d times as many and %d more)", f->size,
                       (unsigned long long)top, IMAGE_TIMES, IMAGE_MORE);
    m->image_size = (size_t)(top + 4095) & ~(size_t)4095;
    m->image = mmap(NULL, m->image_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->image == MAP_FAILED)
        return m->image = NULL, err_set(e, "out of memory: %zu bytes for a code object's image", m->image_size);
    for (int i = 0; i < f->head.e_phnum; i++) {
        const Elf64_Phdr *s = &f->segments[i];
        if (s->p_type == PT_LOAD && s->p_filesz)
            memcpy(m->image + s->p_vaddr, elf_at(f, s->p_offset, s->p_filesz), s->p_filesz);
    }
    return true;
}

/* Is [at, at + n) inside the image? */
static bool inside(const EmuModule *m, uint64_t at, uint64_t n) {
    return at <= m->image_size && n <= m->image_size - at;
}

static const uint8_t *section_bytes(const Elf *f, const Elf64_Shdr *s) {
    return s->sh_type == SHT_NOBITS ? NULL : elf_at(f, s->sh_offset, s->sh_size);
}

/* The symbol table that section i names, and its size in symbols; NULL: there is none. */
static const uint8_t *linked_symbols(const Elf *f, const Elf64_Shdr *s, size_t *n) {
    const Elf64_Shdr *table = s->sh_link < f->head.e_shnum ? &f->sections[s->sh_link] : NULL;
    *n = table ? table->sh_size / sizeof(Elf64_Sym) : 0;
    return table ? section_bytes(f, table) : NULL;
}

/* R_AMDGPU_RELATIVE64 and R_AMDGPU_ABS64: what a linked code object may still hold. */
static bool relocate_one(EmuModule *m, Elf64_Rela r, const uint8_t *syms, size_t n_syms, Err *e) {
    enum { ABS64 = 3, RELATIVE64 = 13 };
    uint64_t type = ELF64_R_TYPE(r.r_info), sym = ELF64_R_SYM(r.r_info),
             value = (uint64_t)r.r_addend + (uint64_t)(uintptr_t)m->image;
    Elf64_Sym s = {0};
    if (type == ABS64 && syms && sym < n_syms) memcpy(&s, syms + sym * sizeof s, sizeof s);
    if (type != RELATIVE64 && s.st_shndx == SHN_UNDEF)
        return err_set(e, "code object with relocation type %u of symbol %llu: not implemented", (unsigned)type,
                       (unsigned long long)sym);
    value += s.st_value;
    if (!inside(m, r.r_offset, sizeof value))
        return err_set(e, "code object with a relocation outside it, at 0x%llx", (unsigned long long)r.r_offset);
    memcpy(m->image + r.r_offset, &value, sizeof value);
    return true;
}

static bool relocate(EmuModule *m, const Elf *f, Err *e) {
    size_t left = f->size; /* many sections could all be the same bytes */
    for (int i = 0; i < f->head.e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type != SHT_RELA) continue;
        size_t n_syms;
        const uint8_t *table = section_bytes(f, s), *syms = linked_symbols(f, s, &n_syms);
        if (!table) return err_set(e, "code object whose relocations lie outside it");
        if (s->sh_size > left) return err_set(e, "code object with more relocations than it has bytes for");
        left -= s->sh_size;
        for (size_t k = 0; k < s->sh_size / sizeof(Elf64_Rela); k++) {
            Elf64_Rela r;
            memcpy(&r, table + k * sizeof r, sizeof r);
            if (!relocate_one(m, r, syms, n_syms, e)) return false;
        }
    }
    return true;
}

static bool find_text(EmuModule *m, const Elf *f, Err *e) {
    for (int i = 0; i < f->head.e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type != SHT_PROGBITS || !(s->sh_flags & SHF_EXECINSTR)) continue;
        /* in the file too: an image may be larger than it, and all of the code is decoded */
        if (!inside(m, s->sh_addr, s->sh_size) || s->sh_addr % 4 || !section_bytes(f, s))
            return err_set(e, "code section outside the image: %llu bytes at address 0x%llx",
                           (unsigned long long)s->sh_size, (unsigned long long)s->sh_addr);
        if (m->text_hi) return err_set(e, "more than one code section: not implemented");
        if (s->sh_size > MAX_CODE)
            return err_set(e, "%llu bytes of code (at most %d)", (unsigned long long)s->sh_size, MAX_CODE);
        m->text_lo = (uint32_t)s->sh_addr, m->text_hi = (uint32_t)(s->sh_addr + s->sh_size) & ~3u;
    }
    return m->text_hi > m->text_lo || err_set(e, "the code object has no code");
}

/* --- symbols ------------------------------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b) {
    return strcmp(((const Symbol *)a)->name, ((const Symbol *)b)->name);
}

/* Those that a kernel can be called by: defined, with a whole name of less than COMGR_NAME letters. */
static void read_table(Elf *f, const Elf64_Shdr *s) {
    if (s->sh_link >= f->head.e_shnum) return;
    const Elf64_Shdr *strings = &f->sections[s->sh_link];
    const uint8_t *table = section_bytes(f, s);
    const char *names = (const char *)section_bytes(f, strings);
    for (size_t k = 0; table && names && k < s->sh_size / sizeof(Elf64_Sym); k++) {
        Elf64_Sym sym;
        memcpy(&sym, table + k * sizeof sym, sizeof sym);
        size_t room = sym.st_name < strings->sh_size ? strings->sh_size - sym.st_name : 0;
        if (room > COMGR_NAME) room = COMGR_NAME;
        if (sym.st_value && room && memchr(names + sym.st_name, 0, room))
            PUSH(f->arena, f->symbols, ((Symbol){names + sym.st_name, sym.st_value}));
    }
}

/* ELF allows one; many could all be the same bytes. */
static bool read_symbols(Elf *f, Err *e) {
    const Elf64_Shdr *dynamic = NULL;
    for (int i = 0; i < f->head.e_shnum; i++) {
        if (f->sections[i].sh_type != SHT_DYNSYM) continue;
        if (dynamic) return err_set(e, "code object with more than one table of dynamic symbols");
        dynamic = &f->sections[i];
    }
    if (dynamic) read_table(f, dynamic);
    if (f->symbols.n) qsort(f->symbols.at, f->symbols.n, sizeof *f->symbols.at, by_name);
    return true;
}

/* The address of a symbol; 0 when absent. */
static uint64_t symbol_address(const Elf *f, const char *name) {
    const Symbol key = {.name = name}, *hit = NULL;
    if (f->symbols.n) hit = bsearch(&key, f->symbols.at, f->symbols.n, sizeof key, by_name);
    return hit ? hit->value : 0;
}

/* --- kernels --------------------------------------------------------------------------------------------------------------- */

static bool read_args(EmuModule *m, const ComgrKernel *from, Kernel *k, Err *e) {
    k->hidden = arena_array(m->arena, from->n_args, sizeof *k->hidden);
    for (uint32_t i = 0; i < from->n_args; i++) {
        const ComgrArg *a = &from->args[i];
        if (a->offset > k->pub.kernarg_bytes || a->size > k->pub.kernarg_bytes - a->offset)
            return err_set(e, "kernel %s: argument %u lies at byte %u to %llu of %u bytes of arguments", k->pub.name, i,
                           a->offset, (unsigned long long)a->offset + a->size, k->pub.kernarg_bytes);
        bool hidden = !strncmp(a->kind, "hidden_", 7);
        if (hidden) k->hidden[k->n_hidden++] = *a;
        else if (a->offset + a->size > k->pub.explicit_bytes) k->pub.explicit_bytes = a->offset + a->size;
    }
    return true;
}

static bool is_code(const EmuModule *m, uint64_t pc) {
    return pc >= m->text_lo && pc < m->text_hi && pc % 4 == 0 && m->at_pc[(pc - m->text_lo) / 4] >= 0;
}

static bool read_descriptor(EmuModule *m, const Elf *f, Kernel *k, const char *symbol, Err *e) {
    uint64_t at = symbol_address(f, symbol), entry;
    if (!at || !inside(m, at, DESCRIPTOR)) return err_set(e, "kernel %s has no descriptor", k->pub.name);
    const uint8_t *kd = m->image + at;
    memcpy(&entry, kd + 16, 8);
    memcpy(&k->rsrc3, kd + 44, 4);
    memcpy(&k->rsrc1, kd + 48, 4);
    memcpy(&k->rsrc2, kd + 52, 4);
    k->props = (uint32_t)kd[56] | (uint32_t)kd[57] << 8;
    k->entry = at + entry; /* a signed distance: the sum of two's complements */
    if (kd[58] | kd[59]) return err_set(e, "kernel %s preloads its arguments into SGPRs: not implemented", k->pub.name);
    return is_code(m, k->entry) ||
           err_set(e, "kernel %s begins at 0x%llx, which is not code", k->pub.name, (unsigned long long)k->entry);
}

static bool read_kernel(EmuModule *m, const Elf *f, const ComgrKernel *from, Kernel *k, Err *e) {
    k->pub = from->pub;
    k->pub.explicit_bytes = 0;
    if (k->pub.scratch_bytes > MAX_SCRATCH)
        return err_set(e, "kernel %s asks for %u bytes of scratch a work-item (at most %d)", k->pub.name,
                       k->pub.scratch_bytes, MAX_SCRATCH);
    if (k->pub.kernarg_bytes > MAX_KERNARG)
        return err_set(e, "kernel %s takes %u bytes of arguments (at most %d)", k->pub.name, k->pub.kernarg_bytes,
                       MAX_KERNARG);
    return read_args(m, from, k, e) && read_descriptor(m, f, k, from->symbol, e);
}

static bool read_kernels(EmuModule *m, const Elf *f, const ComgrText *text, Err *e) {
    m->kernels = arena_array(m->arena, text->n_kernels, sizeof *m->kernels);
    for (; m->n_kernels < text->n_kernels; m->n_kernels++)
        if (!read_kernel(m, f, &text->kernels[m->n_kernels], &m->kernels[m->n_kernels], e)) return false;
    return true;
}

/* --- instructions ----------------------------------------------------------------------------------------------------------- */

static void decode_all(EmuModule *m, Arena *tables, const ComgrText *text) {
    Decoder dec = {.arena = m->arena, .lanes = lanes_best(), .rows = {.arena = tables}};
    size_t words = (m->text_hi - m->text_lo) / 4;
    uint32_t pc = m->text_lo;
    m->code = arena_array(m->arena, text->n_lines + 1, sizeof *m->code);
    m->at_pc = arena_array(m->arena, words, sizeof *m->at_pc);
    memset(m->at_pc, -1, words * sizeof *m->at_pc);
    for (size_t k = 0; k <= text->n_lines; k++) { /* one more: running off the end reports itself */
        bool end = k == text->n_lines;
        Inst *i = &m->code[m->n_code];
        decode_inst(&dec, i, end ? "end of code" : *text->lines[k].text ? text->lines[k].text : "undecodable");
        i->pc = pc, i->index = (uint32_t)m->n_code++;
        if (end) break;
        m->at_pc[(pc - m->text_lo) / 4] = (int32_t)i->index;
        pc += i->size = text->lines[k].size;
    }
}

static void link_branches(EmuModule *m) {
    for (size_t k = 0; k < m->n_code; k++) {
        Inst *i = &m->code[k];
        bool call = i->op && !strcmp(i->op->name, "s_call_b64");
        if (i->run == run_bad || !i->op || (i->op->family != F_BRANCH && !call)) continue;
        int64_t to = (int64_t)i->pc + 4 + 4 * (int64_t)i->offset;
        if (to >= 0 && is_code(m, (uint64_t)to)) i->target = &m->code[m->at_pc[((uint64_t)to - m->text_lo) / 4]];
        else i->run = run_bad, i->text = arena_printf(m->arena, "%s: branches outside the code", i->text);
    }
}

/* --- the interface ------------------------------------------------------------------------------------------------------------ */

static bool load(EmuModule *m, Elf *f, Err *e) {
    ComgrText text;
    if (!image_load(m, f, e) || !relocate(m, f, e) || !find_text(m, f, e) || !read_symbols(f, e)) return false;
    const ComgrCode code = {f->at, f->size, m->image, m->text_lo, m->text_hi};
    if (!comgr_read(f->arena, &code, &text, e)) return false;
    decode_all(m, f->arena, &text);
    link_branches(m);
    return read_kernels(m, f, &text, e);
}

EmuModule *emu_load(const void *code_object, size_t size, Err *e) {
    Elf f;
    Arena *arena = arena_new(), *tables = arena_new();
    EmuModule *m = arena_alloc(arena, sizeof *m);
    m->arena = arena;
    bool ok = elf_open(&f, tables, code_object, size, e) && load(m, &f, e);
    arena_free(tables);
    if (ok) return m;
    emu_unload(m);
    return NULL;
}

void emu_unload(EmuModule *m) {
    if (!m) return;
    if (m->image) munmap(m->image, m->image_size);
    arena_free(m->arena);
}

size_t emu_kernel_count(const EmuModule *m) { return m->n_kernels; }
const EmuKernel *emu_kernel_at(const EmuModule *m, size_t i) { return i < m->n_kernels ? &m->kernels[i].pub : NULL; }

const EmuKernel *emu_kernel_find(const EmuModule *m, const char *name) {
    for (size_t i = 0; i < m->n_kernels; i++)
        if (!strcmp(m->kernels[i].pub.name, name)) return &m->kernels[i].pub;
    return NULL;
}
