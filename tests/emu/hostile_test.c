/* hostile_test.c - code objects that lie: each field that the loader reads is changed to what no compiler writes, and each must be
 * an error that names it; never a crash. fuzz_code looks for more. */
#include <elf.h>

#include "runtime/emu/decode.h"
#include "runtime/emu/emu.h"
#include "rtc.h"

static int failed;
static uint8_t *object; /* as compiled */
static size_t object_size;

static void verdict(const char *name, bool ok, const char *why) {
    if (ok) printf("ok hostile-%s\n", name);
    else printf("FAIL hostile-%s: %s\n", name, why), failed++;
    fflush(stdout);
}

static const char source[] = "extern \"C\" __global__ void k(int *y, const int *x) {\n"
                             "    int a[20000];\n" /* 80,000 bytes of scratch: in the metadata a number of 5 bytes */
                             "    for (int i = 0; i < 20000; i++) a[i] = x[i & 7];\n"
                             "    y[threadIdx.x] = a[x[threadIdx.x] & 8191] + blockDim.x;\n"
                             "}\n"
                             "extern \"C\" __global__ void store(int *y) { y[threadIdx.x] = 1; }\n";

/* --- parts of the object -------------------------------------------------------------------------------------------- */

static Elf64_Ehdr *head(uint8_t *d) { return (Elf64_Ehdr *)d; }
static Elf64_Phdr *segment(uint8_t *d, uint32_t type) {
    Elf64_Phdr *p = (Elf64_Phdr *)(d + head(d)->e_phoff);
    for (int i = 0; i < head(d)->e_phnum; i++)
        if (p[i].p_type == type) return &p[i];
    die("test: no segment %u", type);
}
static Elf64_Shdr *section(uint8_t *d, uint32_t type, uint64_t flags) {
    Elf64_Shdr *s = (Elf64_Shdr *)(d + head(d)->e_shoff);
    for (int i = 0; i < head(d)->e_shnum; i++)
        if (s[i].sh_type == type && (s[i].sh_flags & flags) == flags) return &s[i];
    die("test: no section %u", type);
}
static Elf64_Shdr *code(uint8_t *d) { return section(d, SHT_PROGBITS, SHF_EXECINSTR); }

/* The symbol of a descriptor, and where that is in the file. */
static Elf64_Sym *symbol(uint8_t *d, const char *name) {
    Elf64_Shdr *s = section(d, SHT_DYNSYM, 0), *all = (Elf64_Shdr *)(d + head(d)->e_shoff);
    Elf64_Sym *y = (Elf64_Sym *)(d + s->sh_offset);
    for (size_t i = 0; i < s->sh_size / sizeof *y; i++)
        if (!strcmp((char *)d + all[s->sh_link].sh_offset + y[i].st_name, name)) return &y[i];
    die("test: no symbol %s", name);
}
static uint8_t *descriptor(uint8_t *d, const char *name) {
    Elf64_Sym *y = symbol(d, name);
    Elf64_Shdr *s = section(d, SHT_PROGBITS, SHF_ALLOC);
    return d + s->sh_offset + (y->st_value - s->sh_addr);
}

/* The value behind a key of the metadata (MessagePack), from the nth time that the key occurs on. */
static uint8_t *meta(uint8_t *d, const char *key, int nth) {
    Elf64_Shdr *s = section(d, SHT_NOTE, 0);
    uint8_t *p = d + s->sh_offset, *end = p + s->sh_size;
    size_t n = strlen(key);
    for (; (p = memmem(p, (size_t)(end - p), key, n)); p += n)
        if (nth-- == 0) return p + n;
    die("test: no %s", key);
}

/* --- the lies --------------------------------------------------------------------------------------------------------- */

