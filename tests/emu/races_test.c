/* races_test.c - kernels with and without what orders their waves, compiled by hipRTC as gptoss-compile does: the former run clean,
 * of the latter both lines are named. A line is marked in the source by a comment, A for the one and B for the other. */
#include <stdlib.h>

#include "rtc/rtc.h"
#include "runtime/emu/emu.h"

#pragma GCC diagnostic ignored "-Woverlength-strings"

static int failed;
static void verdict(const char *name, bool ok, const char *why) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failed++;
    fflush(stdout);
}

/* Each kernel: out, in (initialised, 4096 ints each), count (zeros). KIND is what is expected: "" clean, else words of the report. */
#define FENCE "__builtin_amdgcn_fence(__ATOMIC_ACQ_REL, \"agent\");\n"
#define ADD "__hip_atomic_fetch_add(count, 1, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT)"
/* The last of the workgroups to arrive sums what all left; each of RELEASE, BARRIER, COUNT and ACQUIRE may be left out. */
#define LAST(RELEASE, BARRIER, COUNT, ACQUIRE)                                                                                      \
    "__shared__ int before;\n"                                                                                                      \
    "out[blockIdx.x * 256 + t] = in[t]; // A\n" RELEASE BARRIER "if (t == 0) before = " COUNT "; // C\n"                            \
    "__syncthreads();\n"                                                                                                            \
    "if (before != (int)gridDim.x - 1) return;\n" ACQUIRE "if (t == 0) *count = 0;\n"                                               \
    "int s = 0;\n"                                                                                                                  \
    "for (int b = 0; b < (int)gridDim.x; b++)\n"                                                                                    \
    "s += out[b * 256 + (t + 64) % 256]; // B\n"                                                                                    \
    "out[2048 + t] = s;\n"
#define LDS_ADD "__hip_atomic_fetch_add(&s, in[t], __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP)"
#define SYNC "__syncthreads();\n"

