/* load.c - a code object to an EmuModule: the loaded image, its kernels, and its instructions through comgr.
 *
 * The ELF's segments are copied to their addresses in one image, relocated, and disassembled there; so s_getpc_b64 and
 * addresses computed from it (functions, constant tables, __device__ variables) are host addresses inside the image.
 * comgr is dlopen'ed, and used by one thread at a time: nothing says that it may be used by more. */
#include <amd_comgr.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "decode.h"
#include "ir/library.h"

/* --- comgr ------------------------------------------------------------------------------------------------------------ */

#define COMGR_FUNCTIONS(X)                                                                                             \
    X(create_data) X(release_data) X(set_data) X(get_data_metadata) X(destroy_metadata) X(metadata_lookup)             \
    X(get_metadata_string) X(get_metadata_list_size) X(index_list_metadata) X(create_disassembly_info)                 \
    X(destroy_disassembly_info) X(disassemble_instruction) X(get_data_isa_name)

typedef struct Comgr Comgr;
struct Comgr {
    void *lib;
#define X(f) __typeof__(amd_comgr_##f) *f;
    COMGR_FUNCTIONS(X)
#undef X
};

static pthread_mutex_t comgr_lock = PTHREAD_MUTEX_INITIALIZER;

static bool comgr_open(Comgr *c, Err *e) {
    static const char *const names[] = {"libamd_comgr.so.2", "libamd_comgr.so.3", "libamd_comgr.so",
                                        "/opt/rocm/lib/libamd_comgr.so.2", "/opt/rocm/lib/libamd_comgr.so.3", "/opt/rocm/lib/libamd_comgr.so"};
    c->lib = NULL;
    /* Never closed: LLVM inside comgr does not survive being unloaded and loaded again. */
    LibraryFault fault = {""};
    for (size_t i = 0; i < LEN(names) && !c->lib; i++) c->lib = library_open(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, &fault);
    if (!c->lib)
        return err_set(e, "the emulator needs comgr to disassemble code objects: %s",
                       *fault.why ? fault.why : "there is no libamd_comgr.so; install libamd-comgr2 (Debian) or comgr (ROCm)");
#define X(f)                                                                                                           \
    *(void **)&c->f = dlsym(c->lib, "amd_comgr_" #f);                                                                  \
    if (!c->f) return err_set(e, "libamd_comgr.so has no amd_comgr_" #f);
    COMGR_FUNCTIONS(X)
#undef X
    return true;
}

typedef amd_comgr_metadata_node_t Node;

static bool meta_string(const Comgr *c, Node map, const char *key, char *out, size_t size) {
    Node n;
    *out = 0;
    if (c->metadata_lookup(map, key, &n) != AMD_COMGR_STATUS_SUCCESS) return false;
    size_t have = size;
    bool ok = c->get_metadata_string(n, &have, NULL) == AMD_COMGR_STATUS_SUCCESS && have <= size &&
              c->get_metadata_string(n, &have, out) == AMD_COMGR_STATUS_SUCCESS;
    c->destroy_metadata(n);
    return ok;
}

static uint32_t meta_u32(const Comgr *c, Node map, const char *key) {
    char s[32];
    return meta_string(c, map, key, s, sizeof s) ? (uint32_t)strtoul(s, NULL, 0) : 0;
}

/* --- ELF ----------------------------------------------------------------------------------------------------------------- */

typedef struct Elf Elf;
struct Elf {
    const uint8_t *at;
    size_t size;
    const Elf64_Ehdr *head;
    const Elf64_Shdr *sections;
};

static const void *elf_at(const Elf *f, uint64_t offset, uint64_t size) {
    uint64_t end;
    return __builtin_add_overflow(offset, size, &end) || end > f->size ? NULL : f->at + offset;
}

enum { EM_AMDGPU_ = 224, MACH_GFX90A = 0x3f };

static bool elf_open(Elf *f, const void *p, size_t size, Err *e) {
    *f = (Elf){.at = p, .size = size};
    f->head = elf_at(f, 0, sizeof *f->head);
    if (!f->head || memcmp(f->head->e_ident, ELFMAG, SELFMAG) || f->head->e_ident[EI_CLASS] != ELFCLASS64)
        return err_set(e, "not an ELF code object");
    if (f->head->e_machine != EM_AMDGPU_) return err_set(e, "an ELF file, but not for an AMD GPU");
    if ((f->head->e_flags & 0xff) != MACH_GFX90A)
        return err_set(e, "the emulator runs gfx90a code only (this code object's machine is 0x%x)", f->head->e_flags & 0xff);
    f->sections = elf_at(f, f->head->e_shoff, (uint64_t)f->head->e_shnum * sizeof *f->sections);
    return f->sections || err_set(e, "code object without a section table");
}

static const Elf64_Phdr *elf_segments(const Elf *f) {
    return elf_at(f, f->head->e_phoff, (uint64_t)f->head->e_phnum * sizeof(Elf64_Phdr));
}

static bool image_load(EmuModule *m, const Elf *f, Err *e) {
    const Elf64_Phdr *ph = elf_segments(f);
    uint64_t top = 0;
    if (!ph) return err_set(e, "code object without segments");
    for (int i = 0; i < f->head->e_phnum; i++)
        if (ph[i].p_type == PT_LOAD && ph[i].p_vaddr + ph[i].p_memsz > top) top = ph[i].p_vaddr + ph[i].p_memsz;
    if (!top || top > 1u << 30) return err_set(e, "code object of %llu bytes", (unsigned long long)top);
    m->image_size = (size_t)(top + 4095) & ~(size_t)4095;
    m->image = mmap(NULL, m->image_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->image == MAP_FAILED) return m->image = NULL, err_set(e, "out of memory for a code object's image");
    for (int i = 0; i < f->head->e_phnum; i++) {
        if (ph[i].p_type != PT_LOAD) continue;
        const void *from = elf_at(f, ph[i].p_offset, ph[i].p_filesz);
        if (!from || ph[i].p_filesz > ph[i].p_memsz) return err_set(e, "code object with a broken segment");
        memcpy(m->image + ph[i].p_vaddr, from, ph[i].p_filesz);
    }
    return true;
}

static const Elf64_Sym *elf_symbols(const Elf *f, const Elf64_Shdr *s, size_t *n) {
    *n = s->sh_size / sizeof(Elf64_Sym);
    return elf_at(f, s->sh_offset, s->sh_size);
}

/* R_AMDGPU_RELATIVE64 and R_AMDGPU_ABS64: what a linked code object may still hold. */
static bool relocate(EmuModule *m, const Elf *f, Err *e) {
    for (int i = 0; i < f->head->e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type != SHT_RELA || s->sh_link >= f->head->e_shnum) continue;
        const Elf64_Rela *r = elf_at(f, s->sh_offset, s->sh_size);
        size_t n_syms, n = s->sh_size / sizeof *r;
        const Elf64_Sym *syms = elf_symbols(f, &f->sections[s->sh_link], &n_syms);
        for (size_t k = 0; r && k < n; k++) {
            uint64_t type = ELF64_R_TYPE(r[k].r_info), sym = ELF64_R_SYM(r[k].r_info), value = (uint64_t)r[k].r_addend;
            if (type == 3 && syms && sym < n_syms && syms[sym].st_shndx != SHN_UNDEF) value += syms[sym].st_value;
            else if (type != 13) return err_set(e, "code object with relocation type %u: not implemented", (unsigned)type);
            if (r[k].r_offset + 8 > m->image_size) return err_set(e, "code object with a relocation outside it");
            value += (uint64_t)(uintptr_t)m->image;
            memcpy(m->image + r[k].r_offset, &value, 8);
        }
    }
    return true;
}

/* The address of a dynamic symbol; 0 when absent. */
static uint64_t symbol_address(const Elf *f, const char *name) {
    for (int i = 0; i < f->head->e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if ((s->sh_type != SHT_DYNSYM && s->sh_type != SHT_SYMTAB) || s->sh_link >= f->head->e_shnum) continue;
        size_t n;
        const Elf64_Sym *syms = elf_symbols(f, s, &n);
        const Elf64_Shdr *names = &f->sections[s->sh_link];
        for (size_t k = 0; syms && k < n; k++) {
            if (syms[k].st_name >= names->sh_size) continue;
            const char *at = elf_at(f, names->sh_offset + syms[k].st_name, 1);
            if (at && !strncmp(at, name, names->sh_size - syms[k].st_name) && syms[k].st_value) return syms[k].st_value;
        }
    }
    return 0;
}

/* --- kernels --------------------------------------------------------------------------------------------------------------- */

static bool read_hidden(EmuModule *m, const Comgr *c, Kernel *k, Node map) {
    Node args;
    size_t n = 0;
    if (c->metadata_lookup(map, ".args", &args) != AMD_COMGR_STATUS_SUCCESS) return true;
    c->get_metadata_list_size(args, &n);
    k->hidden = arena_array(m->arena, n + 1, sizeof *k->hidden);
    for (size_t i = 0; i < n; i++) {
        Node a;
        if (c->index_list_metadata(args, i, &a) != AMD_COMGR_STATUS_SUCCESS) continue;
        struct Hidden h = {.offset = meta_u32(c, a, ".offset"), .size = meta_u32(c, a, ".size")};
        meta_string(c, a, ".value_kind", h.kind, sizeof h.kind);
        if (!strncmp(h.kind, "hidden_", 7)) k->hidden[k->n_hidden++] = h;
        else if (h.offset + h.size > k->pub.explicit_bytes) k->pub.explicit_bytes = h.offset + h.size;
        c->destroy_metadata(a);
    }
    c->destroy_metadata(args);
    return true;
}

static bool read_descriptor(EmuModule *m, const Elf *f, Kernel *k, const char *symbol, Err *e) {
    uint64_t at = symbol_address(f, symbol);
    if (!at || at + 64 > m->image_size) return err_set(e, "kernel %s has no descriptor", k->pub.name);
    const uint8_t *kd = m->image + at;
    int64_t entry;
    memcpy(&entry, kd + 16, 8);
    memcpy(&k->rsrc3, kd + 44, 4);
    memcpy(&k->rsrc1, kd + 48, 4);
    memcpy(&k->rsrc2, kd + 52, 4);
    k->props = (uint32_t)kd[56] | (uint32_t)kd[57] << 8;
    k->entry = at + (uint64_t)entry;
    if (kd[58] | kd[59]) return err_set(e, "kernel %s preloads its arguments into SGPRs: not implemented", k->pub.name);
    return true;
}

static bool read_kernel(EmuModule *m, const Comgr *c, const Elf *f, Kernel *k, Node map, Err *e) {
    char symbol[256];
    if (!meta_string(c, map, ".name", k->pub.name, sizeof k->pub.name))
        return err_set(e, "a kernel without a name, or with one over %zu letters", sizeof k->pub.name - 1);
    if (!meta_string(c, map, ".symbol", symbol, sizeof symbol)) return err_set(e, "kernel %s has no symbol", k->pub.name);
    const struct { const char *key; uint32_t *to; } fields[] = {
        {".vgpr_count", &k->pub.vgprs}, {".agpr_count", &k->pub.agprs}, {".sgpr_count", &k->pub.sgprs},
        {".group_segment_fixed_size", &k->pub.lds_bytes}, {".private_segment_fixed_size", &k->pub.scratch_bytes},
        {".vgpr_spill_count", &k->pub.vgpr_spills}, {".sgpr_spill_count", &k->pub.sgpr_spills},
        {".kernarg_segment_size", &k->pub.kernarg_bytes}, {".max_flat_workgroup_size", &k->pub.max_block},
    };
    for (size_t i = 0; i < LEN(fields); i++) *fields[i].to = meta_u32(c, map, fields[i].key);
    return read_hidden(m, c, k, map) && read_descriptor(m, f, k, symbol, e);
}

static bool read_kernels(EmuModule *m, const Comgr *c, const Elf *f, amd_comgr_data_t data, Err *e) {
    Node root, list, map;
    bool ok = true;
    if (c->get_data_metadata(data, &root) != AMD_COMGR_STATUS_SUCCESS) return err_set(e, "comgr finds no metadata");
    if (c->metadata_lookup(root, "amdhsa.kernels", &list) != AMD_COMGR_STATUS_SUCCESS) {
        c->destroy_metadata(root);
        return err_set(e, "the code object's metadata lists no kernels");
    }
    c->get_metadata_list_size(list, &m->n_kernels);
    m->kernels = arena_array(m->arena, m->n_kernels + 1, sizeof *m->kernels);
    for (size_t i = 0; ok && i < m->n_kernels; i++) {
        ok = c->index_list_metadata(list, i, &map) == AMD_COMGR_STATUS_SUCCESS;
        if (!ok) err_set(e, "comgr cannot read kernel %zu", i);
        if (ok) ok = read_kernel(m, c, f, &m->kernels[i], map, e), c->destroy_metadata(map);
    }
    c->destroy_metadata(list);
    c->destroy_metadata(root);
    return ok;
}

/* --- instructions ----------------------------------------------------------------------------------------------------------- */

typedef struct Disasm Disasm;
struct Disasm {
    const EmuModule *m;
    char text[256];
};

static uint64_t read_image(uint64_t from, char *to, uint64_t size, void *user) {
    const Disasm *d = user;
    if (from >= d->m->text_hi) return 0;
    if (size > d->m->text_hi - from) size = d->m->text_hi - from;
    memcpy(to, d->m->image + from, size);
    return size;
}
static void take_text(const char *text, void *user) { snprintf(((Disasm *)user)->text, 256, "%s", text); }
static void take_address(uint64_t address, void *user) { (void)address, (void)user; }

static bool find_text(EmuModule *m, const Elf *f, Err *e) {
    for (int i = 0; i < f->head->e_shnum; i++) {
        const Elf64_Shdr *s = &f->sections[i];
        if (s->sh_type != SHT_PROGBITS || !(s->sh_flags & SHF_EXECINSTR)) continue;
        if (s->sh_addr + s->sh_size > m->image_size || s->sh_addr % 4) return err_set(e, "code section outside the image");
        if (m->text_hi) return err_set(e, "more than one code section: not implemented");
        m->text_lo = (uint32_t)s->sh_addr, m->text_hi = (uint32_t)(s->sh_addr + s->sh_size) & ~3u;
    }
    return m->text_hi > m->text_lo || err_set(e, "the code object has no code");
}

static void disassemble(EmuModule *m, const Comgr *c, amd_comgr_disassembly_info_t info) {
    Decoder dec = {.arena = m->arena, .lanes = lanes_best()};
    Disasm dis = {.m = m};
    size_t words = (m->text_hi - m->text_lo) / 4;
    m->code = arena_array(m->arena, words + 1, sizeof *m->code);
    m->at_pc = arena_array(m->arena, words, sizeof *m->at_pc);
    memset(m->at_pc, -1, words * sizeof *m->at_pc);
    for (uint64_t pc = m->text_lo, size; pc < m->text_hi; pc += size) {
        Inst *i = &m->code[m->n_code];
        size = 0;
        bool ok = c->disassemble_instruction(info, pc, &dis, &size) == AMD_COMGR_STATUS_SUCCESS && size;
        if (!ok) snprintf(dis.text, sizeof dis.text, "undecodable"), size = 4;
        decode_inst(&dec, i, dis.text);
        i->pc = (uint32_t)pc, i->size = (uint32_t)size, i->index = (uint32_t)m->n_code;
        m->at_pc[(pc - m->text_lo) / 4] = (int32_t)m->n_code++;
    }
    decode_inst(&dec, &m->code[m->n_code], "end of code"); /* running off the end reports itself */
    m->code[m->n_code].pc = m->text_hi, m->code[m->n_code].index = (uint32_t)m->n_code;
    m->n_code++;
}

static void link_branches(EmuModule *m) {
    for (size_t k = 0; k < m->n_code; k++) {
        Inst *i = &m->code[k];
        bool call = i->op && !strcmp(i->op->name, "s_call_b64");
        if (i->run == run_bad || !i->op || (i->op->family != F_BRANCH && !call)) continue;
        int64_t to = (int64_t)i->pc + 4 + 4 * (int64_t)i->offset - m->text_lo;
        bool in = to >= 0 && to < m->text_hi - m->text_lo;
        if (in && m->at_pc[to / 4] >= 0) i->target = &m->code[m->at_pc[to / 4]];
        else i->run = run_bad, i->text = arena_printf(m->arena, "%s: branches outside the code", i->text);
    }
}

static bool decode_all(EmuModule *m, const Comgr *c, Err *e) {
    amd_comgr_disassembly_info_t info;
    if (c->create_disassembly_info("amdgcn-amd-amdhsa--gfx90a", read_image, take_text, take_address, &info) != AMD_COMGR_STATUS_SUCCESS)
        return err_set(e, "this comgr cannot disassemble gfx90a");
    disassemble(m, c, info);
    c->destroy_disassembly_info(info);
    link_branches(m);
    return true;
}

static bool load_with_comgr(EmuModule *m, const Elf *f, Err *e) {
    Comgr c;
    amd_comgr_data_t data;
    if (!comgr_open(&c, e)) return false;
    if (c.create_data(AMD_COMGR_DATA_KIND_EXECUTABLE, &data) != AMD_COMGR_STATUS_SUCCESS) return err_set(e, "comgr fails");
    bool ok = c.set_data(data, f->size, (const char *)f->at) == AMD_COMGR_STATUS_SUCCESS || err_set(e, "comgr rejects the code object");
    ok = ok && read_kernels(m, &c, f, data, e) && find_text(m, f, e) && decode_all(m, &c, e);
    c.release_data(data);
    dlclose(c.lib);
    return ok;
}

/* --- the interface ------------------------------------------------------------------------------------------------------------ */

EmuModule *emu_load(const void *code_object, size_t size, Err *e) {
    Elf f;
    if (!elf_open(&f, code_object, size, e)) return NULL;
    Arena *arena = arena_new();
    EmuModule *m = arena_alloc(arena, sizeof *m);
    m->arena = arena;
    pthread_mutex_lock(&comgr_lock);
    bool ok = image_load(m, &f, e) && relocate(m, &f, e) && load_with_comgr(m, &f, e);
    pthread_mutex_unlock(&comgr_lock);
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