static void no_magic(uint8_t *d) { d[0] = 'x'; }
static void other_arch(uint8_t *d) { head(d)->e_flags = 0x2c; }
static void section_size(uint8_t *d) { head(d)->e_shentsize = 63; }
static void section_wrap(uint8_t *d) { head(d)->e_shoff = ~63ull; }
static void section_count(uint8_t *d) { head(d)->e_shnum = 60000; }
static void segment_size(uint8_t *d) { head(d)->e_phentsize = 0; }
static void segment_table(uint8_t *d) { head(d)->e_phoff = UINT64_MAX; }
static void segment_wrap(uint8_t *d) { segment(d, PT_LOAD)->p_vaddr = ~0xffull; }
static void segment_large(uint8_t *d) { segment(d, PT_LOAD)->p_memsz = 1ull << 40; }
static void segment_file(uint8_t *d) { segment(d, PT_LOAD)->p_offset = ~7ull; }
static void segment_short(uint8_t *d) { segment(d, PT_LOAD)->p_memsz = 1; }
static void segment_empty(uint8_t *d) { segment(d, PT_LOAD)->p_memsz = 1 << 28; }
static void symbols_twice(uint8_t *d) { section(d, SHT_NOTE, 0)->sh_type = SHT_DYNSYM; }
static void code_wrap(uint8_t *d) { code(d)->sh_addr = ~0xffull; }
static void code_odd(uint8_t *d) { code(d)->sh_addr += 2; }
static void code_long(uint8_t *d) { code(d)->sh_size = 1 << 28; }
static void relocation(uint8_t *d) { /* the notes become relocations: of what type does not matter */
    Elf64_Shdr *s = section(d, SHT_NOTE, 0);
    Elf64_Rela r = {.r_offset = ~3ull, .r_info = 13};
    s->sh_type = SHT_RELA, s->sh_link = 0;
    s->sh_offset = sizeof(Elf64_Ehdr), s->sh_size = sizeof r; /* over the segments, which are read before: keep them */
    memcpy(d + object_size - sizeof r, &r, sizeof r);
    s->sh_offset = object_size - sizeof r;
}
static void relocation_type(uint8_t *d) {
    relocation(d);
    d[object_size - sizeof(Elf64_Rela) + 8] = 99;
}
static void symbol_wrap(uint8_t *d) { symbol(d, "k.kd")->st_value = ~31ull; }
static void symbol_name(uint8_t *d) { symbol(d, "k.kd")->st_name = UINT32_MAX; }
static void entry_wrap(uint8_t *d) { memset(descriptor(d, "k.kd") + 16, 0xff, 8); }
static void entry_far(uint8_t *d) { descriptor(d, "k.kd")[16 + 7] = 0x7f; }
static void scratch_huge(uint8_t *d) { memset(meta(d, ".private_segment_fixed_size", 0) + 1, 0xff, 4); }
static void arg_outside(uint8_t *d) { *meta(d, ".offset", 1) = 0x7f; }
static void class_32(uint8_t *d) { d[EI_CLASS] = ELFCLASS32; }
static void other_machine(uint8_t *d) { head(d)->e_machine = EM_X86_64; }
static void not_loaded(uint8_t *d) {
    Elf64_Phdr *p = (Elf64_Phdr *)(d + head(d)->e_phoff);
    for (int i = 0; i < head(d)->e_phnum; i++)
        if (p[i].p_type == PT_LOAD) p[i].p_type = PT_NULL;
}
static void relocations_outside(uint8_t *d) { relocation(d), section(d, SHT_RELA, 0)->sh_offset = ~7ull; }
static void code_twice(uint8_t *d) { section(d, SHT_PROGBITS, SHF_ALLOC)->sh_flags |= SHF_EXECINSTR; }
static void code_none(uint8_t *d) { code(d)->sh_size = 0; }
static void preloads(uint8_t *d) { descriptor(d, "k.kd")[58] = 1; }
static void symbol_blank(uint8_t *d) { *(meta(d, ".symbol", 0) + 1) = '\n'; }
static void scratch_word(uint8_t *d) { memcpy(meta(d, ".private_segment_fixed_size", 0), "\xa4none", 5); }
static void args_many(uint8_t *d) { memcpy(meta(d, ".args", 0), "\xdd\xff\xff\xff\xff", 5); } /* an array of 2^32 - 1: LLVM fills memory */
static void name_bad(uint8_t *d) { *(meta(d, ".name", 0) + 1) = '\n'; }

