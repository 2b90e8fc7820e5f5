/* options.c - gptoss-exec's command line from one table, --help included. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

typedef enum Kind { GROUP, FLAG, TEXT, COUNT, SIZE, REAL } Kind;
typedef struct Row Row;
struct Row {
    const char *brief, *name; /* "-m", "--mode"; either may be NULL */
    Kind kind;
    size_t at;
    const char *arg, *help;
};
#define AT(field) offsetof(Options, field)

static const Row rows[] = {
    {NULL, NULL, GROUP, 0, NULL, "what to do"},
    {"-m", "--mode", TEXT, AT(mode), "MODE", "getp, getp_cpu, logits, parity, bench (generate, chat, eval: not implemented yet)"},
    {NULL, "--inspect", FLAG, AT(inspect), NULL, "print what is in the plan (--json: as JSON)"},
    {NULL, "--self-test", FLAG, AT(self_test), NULL, "run every kernel on the device on random inputs, against its reference"},
    {NULL, "--list-devices", FLAG, AT(list_devices), NULL, "print the devices this program can use here"},
    {NULL, "--version", FLAG, AT(version), NULL, "print the version"},
    {"-h", "--help", FLAG, AT(help), NULL, "print this"},
    {NULL, NULL, GROUP, 0, NULL, "files"},
    {"-w", "--model", TEXT, AT(model), "MODEL", "checkpoint: folder or .bin (default: the plan's, else GPTOSS_MODEL)"},
    {NULL, "--swap-embeddings", FLAG, AT(swap_embeddings), NULL, "the .bin holds unembedding before embedding"},
    {"-z", "--tokenizer", TEXT, AT(tokenizer), "FILE", "default: tokenizer.json in the model's folder"},
    {"-i", "--input", TEXT, AT(input), "FILE", "requests (default data/input.txt; - is stdin)"},
    {"-o", "--output", TEXT, AT(output), "FILE", "results (default data/output.txt; - is stdout)"},
    {"-v", "--verify", TEXT, AT(truth), "FILE", "compare the output with this file, token by token"},
    {NULL, "--input-ids", FLAG, AT(input_ids), NULL, "requests are token ids, not text"},
    {NULL, NULL, GROUP, 0, NULL, "requests"},
    {"-n", "--steps", COUNT, AT(steps), "STEPS", "forward passes of a request, prompt included (default 1024, at most the plan's)"},
    {"-b", "--batch", COUNT, AT(batch), "BATCH", "requests in flight (default: what plan and memory allow)"},
    {"-t", "--lines", COUNT, AT(lines), "LINES", "only the first LINES requests"},
    {NULL, "--prefill-chunk", COUNT, AT(chunk), "N", "prompt tokens of a request in one step (default: the plan's largest step)"},
    {NULL, "--kv-memory", SIZE, AT(kv_memory), "SIZE", "bytes for the KV cache, e.g. 512M, 16G"},
    {"-T", "--temperature", REAL, AT(temperature), "TEMP", "0: greedy (the default; sampling is not implemented yet)"},
    {"-p", "--top-p", REAL, AT(top_p), "TOPP", "for -T > 0"},
    {"-s", "--seed", COUNT, AT(seed), "SEED", "for -T > 0"},
    {"-y", "--system", TEXT, AT(system), "TEXT", "system prompt of chat"},
    {NULL, NULL, GROUP, 0, NULL, "device"},
    {NULL, "--device", TEXT, AT(device), "NAME", "auto, hip, cuda, host, emu, ref (default auto)"},
    {"-g", "--gpus", COUNT, AT(gpus), "GPUS", "devices to use (default 1)"},
    {NULL, "--threads", COUNT, AT(threads), "N", "host threads of host, emu and ref (default: all)"},
    {NULL, "--seed-schedule", COUNT, AT(seed_schedule), "N", "emu: draw the order of waves from N (0: in order)"},
    {NULL, "--sample", COUNT, AT(sample), "N", "self-test on emu: only N workgroups of each launch (default: all)"},
    {NULL, "--only", TEXT, AT(only), "NAME", "self-test: only kernels with NAME in their symbol"},
    {NULL, NULL, GROUP, 0, NULL, "reports"},
    {"-f", "--profile", FLAG, AT(profile), NULL, "counts or times of each kernel, on stderr"},
    {NULL, "--json", FLAG, AT(json), NULL, "the summary as JSON on stdout"},
    {NULL, "--verbose", FLAG, AT(verbose), NULL, "progress; parity: every stage"},
    {NULL, "--dump-tensor", TEXT, AT(dump_tensor), "NAME", "parity: write NAME's raw values to NAME.device and NAME.ref"},
};