static const struct Case {
    const char *name;
    uint32_t grid;
    const char *first, *second; /* what is said of lines A and B: "writes", "reads", "does an atomic"; NULL: clean */
    const char *where, *body;
} cases[] = {
    {"lds_missing_barrier", 1, "writes", "reads", "of LDS: ", "__shared__ int s[256];\ns[t] = in[t]; // A\nout[t] = s[255 - t]; // B\n"},
    {"lds_barrier", 2, NULL, NULL, "", "__shared__ int s[256];\ns[t] = in[t];\n__syncthreads();\nout[b * 256 + t] = s[255 - t];\n"},
    {"lds_own_wave", 1, NULL, NULL, "", "__shared__ int s[256];\ns[t] = in[t];\nout[t] = s[t ^ 63];\n"},
    {"lds_read_then_written", 1, "reads", "writes", "of LDS: ",
     "__shared__ int s[256];\ns[t] = in[t];\n__syncthreads();\nint v = s[t % 64]; // A\nout[t] = v;\nif (t >= 192) s[t - 192] = v + 1; // B\n"},
    {"lds_loop", 1, "reads", "writes", "of LDS: ",
     "__shared__ int s[256];\nint v = in[t];\nfor (int k = 0; k < in[300]; k++) {\ns[t] = v; // B\n__syncthreads();\nv = s[255 - t] + k; // A\n}\nout[t] = v;\n"},
    {"lds_loop_barriers", 1, NULL, NULL, "",
     "__shared__ int s[256];\nint v = in[t];\nfor (int k = 0; k < in[300]; k++) {\ns[t] = v;\n__syncthreads();\nv = s[255 - t] + k;\n__syncthreads();\n}\nout[t] = v;\n"},
    {"lds_same_value", 1, "writes", "writes", "of LDS: ",
     "__shared__ volatile int s;\ns = 7; // A B\n__syncthreads();\nout[t] = s;\n"},
    {"lds_bytes_of_a_word", 1, NULL, NULL, "",
     "__shared__ unsigned char s[256];\ns[t % 64 * 4 + t / 64] = (unsigned char)t;\n__syncthreads();\nout[t] = s[255 - t];\n"},
    {"lds_atomics", 1, NULL, NULL, "",
     "__shared__ int s;\nif (t == 0) s = 0;\n__syncthreads();\n" LDS_ADD ";\n__syncthreads();\nout[t] = s;\n"},
    {"lds_atomics_unread", 1, "does an atomic", "reads", "of LDS: ",
     "__shared__ int s;\nif (t == 0) s = 0;\n__syncthreads();\nif (t < 64) " LDS_ADD "; // A\nout[t] = *(volatile int *)&s; // B\n"},
    {"lds_zeroed_late", 1, "writes", "does an atomic", "of LDS: ",
     "__shared__ int s;\nif (t == 0) s = 0; // A\n" LDS_ADD "; // B\n__syncthreads();\nout[t] = s;\n"},
    {"global_missing_barrier", 1, "writes", "reads", "of 'out': ", "out[t] = in[t]; // A\nout[512 + t] = out[(t + 64) % 256]; // B\n"},
    {"global_barrier", 1, NULL, NULL, "", "out[t] = in[t];\n__syncthreads();\nout[512 + t] = out[255 - t];\n"},
    {"global_halves", 4, NULL, NULL, "", "((short *)out)[t * 4 + b] = (short)in[t];\n"},
    {"global_workgroups", 4, "writes", "reads", "of 'out': ", "out[b * 256 + t] = in[t]; // A\n__syncthreads();\nif (b) out[2048 + b * 256 + t] = out[(b - 1) * 256 + t]; // B\n"},
    {"global_workgroups_read_first", 4, "reads", "writes", "of 'out': ",
     "int v = out[(b + 1) * 256 + t]; // A\nout[2048 + b * 256 + t] = v;\n__syncthreads();\nout[b * 256 + t] = v; // B\n"},
    {"global_workgroups_write_both", 2, "writes", "writes", "byte 0 of 'out': ", "out[t] = in[t]; // A B\n"},
    {"global_atomics", 8, NULL, NULL, "", "atomicMax(out + t % 5, in[t]);\natomicAdd(count, 1);\n"},
    {"global_atomic_read", 8, "does an atomic", "reads", "of 'count': ", "if (b < 4) " ADD "; // A\nelse out[b * 256 + t] = *count; // B\n"},
    {"last_arriver", 8, NULL, NULL, "", LAST(FENCE, SYNC, ADD, FENCE)},
    {"last_arriver_unreleased", 8, "writes", "reads", "of 'out': ", LAST("", "", ADD, FENCE)},
    {"last_arriver_unacquired", 8, "writes", "reads", "of 'out': ", LAST(FENCE, SYNC, ADD, "")},
    {"last_arriver_unmet", 8, "writes", "reads", "of 'out': ", LAST(FENCE, "", ADD, FENCE)},
    {"last_arriver_not_atomic", 8, "writes", "reads", "of 'out': ", LAST(FENCE, SYNC, "(*count)++", FENCE)},
    {"last_arriver_by_seq_cst", 8, NULL, NULL, "", LAST("", FENCE SYNC, "__hip_atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST, __HIP_MEMORY_SCOPE_AGENT)", FENCE)},
    {"handed_on", 8, NULL, NULL, "", /* each workgroup knows the one before, and so all before it */
     "__shared__ int s;\nif (t == 0) s = " ADD " & 0xff;\n__syncthreads();\n" FENCE "for (int k = 0; k < s; k++) out[2048 + b * 256 + t] = out[k * 256 + (t + 64) % 256];\n"
     "out[s * 256 + t] = in[t];\n" FENCE SYNC "if (t == 0) __hip_atomic_fetch_add(count, 256, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);\n"},
};

enum { N = 4096 };
static int *out, *in, *count;

static void *buffer(EmuMem *mem, size_t size, const char *name) {
    void *p = aligned_alloc(256, size);
    Err e;
    if (!p || !emu_mem_add(mem, p, size, name, true, &e)) exit(2);
    return memset(p, 0, size);
}

/* The line of the source that ends in a comment with this letter. */
static int line_of(const char *source, char letter) {
    int line = 1;
    for (const char *s = source; *s; line++) {
        const char *end = s + strcspn(s, "\n"), *mark = strstr(s, "// ");
        if (mark && mark < end && memchr(mark, letter, (size_t)(end - mark))) return line;
        s = end + (*end != 0);
    }
    return 0;
}

