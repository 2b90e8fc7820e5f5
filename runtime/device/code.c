/* code.c - see code.h. Which compiler makes code of an arch is device.c's table turned round: gfx hipRTC, sm_ NVRTC, host cc. */
#include "code.h"

/* Beyond rtc_compile's own; as in compiler/targets.def, so that the same code comes out. */
static const char *const host_options[] = {"-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"};

static RtcKind compiler_of(const Plan *p) {
    if (!strcmp(p->arch, "host")) return RTC_HOST;
    return strncmp(p->arch, "gfx", 3) ? RTC_CUDA : RTC_HIP;
}

static bool compile(Arena *a, const Plan *p, const char *arch, RtcJob *jobs, Err *e) {
    RtcKind kind = compiler_of(p);
    for (int i = 0; i < p->n_modules; i++)
        jobs[i] = (RtcJob){.name = p->modules[i].name,
                           .source = p->modules[i].source,
                           .arch = arch,
                           .options = host_options,
                           .n_options = kind == RTC_HOST ? (int)LEN(host_options) : 0};
    return rtc_compile(a, kind, jobs, p->n_modules, NULL, e);
}

bool code_for_host(Arena *a, const Plan *p, const char *target, RtcJob *jobs, Err *e) { return compile(a, p, target, jobs, e); }

/* How many modules have code that nobody here made. The file may be written to under its mapping: what is compared is what will run. */
static int strangers(const Plan *p) {
    int n = 0;
    for (int i = 0; i < p->n_modules; i++) {
        PlanModule *m = &p->modules[i];
        if (!m->code) continue;
        m->code = memcpy(arena_alloc(p->arena, m->code_size), m->code, m->code_size);
        n += !rtc_made_here(m->source, m->code, m->code_size);
    }
    return n;
}

static bool compile_anew(Plan *p, int n, Err *e) {
    RtcJob *jobs = arena_array(p->arena, (size_t)p->n_modules, sizeof *jobs);
    const char *arch = compiler_of(p) == RTC_HOST ? rtc_host_target(p->arena, e) : p->arch;
    if (!arch) return false;
    fprintf(stderr, "gptoss-exec: the code of %d of the plan's %d modules was not compiled here: all are compiled anew from the sources that it carries (--trust-code runs it as it is)\n", n, p->n_modules);
    if (!compile(p->arena, p, arch, jobs, e))
        return err_wrap(e, "the plan's code was not compiled here, and its sources cannot be compiled here either; if you trust who made it, --trust-code runs it as it is (SECURITY.md)");
    for (int i = 0; i < p->n_modules; i++)
        p->modules[i].code = jobs[i].code, p->modules[i].code_size = jobs[i].code_size, p->modules[i].lines = jobs[i].lines;
    if (compiler_of(p) == RTC_HOST) p->target_id = arch;
    return true;
}

bool code_vouch(Plan *p, const char *device, bool trusted, Err *e) {
    bool real = strcmp(device, "emu") && strcmp(device, "ref");
    int n = real && !trusted ? strangers(p) : 0;
    return !n || compile_anew(p, n, e);
}