/* How LLVM ends without memory; a sanitizer's allocator has its own way. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define NO_MEMORY "comgr ended with status "
#else
#define NO_MEMORY "comgr crashed on this code object (signal 6)"
#endif

static const struct {
    const char *name;
    void (*lie)(uint8_t *d);
    const char *said;
} lies[] = {
    {"magic", no_magic, "not an ELF"},
    {"arch", other_arch, "gfx90a code only"},
    {"section-size", section_size, "sections take 63 bytes each"},
    {"section-wrap", section_wrap, "sections lie outside it"},
    {"section-count", section_count, "60000 sections"},
    {"segment-size", segment_size, "segments take 0 bytes each"},
    {"segment-table", segment_table, "segments lie outside it"},
    {"segment-wrap", segment_wrap, "a broken segment"},
    {"segment-large", segment_large, "a broken segment"},
    {"segment-file", segment_file, "a broken segment"},
    {"segment-short", segment_short, "a broken segment"},
    {"segment-empty", segment_empty, "bytes with an image of 268435456 (at most 16 times"},
    {"symbols-twice", symbols_twice, "more than one table of dynamic symbols"},
    {"code-wrap", code_wrap, "code section outside the image"},
    {"code-odd", code_odd, "code section outside the image"},
    {"code-long", code_long, "code section outside the image"},
    {"relocation", relocation, "a relocation outside it, at 0xfffffffffffffffc"},
    {"relocation-type", relocation_type, "relocation type 99"},
    {"symbol-wrap", symbol_wrap, "kernel k has no descriptor"},
    {"symbol-name", symbol_name, "kernel k has no descriptor"},
    {"entry-wrap", entry_wrap, "kernel k begins at"},
    {"entry-far", entry_far, "kernel k begins at"},
    {"scratch", scratch_huge, "kernel k asks for 4294967295 bytes of scratch"},
    {"argument", arg_outside, "kernel k: argument 1 lies at byte 127"},
    {"class", class_32, "not an ELF code object of 64 bits"},
    {"machine", other_machine, "an ELF file, but not for an AMD GPU"},
    {"not-loaded", not_loaded, "code object without a loaded segment"},
    {"relocations", relocations_outside, "code object whose relocations lie outside it"},
    {"code-twice", code_twice, "more than one code section: not implemented"},
    {"code-none", code_none, "the code object has no code"},
    {"preloads", preloads, "kernel k preloads its arguments into SGPRs: not implemented"},
    {"symbol-blank", symbol_blank, "kernel k has no symbol"},
    {"scratch-word", scratch_word, ".private_segment_fixed_size is none: not a number of 32 bits"},
    {"args-many", args_many, NO_MEMORY},
    {"name", name_bad, "printable letters"},
};

static uint8_t *copy(size_t shift) { /* malloc'ed; shifted, so that nothing is aligned */
    uint8_t *d = malloc(object_size + 16);
    if (!d) die("test: out of memory");
    memcpy(d + shift, object, object_size);
    return d;
}

static void test_lies(void) {
    for (size_t i = 0; i < LEN(lies); i++) {
        Err e = {0};
        uint8_t *d = copy(0);
        lies[i].lie(d);
        EmuModule *m = emu_load(d, object_size, &e);
        verdict(lies[i].name, !m && strstr(e.msg, lies[i].said), m ? "loaded" : e.msg);
        emu_unload(m);
        free(d);
    }
}

/* Nothing has to be aligned: an object at any address, tables at any offset. */
static void test_misaligned(void) {
    Err e = {0};
    uint8_t *d = copy(3);
    EmuModule *m = emu_load(d + 3, object_size, &e);
    verdict("misaligned", m && emu_kernel_find(m, "k") && emu_kernel_find(m, "k")->scratch_bytes >= 80000, e.msg);
    emu_unload(m);
    free(d);
}

/* Every length: an error, whatever is missing. */
static void test_cut(void) {
    const char *why = NULL;
    for (size_t n = 0; n < object_size; n += n < 64 ? 7 : 501) {
        Err e = {0};
        uint8_t *d = malloc(n + 1);
        memcpy(d, object, n);
        EmuModule *m = emu_load(d, n, &e);
        if (m || !*e.msg) why = "loaded";
        emu_unload(m);
        free(d);
    }
    verdict("cut", !why, why);
}