static bool count_of(const char *name, const char *s, int64_t *v, Err *e) {
    char *end;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (errno || end == s || *end || n < 0) return err_set(e, "%s: \"%s\" is not a number", name, s);
    *v = n;
    return true;
}

static bool real_of(const char *name, const char *s, double *v, Err *e) {
    char *end;
    *v = strtod(s, &end);
    return (end != s && !*end && isfinite(*v) && *v >= 0) || err_set(e, "%s: \"%s\" is not a number", name, s);
}

static bool size_of(const char *name, const char *s, size_t *v, Err *e) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    int shift = 0;
    if (*end == 'K') shift = 10, end++;
    else if (*end == 'M') shift = 20, end++;
    else if (*end == 'G') shift = 30, end++;
    if (errno || end == s || *end || *s == '-' || !n || n > SIZE_MAX >> shift) return err_set(e, "%s: \"%s\" is not a size such as 4096, 512M or 16G", name, s);
    *v = (size_t)n << shift;
    return true;
}

static bool set(Options *o, const Row *r, const char *name, const char *arg, Err *e) {
    void *at = (char *)o + r->at;
    switch (r->kind) {
    case FLAG: return *(bool *)at = true;
    case TEXT: return *(const char **)at = arg, true;
    case COUNT: return count_of(name, arg, at, e);
    case SIZE: return size_of(name, arg, at, e);
    case REAL: return real_of(name, arg, at, e);
    case GROUP: break;
    }
    die("options: row %s", name);
}

static const Row *find(const char *name, size_t n) {
    for (size_t i = 0; i < LEN(rows); i++) {
        const Row *r = &rows[i];
        if (r->brief && strlen(r->brief) == n && !memcmp(r->brief, name, n)) return r;
        if (r->name && strlen(r->name) == n && !memcmp(r->name, name, n)) return r;
    }
    return NULL;
}

/* "-m getp", "--mode getp", "--mode=getp". */
static bool option(Options *o, int argc, char **argv, int *i, Err *e) {
    const char *name = argv[*i], *equals = name[1] == '-' ? strchr(name, '=') : NULL, *arg = NULL;
    const Row *r = find(name, equals ? (size_t)(equals - name) : strlen(name));
    if (!r) return err_set(e, "no option %s; see --help", name);
    if (r->kind == FLAG) return equals ? err_set(e, "%s takes no argument", r->name) : set(o, r, name, NULL, e);
    if (equals) arg = equals + 1;
    else if (*i + 1 < argc) arg = argv[++*i];
    else return err_set(e, "%s needs an argument: %s", name, r->arg);
    return set(o, r, r->name, arg, e);
}

static bool check(const Options *o, Err *e) {
    if (o->help || o->version || o->list_devices) return true;
    if (!o->plan) return err_set(e, "no plan given: gptoss-exec plan.bin -m getp; see --help");
    if (!o->mode && !o->inspect && !o->self_test) return err_set(e, "nothing to do: give -m MODE or --inspect; see --help");
    if (!o->batch) return err_set(e, "-b 0: at least one request must be in flight");
    if (!o->chunk) return err_set(e, "--prefill-chunk 0: at least one token");
    if (!o->steps) return err_set(e, "-n 0: at least one step");
    if (!o->gpus) return err_set(e, "-g 0: at least one device");
    if (o->threads > 4096) return err_set(e, "--threads %lld: at most 4096", (long long)o->threads);
    return true;
}

bool options_parse(Options *o, int argc, char **argv, Err *e) {
    *o = (Options){.device = "auto", .steps = -1, .batch = -1, .lines = -1, .chunk = -1, .gpus = 1, .top_p = 1};
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            if (!option(o, argc, argv, &i, e)) return false;
        } else if (o->plan) {
            return err_set(e, "two plans given: %s and %s", o->plan, argv[i]);
        } else {
            o->plan = argv[i];
        }
    }
    return check(o, e);
}

void options_help(Text *t) {
    text_add(t, "gptoss-exec plan.bin -m MODE [options]   runs a plan that gptoss-compile made\n");
    for (size_t i = 0; i < LEN(rows); i++) {
        const Row *r = &rows[i];
        char left[64];
        if (r->kind == GROUP) {
            text_add(t, "\n%s\n", r->help);
            continue;
        }
        snprintf(left, sizeof left, "%s%s%s%s%s", r->brief ? r->brief : "  ", r->brief ? ", " : "  ", r->name, r->arg ? " " : "", r->arg ? r->arg : "");
        text_add(t, "  %-26s %s\n", left, r->help);
    }
}