static const char *source_of(Arena *a, const struct Case *c) {
    return arena_printf(a, "extern \"C\" __global__ __launch_bounds__(256) void %s(int *out, const int *in, int *count) {\nconst int t = threadIdx.x, b = blockIdx.x;\n(void)b;\n%s}\n", c->name, c->body);
}

static bool run(EmuModule *m, EmuMem *mem, const char *kernel, uint32_t grid, uint64_t seed, Err *e) {
    struct { int *out, *in, *count; } args = {out, in, count};
    for (int i = 0; i < N; i++) in[i] = i % 97, out[i] = 0;
    in[300] = 3, *count = 0;
    EmuLaunch l = {.kernel = kernel, .grid = {grid, 1, 1}, .block = {256, 1, 1}, .kernarg = &args, .kernarg_size = sizeof args, .seed = seed, .races = true};
    e->msg[0] = 0;
    return emu_launch(m, mem, &l, NULL, e);
}

/* "writes at NAME.hip:LINE (" for one of the two, in any order: which wave is first is the schedule's. */
static bool names(const char *said, const char *file, const char *does, int line) {
    char want[256];
    snprintf(want, sizeof want, " %s at %s:%d (pc 0x", does, file, line);
    return strstr(said, want) != NULL;
}

static bool judge(Arena *a, const struct Case *c, const char *source, bool ran, bool lines, const Err *e, Err *why) {
    if (!c->first) return ran || err_set(why, "%s", e->msg);
    if (ran) return err_set(why, "not noticed");
    if (!strstr(e->msg, "race on byte ") || !strstr(e->msg, c->where)) return err_set(why, "not \"race on … %s\": %s", c->where, e->msg);
    const char *race = strstr(e->msg, ": race on ");
    if (strstr(c->where, "LDS") && race && strstr(race + 1, ": race on ")) return err_set(why, "told more than once: %s", e->msg);
    if (!lines) return (strstr(e->msg, " at pc 0x") && !strstr(e->msg, ".hip:")) || err_set(why, "%s", e->msg);
    const char *file = arena_printf(a, "%s.hip", c->name);
    int first = line_of(source, 'A'), second = line_of(source, 'B');
    return (names(e->msg, file, c->first, first) && names(e->msg, file, c->second, second)) ||
           err_set(why, "not %s at line %d and %s at line %d: %s", c->first, first, c->second, second, e->msg);
}

static void test(Arena *a, EmuMem *mem, EmuModule *m, bool lines) {
    for (size_t i = 0; i < LEN(cases); i++) {
        const struct Case *c = &cases[i];
        Err e = {0}, why = {0};
        bool ok = true;
        for (uint64_t seed = 0; ok && seed < 3; seed++)
            ok = judge(a, c, source_of(a, c), run(m, mem, c->name, c->grid, seed, &e), lines, &e, &why) || err_wrap(&why, "seed %d", (int)seed);
        verdict(lines ? c->name : arena_printf(a, "%s_without_lines", c->name), ok, why.msg);
    }
}

/* The kernels are one module: without its lines, then with them. */
static void test_races(Arena *a, EmuMem *mem, const RtcJob *job) {
    Err e = {0};
    EmuModule *m = emu_load(job->code, job->code_size, &e);
    if (m) test(a, mem, m, false);
    bool ok = m && job->lines && emu_lines(m, job->lines, &e);
    verdict("lines", ok, e.msg);
    if (ok) test(a, mem, m, true);
    emu_unload(m);
}

/* Faults name their line too; a count of instructions goes to their lines. */
static const char faults[] =
"extern \"C\" __global__ void outside(int *out, const int *in, int *count) {\n"
"    int i = threadIdx.x + blockIdx.x * 1000000;\n"
"    if (i == 4000000)\n"
"        out[i] = 1; // A\n"
"}\n"
"extern \"C\" __global__ void unwritten(int *out, const int *in, int *count) {\n"
"    __shared__ int s[512];\n"
"    s[threadIdx.x] = 1;\n"
"    out[threadIdx.x] =\n"
"        s[threadIdx.x + 256]; // B\n"
"}\n"
"extern \"C\" __global__ void hot(int *out, const int *in, int *count) {\n"
"    int v = in[threadIdx.x];\n"
"    for (int k = 0; k < 1000; k++) v = v * v + k; // C\n"
"    out[threadIdx.x] = v;\n"
"}\n";