/* Code of any bytes: what is no instruction is reported when it is executed; what comgr does not survive is an error. */
static void test_any_code(void) {
    static int buffer[4096];
    uint64_t rng = 1, args[2] = {(uint64_t)(uintptr_t)buffer, (uint64_t)(uintptr_t)buffer};
    EmuMem *mem = emu_mem_new();
    Err e = {0};
    int ran = 0;
    if (!mem || !emu_mem_add(mem, buffer, sizeof buffer, "buffer", true, &e)) die("test: %s", e.msg);
    for (int t = 0; t < 40; t++) {
        uint8_t *d = copy(0), *at = d + code(d)->sh_offset;
        for (uint64_t i = 0; i < code(d)->sh_size; i++) {
            rng = rng * 6364136223846793005ull + 1442695040888963407ull;
            if (t % 2 || rng >> 60 == 0) at[i] = (uint8_t)(rng >> 33);
        }
        EmuModule *m = emu_load(d, object_size, &e);
        const EmuLaunch l = {.kernel = "k",
                             .grid = {1, 1, 1},
                             .block = {64, 1, 1},
                             .kernarg = args,
                             .kernarg_size = sizeof args,
                             .threads = 1,
                             .max_instructions = 1000};
        if (m) ran++, emu_launch(m, mem, &l, NULL, &e);
        emu_unload(m);
        free(d);
    }
    emu_mem_free(mem);
    verdict("any-code", ran > 10, "hardly anything loads");
}

/* What lies in a file is not written by a kernel, whatever the page's protection says. */
static void test_read_only(void) {
    static int weights[64];
    uint64_t args[1] = {(uint64_t)(uintptr_t)weights};
    EmuMem *mem = emu_mem_new();
    Err e = {0};
    EmuModule *m = emu_load(object, object_size, &e);
    if (!m || !mem || !emu_mem_add(mem, weights, sizeof weights, "weights", true, &e)) die("test: %s", e.msg);
    emu_mem_protect(mem, weights);
    const EmuLaunch l = {
        .kernel = "store", .grid = {1, 1, 1}, .block = {64, 1, 1}, .kernarg = args, .kernarg_size = sizeof args};
    bool ok = emu_launch(m, mem, &l, NULL, &e);
    verdict("read-only", !ok && strstr(e.msg, "'weights' is read-only") && !weights[0], ok ? "written" : e.msg);
    emu_mem_free(mem);
    emu_unload(m);
}

/* Launches that no device takes. */
static void test_launches(void) {
    static const uint32_t far[] = {7};
    static uint64_t room[6], *const args = room + 1;
    const size_t size = 4 * sizeof *args;
    const struct {
        const char *name;
        EmuLaunch l;
        const char *said;
    } launches[] = {
        {"grid", {.grid = {UINT32_MAX, UINT32_MAX, 9}, .block = {64, 1, 1}, .kernarg_size = 8}, "the grid is too large"},
        {"block", {.grid = {1, 1, 1}, .block = {64, 0, 1}, .kernarg_size = 8}, "a block of 0"},
        {"items", {.grid = {1, 1, 1}, .block = {64, 64, 1}, .kernarg_size = 8}, "4096 work-items in a block (at most 1024)"},
        {"lds", {.grid = {1, 1, 1}, .block = {64, 1, 1}, .kernarg_size = 8, .dynamic_lds = 70000}, "bytes of LDS (at most 65536)"},
        {"arguments", {.grid = {1, 1, 1}, .block = {64, 1, 1}}, "0 bytes of arguments, but it takes 8"},
        {"group", {.grid = {2, 1, 1}, .block = {64, 1, 1}, .kernarg_size = 8, .only = far, .n_only = 1}, "workgroup 7 of 2"},
    };
    EmuMem *mem = emu_mem_new();
    Err e = {0};
    EmuModule *m = emu_load(object, object_size, &e);
    if (!m || !mem || !emu_mem_add(mem, args, size, "args", true, &e)) die("test: %s", e.msg);
    for (size_t i = 0; i < LEN(launches); i++) {
        EmuLaunch l = launches[i].l;
        l.kernel = "store", l.kernarg = args, l.threads = 1;
        bool ok = emu_launch(m, mem, &l, NULL, &e);
        verdict(launches[i].name, !ok && strstr(e.msg, launches[i].said), ok ? "launched" : e.msg);
    }
    bool over = emu_mem_add(mem, (char *)args + 8, 8, "inside", true, &e);
    verdict("overlap", !over && strstr(e.msg, "'inside' overlaps 'args'"), over ? "added" : e.msg);
    bool before = emu_mem_add(mem, room, 16, "before", true, &e);
    verdict("overlap-before", !before && strstr(e.msg, "'before' overlaps 'args'"), before ? "added" : e.msg);
    emu_mem_mark(mem, (char *)args + 16, 8, false);
    bool whole = emu_mem_check(mem, args, size, &e);
    verdict("unwritten", !whole && strstr(e.msg, "'args': byte 16 was never written"), whole ? "whole" : e.msg);
    bool empty = emu_mem_add(mem, args, 0, "nothing", true, &e);
    verdict("empty", !empty && strstr(e.msg, "'nothing' is empty"), empty ? "added" : e.msg);
    emu_mem_free(mem);
    emu_unload(m);
}

