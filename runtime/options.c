/* options.c - gptoss-exec's command line from one table, --help included. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

typedef enum Kind { GROUP, FLAG, TEXT, COUNT, SIZE, REAL, STOP } Kind;
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
    {"-m", "--mode", TEXT, AT(mode), "MODE", "generate, chat, getp, getp_cpu, logits, parity, bench, eval"},
    {NULL, "--inspect", FLAG, AT(inspect), NULL, "print what is in the plan (--json: as JSON)"},
    {NULL, "--self-test", FLAG, AT(self_test), NULL, "run every kernel on the device on random inputs, against its reference"},
    {NULL, "--list-devices", FLAG, AT(list_devices), NULL, "print the devices this program can use here"},
    {NULL, "--version", FLAG, AT(version), NULL, "print the version"},
    {"-h", "--help", FLAG, AT(help), NULL, "print this"},
    {NULL, NULL, GROUP, 0, NULL, "files"},
    {"-w", "--model", TEXT, AT(model), "MODEL", "checkpoint: folder or .bin (default: the plan's, else GPTOSS_MODEL)"},
    {NULL, "--swap-embeddings", FLAG, AT(swap_embeddings), NULL, "the .bin holds unembedding before embedding"},
    {"-z", "--tokenizer", TEXT, AT(tokenizer), "FILE", "default: tokenizer.json in the model's folder"},
    {"-i", "--input", TEXT, AT(input), "FILE", "requests (default data/input.txt; - is stdin); generate: the prompt; eval: problems (default: the model's eval.jsonl)"},
    {"-o", "--output", TEXT, AT(output), "FILE", "results (default data/output.txt; generate: stdout; - is stdout); eval: each problem with what was answered"},
    {"-v", "--verify", TEXT, AT(truth), "FILE", "compare the output with this file, token by token"},
    {NULL, "--input-ids", FLAG, AT(input_ids), NULL, "requests are token ids, not text"},
    {NULL, NULL, GROUP, 0, NULL, "requests"},
    {"-n", "--steps", COUNT, AT(steps), "STEPS", "forward passes of a request, prompt included (default 1024, at most the plan's)"},
    {"-b", "--batch", COUNT, AT(batch), "BATCH", "requests in flight (default: what plan and memory allow)"},
    {"-t", "--lines", COUNT, AT(lines), "LINES", "only the first LINES requests"},
    {NULL, "--prefill-chunk", COUNT, AT(chunk), "N", "prompt tokens of a request in one step (default: the plan's largest step)"},
    {NULL, "--kv-memory", SIZE, AT(kv_memory), "SIZE", "bytes for the KV cache, e.g. 512M, 16G"},
    {NULL, "--print", FLAG, AT(print), NULL, "getp: each request's text on stdout, whole and in order, once all are done"},
    {NULL, NULL, GROUP, 0, NULL, "sampling (generate and chat begin with the model's generation_config.json; the others are greedy)"},
    {"-T", "--temperature", REAL, AT(temperature), "TEMP", "0: greedy, the likeliest token; 1: as the model says"},
    {NULL, "--top-k", COUNT, AT(top_k), "K", "only the K likeliest tokens (0: all)"},
    {"-p", "--top-p", REAL, AT(top_p), "TOPP", "only the likeliest tokens that make up TOPP of the probability (1: all)"},
    {NULL, "--min-p", REAL, AT(min_p), "MINP", "only tokens at least MINP times as likely as the likeliest (0: all)"},
    {"-s", "--seed", COUNT, AT(seed), "SEED", "the same seed, the same text (default 0)"},
    {NULL, NULL, GROUP, 0, NULL, "generate and chat"},
    {NULL, "--stop", STOP, AT(stops), "TEXT", "generate: end before TEXT (repeatable, up to 16)"},
    {"-y", "--system", TEXT, AT(system), "TEXT", "chat: instructions for the model (the developer message)"},
    {NULL, "--reasoning", TEXT, AT(reasoning), "EFFORT", "chat: low, medium or high (default medium)"},
    {NULL, "--hide-reasoning", FLAG, AT(hide_reasoning), NULL, "chat: print the answers only"},
    {NULL, "--max-answer", COUNT, AT(max_answer), "N", "chat: at most N tokens an answer (default: while there is room)"},
    {NULL, "--date", TEXT, AT(date), "DATE", "chat: the date the model is told (default today, YYYY-MM-DD)"},
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

static bool add_stop(const char **stops, const char *arg, Err *e) {
    int n = 0;
    while (stops[n]) n++;
    if (!*arg) return err_set(e, "--stop: the text is empty");
    if (n == OPTIONS_MAX_STOPS) return err_set(e, "--stop: more than %d", OPTIONS_MAX_STOPS);
    return stops[n] = arg, true;
}

static bool set(Options *o, const Row *r, const char *name, const char *arg, Err *e) {
    void *at = (char *)o + r->at;
    switch (r->kind) {
    case FLAG: return *(bool *)at = true;
    case TEXT: return *(const char **)at = arg, true;
    case COUNT: return count_of(name, arg, at, e);
    case SIZE: return size_of(name, arg, at, e);
    case REAL: return real_of(name, arg, at, e);
    case STOP: return add_stop(at, arg, e);
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

/* GPTOSS_KV_MEMORY for --kv-memory. A flag is set by anything but an empty text, 0 and no. */
static const char *variable(const Row *r, char *to, size_t n) {
    size_t i = (size_t)snprintf(to, n, "GPTOSS_%s", r->name + 2);
    for (i = 7; to[i]; i++) to[i] = to[i] == '-' ? '_' : (char)(to[i] >= 'a' && to[i] <= 'z' ? to[i] - 32 : to[i]);
    return to;
}