static void test_faults(Arena *job_arena, EmuMem *mem, const RtcJob *job) {
    Err e = {0};
    char want[64];
    EmuModule *m = emu_load(job->code, job->code_size, &e);
    if (!m || !job->lines || !emu_lines(m, job->lines, &e)) {
        verdict("faults", false, e.msg);
        return;
    }
    bool ran = run(m, mem, "outside", 20, 0, &e);
    snprintf(want, sizeof want, ", faults.hip:%d, global_store", line_of(faults, 'A'));
    verdict("fault_outside_line", !ran && strstr(e.msg, want) && strstr(e.msg, "outside"), e.msg);
    ran = run(m, mem, "unwritten", 1, 0, &e);
    snprintf(want, sizeof want, ", faults.hip:%d, ds_read", line_of(faults, 'B'));
    verdict("fault_unwritten_line", !ran && strstr(e.msg, want) && strstr(e.msg, "never written"), e.msg);
    uint64_t *executed = calloc(emu_instruction_count(m), sizeof *executed), sum = 0;
    struct { int *out, *in, *count; } args = {out, in, count};
    EmuCounts counts = {0};
    EmuLaunch l = {.kernel = "hot", .grid = {8, 1, 1}, .block = {256, 1, 1}, .kernarg = &args, .kernarg_size = sizeof args, .executed = executed};
    EmuHot top[2];
    bool ok = executed && emu_launch(m, mem, &l, &counts, &e) && emu_hot(m, executed, top, 2) == 2;
    for (size_t i = 0; ok && i < emu_instruction_count(m); i++) sum += executed[i];
    verdict("hot_counts", ok && sum == counts.instructions, e.msg);
    verdict("hot_line", ok && !strcmp(top[0].file, "faults.hip") && (int)top[0].line == line_of(faults, 'C') && top[0].executed > sum / 2, ok ? arena_printf(job_arena, "%s:%u and %s:%u", top[0].file, top[0].line, top[1].file, top[1].line) : e.msg);
    free(executed);
    static const char *const damaged[] = {"FILE \n", "FILE a\n0 2 1\n", "FILE a\n0 1\n", "FILE a\n0 1 1", "FILE a\n-1 1 1\n", "FILE a\n0 1 99999999999\n", "FILE a\x1b[2J\n", "junk"};
    for (size_t i = 0; i < LEN(damaged); i++)
        if (emu_lines(m, damaged[i], &e) || !strstr(e.msg, "damaged table of lines")) verdict("damaged_lines", false, damaged[i]);
    verdict("damaged_lines", true, "");
    emu_unload(m);
}

int main(void) {
    Arena *a = arena_new();
    Err e = {0};
    const char *version;
    if (!rtc_probe(a, RTC_HIP, "gfx90a", &version, &e)) return printf("skip races: %s\n", e.msg), 0;
    Text t = {0};
    for (size_t i = 0; i < LEN(cases); i++) text_add(&t, "#line 1 \"%s.hip\"\n%s", cases[i].name, source_of(a, &cases[i]));
    RtcJob jobs[] = {{.name = "cases.hip", .source = arena_strdup(a, t.at), .arch = "gfx90a"}, {.name = "faults.hip", .source = faults, .arch = "gfx90a"}};
    text_free(&t);
    if (!rtc_compile(a, RTC_HIP, jobs, LEN(jobs), &(RtcOptions){0}, &e)) return printf("FAIL compile: %s\n", e.msg), 1;
    EmuMem *mem = emu_mem_new();
    out = buffer(mem, N * sizeof *out, "out"), in = buffer(mem, N * sizeof *in, "in"), count = buffer(mem, 256, "count");
    test_races(a, mem, &jobs[0]);
    test_faults(a, mem, &jobs[1]);
    emu_mem_free(mem);
    free(out), free(in), free(count);
    arena_free(a);
    return failed != 0;
}
