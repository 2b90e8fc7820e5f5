/* rtc_comgr.c - what AMD's code object manager knows: the archs it can make, and what is inside a code object.
 *
 * Declared here by hand, from comgr's API (amd_comgr.h 2.4; the same in 2.x and 3.x), so that building needs no ROCm.
 * Runs in workers only. */
#include "rtc_internal.h"

#include <ctype.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdlib.h>

typedef struct Handle Handle; /* every comgr object is passed as a struct that holds one 64-bit handle */
struct Handle {
    uint64_t handle;
};
enum { KIND_EXECUTABLE = 8 }; /* AMD_COMGR_DATA_KIND_EXECUTABLE */

typedef uint64_t (*ReadFn)(uint64_t from, char *to, uint64_t size, void *ctx);
typedef void (*PrintFn)(const char *text, void *ctx);
typedef void (*NoteFn)(uint64_t address, void *ctx);

/* clang-format off */
#define COMGR_FUNCTIONS(X)                                                                   \
    X(void, get_version,             (size_t *major, size_t *minor))                         \
    X(int,  get_isa_count,           (size_t *n))                                            \
    X(int,  get_isa_name,            (size_t i, const char **name))                          \
    X(int,  create_data,             (int kind, Handle *data))                               \
    X(int,  set_data,                (Handle data, size_t n, const char *bytes))             \
    X(int,  get_data_isa_name,       (Handle data, size_t *n, char *name))                   \
    X(int,  get_data_metadata,       (Handle data, Handle *node))                            \
    X(int,  metadata_lookup,         (Handle node, const char *key, Handle *value))          \
    X(int,  get_metadata_list_size,  (Handle node, size_t *n))                               \
    X(int,  index_list_metadata,     (Handle node, size_t i, Handle *value))                 \
    X(int,  get_metadata_string,     (Handle node, size_t *n, char *text))                   \
    X(int,  create_disassembly_info, (const char *isa, ReadFn, PrintFn, NoteFn, Handle *d))  \
    X(int,  disassemble_instruction, (Handle d, uint64_t address, void *ctx, uint64_t *size))
/* clang-format on */

struct Comgr {
#define X(type, name, args) type(*name) args;
    COMGR_FUNCTIONS(X)
#undef X
};

Comgr *comgr_open(Arena *a, const char *beside, bool newest, RtcTool *tool) {
    static const char *const names[] = {"libamd_comgr.so.3", "libamd_comgr.so.2", "libamd_comgr.so.3",
                                        "libamd_comgr.so"};
    LibraryFault fault = {""};
    void *lib = NULL;
    for (int there = 1; there >= 0 && !lib; there--)
        for (int i = newest ? 0 : 1; i < (int)LEN(names) && !lib; i++)
            lib = library_open(there ? arena_printf(a, "%s/%s", beside, names[i]) : names[i], RTLD_LAZY | RTLD_LOCAL,
                               &fault);
    if (!lib && *fault.why)
        return err_set(&tool->err, "%s is there, but comgr, which it needs, does not load: %s", tool->name, fault.why), NULL;
    if (!lib) {
        tool->absent = true;
        err_set(&tool->err, "no comgr found (libamd_comgr.so): install libamd-comgr2 (Debian) or comgr (ROCm)");
        return NULL;
    }
    Comgr *c = arena_alloc(a, sizeof *c);
#define X(type, name, args)                                                                                            \
    if (!(*(void **)&c->name = dlsym(lib, "amd_comgr_" #name))) {                                                      \
        err_set(&tool->err, "comgr lacks amd_comgr_" #name ": it is too old (2.0 or later is needed)");                         \
        return NULL;                                                                                                   \
    }
    COMGR_FUNCTIONS(X)
#undef X
    return c;
}

void comgr_archs(Comgr *c, RtcTool *tool) {
    size_t n = 0;
    c->get_isa_count(&n);
    for (size_t i = 0; i < n && tool->n_archs < LEN(tool->archs); i++) {
        const char *isa;
        if (c->get_isa_name(i, &isa)) continue;
        const char *arch = strstr(isa, "--"); /* "amdgcn-amd-amdhsa--gfx90a" */
        if (arch) snprintf(tool->archs[tool->n_archs++], sizeof tool->archs[0], "%s", arch + 2);
    }
}

/* --- metadata ---------------------------------------------------------------------------------------------------- */

static bool text_of(Comgr *c, Handle map, const char *key, char *to, size_t room) {
    Handle v;
    size_t n = 0;
    return !c->metadata_lookup(map, key, &v) && !c->get_metadata_string(v, &n, NULL) && n > 0 && n <= room &&
           !c->get_metadata_string(v, &n, to);
}

static uint32_t number_of(Comgr *c, Handle map, const char *key) {
    char text[32]; /* absent is 0: .agpr_count exists only where there are AGPRs */
    return text_of(c, map, key, text, sizeof text) ? (uint32_t)strtoul(text, NULL, 0) : 0;
}

static bool describe(Comgr *c, Handle map, RtcKernel *k) {
    k->vgprs = number_of(c, map, ".vgpr_count");
    k->agprs = number_of(c, map, ".agpr_count");
    k->sgprs = number_of(c, map, ".sgpr_count");
    k->lds = number_of(c, map, ".group_segment_fixed_size");
    k->scratch = number_of(c, map, ".private_segment_fixed_size");
    k->vgpr_spills = number_of(c, map, ".vgpr_spill_count");
    k->sgpr_spills = number_of(c, map, ".sgpr_spill_count");
    k->kernarg = number_of(c, map, ".kernarg_segment_size");
    k->max_block = number_of(c, map, ".max_flat_workgroup_size");
    return text_of(c, map, ".name", k->symbol, sizeof k->symbol);
}

/* --- disassembly ------------------------------------------------------------------------------------------------- */

typedef struct Code Code; /* the bytes of one section of instructions, at their address */
struct Code {
    const char *bytes;
    uint64_t address, size;
    RtcKernel *kernel; /* being counted */
};

/* The section and extent of function `name` in an ELF file; every offset is checked, since a file could hold anything. */
static bool find_function(const char *elf, size_t n, const char *name, Code *code, uint64_t *address, uint64_t *size) {
    Elf64_Ehdr eh;
    if (n < sizeof eh) return false;
    memcpy(&eh, elf, sizeof eh);
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_shentsize != sizeof(Elf64_Shdr) || eh.e_shoff > n || eh.e_shnum > (n - eh.e_shoff) / sizeof(Elf64_Shdr))
        return false;
    Elf64_Shdr sh[64];
    if (eh.e_shnum > LEN(sh)) return false;
    memcpy(sh, elf + eh.e_shoff, eh.e_shnum * sizeof *sh);
    for (int i = 0; i < eh.e_shnum; i++)
        if (sh[i].sh_type != SHT_NOBITS && (sh[i].sh_offset > n || sh[i].sh_size > n - sh[i].sh_offset)) return false;
    for (int i = 0; i < eh.e_shnum; i++) {
        if ((sh[i].sh_type != SHT_DYNSYM && sh[i].sh_type != SHT_SYMTAB) || sh[i].sh_link >= eh.e_shnum) continue;
        const Elf64_Shdr *str = &sh[sh[i].sh_link];
        for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= sh[i].sh_size; at += sizeof(Elf64_Sym)) {
            Elf64_Sym s;
            memcpy(&s, elf + sh[i].sh_offset + at, sizeof s);
            if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx >= eh.e_shnum || s.st_name >= str->sh_size) continue;
            const char *text = elf + str->sh_offset + s.st_name;
            size_t room = str->sh_size - s.st_name;
            if (strnlen(text, room) == room || strcmp(text, name)) continue;
            const Elf64_Shdr *in = &sh[s.st_shndx];
            if (in->sh_type != SHT_PROGBITS || s.st_value < in->sh_addr || s.st_value - in->sh_addr > in->sh_size ||
                s.st_size > in->sh_size - (s.st_value - in->sh_addr))
                return false;
            *code = (Code){.bytes = elf + in->sh_offset, .address = in->sh_addr, .size = in->sh_size};
            *address = s.st_value, *size = s.st_size;
            return true;
        }
    }
    return false;
}