/* Two sections of the same relocations, which are three quarters of the file: what one of them asks for is all that the file pays for. */
static void test_relocations_again(void) {
    const Elf64_Rela one = {.r_info = 13}; /* relative, at address 0 */
    size_t n = 3 * object_size / sizeof one, size = object_size + n * sizeof one;
    uint8_t *d = malloc(size);
    Err e = {0};
    if (!d) die("test: out of memory");
    memcpy(d, object, object_size);
    for (size_t i = 0; i < n; i++) memcpy(d + object_size + i * sizeof one, &one, sizeof one);
    for (int i = 0; i < 2; i++) {
        Elf64_Shdr *s = section(d, i ? SHT_DYNSYM : SHT_NOTE, 0);
        *s = (Elf64_Shdr){.sh_type = SHT_RELA, .sh_offset = object_size, .sh_size = n * sizeof one};
    }
    EmuModule *m = emu_load(d, size, &e);
    verdict("relocations-again", !m && strstr(e.msg, "more relocations than it has bytes for"), m ? "loaded" : e.msg);
    emu_unload(m);
    free(d);
}

/* Code of nothing but literals: each value has its rows, an equal one the same. */
static void test_literals(void) {
    enum { MANY = 30000 };
    Arena *a = arena_new();
    Decoder d = {.arena = a, .lanes = lanes_best(), .rows = {.arena = a}};
    const uint32_t *first = NULL;
    bool ok = true;
    for (uint32_t k = 0; k <= MANY; k++) {
        Inst i = {0};
        uint32_t value = 1000 + k % MANY;
        decode_inst(&d, &i, arena_printf(a, "v_add_u32_e32 v0, 0x%x, v0", value));
        const uint32_t *rows = i.s[0].rows;
        ok = ok && rows && rows[0] == value && rows[LANES - 1] == value && (k != MANY || rows == first);
        if (!k) first = rows;
    }
    verdict("literals", ok && d.rows.n == MANY, "a constant's rows are not its own");
    arena_free(a);
}

/* Each buffer costs time for all others: so there are not any number. */
static void test_many_buffers(void) {
    enum { MOST = 1 << 14 };
    static char bytes[MOST + 1];
    EmuMem *mem = emu_mem_new();
    Err e = {0};
    if (!mem) die("test: out of memory");
    for (int i = 0; i < MOST; i++)
        if (!emu_mem_add(mem, &bytes[i], 1, "one", true, &e)) die("test: %s", e.msg);
    bool more = emu_mem_add(mem, &bytes[MOST], 1, "more", true, &e);
    verdict("buffers", !more && strstr(e.msg, "'more' is one buffer too many: the emulator has at most 16384"), more ? "added" : e.msg);
    emu_mem_remove(mem, bytes);
    verdict("buffers-again", emu_mem_add(mem, &bytes[MOST], 1, "more", true, &e), e.msg);
    emu_mem_free(mem);
}

int main(void) {
    Err e = {0};
    object = rtc_compile(source, "-O3", &object_size, &e);
    if (!object) return printf("skip hostile: %s\n", e.msg), 0;
    test_lies();
    test_misaligned();
    test_cut();
    test_any_code();
    test_read_only();
    test_launches();
    test_many_buffers();
    test_relocations_again();
    test_literals();
    free(object);
    return failed != 0;
}
