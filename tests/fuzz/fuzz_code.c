/* fuzz_code.c - gfx90a code objects: loaded by the emulator, and every kernel of them executed.
 *
 * A code object's bytes are mostly padding, symbols and instructions; so mutations are aimed: at the headers' fields, at the
 * metadata, at kernel descriptors (found by what they hold) and at the code, keeping the rest plausible. */
#include <elf.h>

#include "fuzz.h"
#include "runtime/emu/emu.h"

enum { BUFFER = 4096, ARGS = 16, LONGEST = 2000 /* instructions of a wave; the seeds take at most 700 */ };

/* What the input decides: one workgroup or two, whole waves or not. */
static void launch(EmuModule *m, EmuMem *mem, const EmuKernel *k, uint64_t *buffer, uint64_t hash) {
    uint64_t args[ARGS];
    Err e = {0};
    for (int i = 0; i < ARGS; i++) args[i] = i < 8 ? (uint64_t)(uintptr_t)buffer : 3;
    EmuLaunch l = {.kernel = k->name,
                   .grid = {1 + hash % 2, 1, 1},
                   .block = {hash / 2 % 4 ? 64 : 1 + hash / 8 % 64, 1, 1},
                   .kernarg = args,
                   .kernarg_size = sizeof args,
                   .threads = 1,
                   .max_instructions = LONGEST};
    if (!emu_launch(m, mem, &l, NULL, &e)) fuzz_said(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static uint64_t buffer[BUFFER / 8];
    uint64_t hash = hash64(data, n);
    Err e = {0};
    EmuModule *m = emu_load(data, n, &e);
    if (strstr(e.msg, "said nothing for")) abort(); /* it has a limit of its own, which comes earlier */
    if (!m) return fuzz_said(&e), 0;
    EmuMem *mem = emu_mem_new();
    if (!mem || !emu_mem_add(mem, buffer, sizeof buffer, "buffer", true, &e)) abort();
    memset(buffer, 0, sizeof buffer); /* what an input does depends on it alone */
    for (size_t i = 0; i < emu_kernel_count(m) && i < 8; i++) launch(m, mem, emu_kernel_at(m, i), buffer, hash);
    emu_mem_free(mem);
    emu_unload(m);
    return 0;
}

/* --- mutation ----------------------------------------------------------------------------------------------------- */

static unsigned next(unsigned *seed) { return *seed = *seed * 1103515245u + 12345u, *seed >> 8; }

/* Another number in a field of w bytes, near what it was or at an edge. */
static void new_number(uint8_t *at, size_t w, unsigned *seed) {
    static const uint64_t edges[] = {0,          1,           4,          0xff,  0xffff, 0x7fffffff, 0x80000000,
                                     0xffffffff, 0x100000000, 1ull << 63, ~0ull, ~7ull,  ~63ull,     ~4095ull};
    uint64_t v = 0;
    memcpy(&v, at, w);
    switch (next(seed) % 4) {
    case 0: v = edges[next(seed) % LEN(edges)]; break;
    case 1: v += next(seed) % 129 - 64; break;
    case 2: v ^= 1ull << next(seed) % (8 * w); break;
    default: v = edges[next(seed) % LEN(edges)] - v; break;
    }
    memcpy(at, &v, w);
}

/* A field of one of a table's entries; widths and places of the fields as in elf.h. */
static void new_field(uint8_t *d, size_t n, uint64_t table, size_t count, size_t entry, const uint8_t (*fields)[2],
                      size_t n_fields, unsigned *seed) {
    uint64_t at = table + (count ? next(seed) % count : 0) * entry;
    const uint8_t *f = fields[next(seed) % n_fields];
    if (at < n && n - at >= entry) new_number(d + at + f[0], f[1], seed);
}

static const uint8_t head_fields[][2] = {{16, 2}, {18, 2}, {24, 8}, {32, 8}, {40, 8}, {48, 4},
                                         {54, 2}, {56, 2}, {58, 2}, {60, 2}, {62, 2}};
static const uint8_t segment_fields[][2] = {{0, 4}, {4, 4}, {8, 8}, {16, 8}, {32, 8}, {40, 8}, {48, 8}};
static const uint8_t section_fields[][2] = {{0, 4},  {4, 4},  {8, 8},  {16, 8}, {24, 8},
                                            {32, 8}, {40, 4}, {44, 4}, {56, 8}};
static const uint8_t symbol_fields[][2] = {{0, 4}, {4, 1}, {6, 2}, {8, 8}, {16, 8}};
static const uint8_t descriptor_fields[][2] = {{0, 4},  {4, 4},  {8, 4},  {16, 8}, {44, 4},
                                               {48, 4}, {52, 4}, {56, 2}, {58, 2}};

/* The nth section that is of this type, and has these flags; false: there is none. */
static bool section(const uint8_t *d, size_t n, const Elf64_Ehdr *h, uint32_t type, uint64_t flags, Elf64_Shdr *s) {
    for (size_t i = 0; i < h->e_shnum; i++) {
        uint64_t at = h->e_shoff + i * sizeof *s;
        if (at > n || n - at < sizeof *s) return false;
        memcpy(s, d + at, sizeof *s);
        if (s->sh_type == type && (s->sh_flags & flags) == flags && s->sh_offset < n &&
            s->sh_size <= n - s->sh_offset && s->sh_size)
            return true;
    }
    return false;
}

static void mutate_once(uint8_t *d, size_t n, unsigned *seed) {
    Elf64_Ehdr h;
    Elf64_Shdr s;
    memcpy(&h, d, sizeof h);
    switch (next(seed) % 10) {
    case 0: new_field(d, n, 0, 1, sizeof h, head_fields, LEN(head_fields), seed); break;
    case 1: new_field(d, n, h.e_phoff, h.e_phnum, sizeof(Elf64_Phdr), segment_fields, LEN(segment_fields), seed); break;
    case 2: new_field(d, n, h.e_shoff, h.e_shnum, sizeof(Elf64_Shdr), section_fields, LEN(section_fields), seed); break;
    case 3:
        if (section(d, n, &h, SHT_DYNSYM, 0, &s))
            new_field(d, n, s.sh_offset, s.sh_size / sizeof(Elf64_Sym), sizeof(Elf64_Sym), symbol_fields,
                      LEN(symbol_fields), seed);
        break;
    case 4: /* descriptors: 64 bytes each, in the read-only data */
        if (section(d, n, &h, SHT_PROGBITS, SHF_ALLOC, &s))
            new_field(d, n, s.sh_offset, s.sh_size / 64, 64, descriptor_fields, LEN(descriptor_fields), seed);
        break;
    case 5: /* metadata: the bytes behind a key, where its value lies */
        if (section(d, n, &h, SHT_NOTE, 0, &s)) d[s.sh_offset + next(seed) % s.sh_size] = (uint8_t)next(seed);
        break;
    case 6: /* a whole instruction word, any */
        if (section(d, n, &h, SHT_PROGBITS, SHF_EXECINSTR, &s) && s.sh_size >= 4) {
            uint32_t word = next(seed) << 16 ^ next(seed);
            memcpy(d + s.sh_offset + next(seed) % (s.sh_size / 4) * 4, &word, 4);
        }
        break;
    case 7:
    case 8: /* an operand or modifier of an instruction */
        if (section(d, n, &h, SHT_PROGBITS, SHF_EXECINSTR, &s))
            d[s.sh_offset + next(seed) % (s.sh_size < 4096 ? s.sh_size : 4096)] ^= (uint8_t)(1u << next(seed) % 8);
        break;
    default: d[next(seed) % n] = (uint8_t)next(seed); break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    if (n < sizeof(Elf64_Ehdr) || n > max || next(&seed) % 64 == 0) return LLVMFuzzerMutate(data, n, max);
    for (unsigned k = 1 + next(&seed) % 3; k; k--) mutate_once(data, n, &seed);
    return n;
}