static uint64_t read_code(uint64_t from, char *to, uint64_t size, void *ctx) {
    const Code *code = ctx;
    if (from < code->address || from - code->address >= code->size) return 0;
    uint64_t at = from - code->address, left = code->size - at;
    if (size > left) size = left;
    memcpy(to, code->bytes + at, size);
    return size;
}

static bool starts(const char *s, const char *with) { return !strncmp(s, with, strlen(with)); }

static void count(const char *text, void *ctx) {
    RtcKernel *k = ((Code *)ctx)->kernel;
    while (isspace((unsigned char)*text)) text++;
    if (starts(text, "v_mfma_")) k->mfma++;
    /* gfx11 and later write b128 for what was dwordx4 */
    if (starts(text, "global_load_dwordx4") || starts(text, "global_load_b128")) k->loads16++;
}

static void no_note(uint64_t address, void *ctx) { (void)address, (void)ctx; }

static bool disassemble(Comgr *c, Handle dis, const RtcJob *job, RtcKernel *k, Err *e) {
    Code code;
    uint64_t at, size, end;
    if (!find_function(job->code, job->code_size, k->symbol, &code, &at, &size))
        return err_set(e, "kernel %s: no code of that name in the code object", k->symbol);
    code.kernel = k;
    k->code_bytes = (uint32_t)size;
    for (end = at + size; at < end; at += size)
        if (c->disassemble_instruction(dis, at, &code, &size) || !size)
            return err_set(e, "kernel %s: comgr cannot disassemble the instruction at 0x%llx", k->symbol,
                           (unsigned long long)at);
    return true;
}

bool comgr_kernels(Comgr *c, Arena *a, RtcJob *job, Err *e) {
    Handle data, meta, list, map, dis;
    char isa[128];
    size_t n = 0, isa_n = 0;
    if (c->create_data(KIND_EXECUTABLE, &data) || c->set_data(data, job->code_size, job->code) ||
        c->get_data_isa_name(data, &isa_n, NULL) || isa_n > sizeof isa || c->get_data_isa_name(data, &isa_n, isa) ||
        c->get_data_metadata(data, &meta))
        return err_set(e, "comgr cannot read the code object that the compiler made");
    if (c->metadata_lookup(meta, "amdhsa.kernels", &list)) return true; /* no kernel in it */
    if (c->get_metadata_list_size(list, &n)) return err_set(e, "comgr cannot list the kernels of the code object that the compiler made");
    if (c->create_disassembly_info(isa, read_code, count, no_note, &dis))
        return err_set(e, "comgr cannot disassemble code for %s", isa);
    job->kernels = arena_array(a, n, sizeof *job->kernels);
    for (size_t i = 0; i < n; i++) {
        RtcKernel *k = &job->kernels[i];
        if (c->index_list_metadata(list, i, &map) || !describe(c, map, k))
            return err_set(e, "kernel %zu has no readable name of at most %zu bytes", i, sizeof k->symbol - 1);
        if (!disassemble(c, dis, job, k, e)) return false;
    }
    job->n_kernels = (int)n;
    return true;
}