static bool has_variable(const Row *r) {
    static const size_t without[] = {AT(model), AT(inspect), AT(self_test), AT(list_devices), AT(version), AT(help)};
    for (size_t i = 0; i < LEN(without); i++)
        if (r->at == without[i]) return false;
    return r->kind != GROUP;
}

static bool from_environment(Options *o, Err *e) {
    for (size_t i = 0; i < LEN(rows); i++) {
        char name[64];
        const char *v = has_variable(&rows[i]) ? getenv(variable(&rows[i], name, sizeof name)) : NULL;
        if (!v || !*v) continue;
        if (rows[i].kind == FLAG && (!strcmp(v, "0") || !strcmp(v, "no"))) continue;
        if (!set(o, &rows[i], name, v, e)) return false;
    }
    return true;
}

bool options_sampling(const Options *o, Sampling *s, Err *e) {
    if (o->temperature > 1e6) return err_set(e, "-T %g: it is 0 to 1000000", o->temperature);
    if (o->top_p > 1) return err_set(e, "-p %g: it is a probability, 0 to 1", o->top_p);
    if (o->min_p > 1) return err_set(e, "--min-p %g: it is 0 to 1", o->min_p);
    if (o->top_k > INT32_MAX) return err_set(e, "--top-k %lld: it is 0 to %d", (long long)o->top_k, INT32_MAX);
    if (o->temperature >= 0) s->temperature = (float)o->temperature;
    if (o->top_p >= 0) s->top_p = (float)o->top_p;
    if (o->min_p >= 0) s->min_p = (float)o->min_p;
    if (o->top_k >= 0) s->top_k = (int32_t)o->top_k;
    if (o->seed >= 0) s->seed = (uint64_t)o->seed;
    return true;
}

static bool takes_words(const Options *o) { return o->mode && (!strcmp(o->mode, "generate") || !strcmp(o->mode, "chat")); }

static bool check(const Options *o, Err *e) {
    if (o->help || o->version || o->list_devices) return true;
    if (!o->plan) return err_set(e, "no plan given: gptoss-exec plan.bin -m getp; see --help");
    if (o->n_words && !takes_words(o)) return err_set(e, "two plans given: %s and %s", o->plan, o->words[0]);
    if (!o->mode && !o->inspect && !o->self_test) return err_set(e, "nothing to do: give -m MODE or --inspect; see --help");
    if (!o->batch) return err_set(e, "-b 0: at least one request must be in flight");
    if (!o->chunk) return err_set(e, "--prefill-chunk 0: at least one token");
    if (!o->steps) return err_set(e, "-n 0: at least one step");
    if (!o->max_answer) return err_set(e, "--max-answer 0: at least one token");
    if (!o->gpus) return err_set(e, "-g 0: at least one device");
    if (o->threads > 4096) return err_set(e, "--threads %lld: at most 4096", (long long)o->threads);
    return true;
}

bool options_parse(Options *o, int argc, char **argv, Err *e) {
    *o = (Options){.device = "auto", .steps = -1, .batch = -1, .lines = -1, .chunk = -1, .gpus = 1,
                   .temperature = -1, .top_p = -1, .min_p = -1, .top_k = -1, .max_answer = -1, .seed = -1, .reasoning = "medium"};
    if (!from_environment(o, e)) return false;
    const char **words = calloc((size_t)argc + 1, sizeof *words);
    if (!words) die("options: out of memory");
    o->words = words;
    bool only_words = false; /* behind "--" */
    for (int i = 1; i < argc; i++) {
        if (!only_words && !strcmp(argv[i], "--")) only_words = true;
        else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            if (!option(o, argc, argv, &i, e)) return false;
        } else if (o->plan) words[o->n_words++] = argv[i];
        else o->plan = argv[i];
    }
    return check(o, e);
}

void options_free(Options *o) { free((void *)(uintptr_t)o->words); }

void options_help(Text *t) {
    text_add(t, "gptoss-exec plan.bin -m MODE [options] [--] [prompt]   runs a plan that gptoss-compile made\n");
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
    text_add(t, "\nexamples\n"
                "  gptoss-exec plan.bin -m generate \"The capital of France is\"\n"
                "  gptoss-exec plan.bin -m generate -T 0.8 -p 0.95 -n 200 -i prompt.txt\n"
                "  gptoss-exec plan.bin -m chat -y \"Answer in one sentence.\" --reasoning low\n"
                "  gptoss-exec plan.bin -m getp -i data/input.txt -o data/output.txt --print\n"
                "  gptoss-exec plan.bin -m getp -i in.txt -o out.txt -v expected.txt -b 32\n"
                "\nAn option --some-name is also read from the environment, GPTOSS_SOME_NAME; the command line wins. More: man gptoss-exec\n");
}
