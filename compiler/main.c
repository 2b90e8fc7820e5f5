/* main.c - gptoss-compile: a graph file to plan.bin. Options are rows of `options`; all work is in pipeline.c. */
#include "compile.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../runtime/version.h"

enum { NONE = 256, OPT_HELP, OPT_VERSION, OPT_KV16, OPT_KV32, OPT_EXPLAIN, OPT_NO_CACHE, OPT_SWAP, OPT_TEXT, OPT_NUMBER, OPT_LIST };

typedef struct Option Option;
struct Option {
    const char *name, *arg;
    char letter;
    int kind;
    size_t at; /* offset in Options */
    int64_t min, max;
    const char *group, *help;
};

#define TEXT_OPTION(n, l, arg, field, g, h) {n, arg, l, OPT_TEXT, offsetof(Options, field), 0, 0, g, h}
#define NUMBER_OPTION(n, l, field, min, max, g, h) {n, "N", l, OPT_NUMBER, offsetof(Options, field), min, max, g, h}
#define LIST_OPTION(n, arg, field, g, h) {n, arg, 0, OPT_LIST, offsetof(Options, field), 0, 0, g, h}
#define FLAG_OPTION(n, l, kind, g, h) {n, NULL, l, kind, 0, 0, 0, g, h}

static const Option options[] = {
    TEXT_OPTION("arch", 0, "ARCH", arch, "Target", "what to compile for (required)"),
    TEXT_OPTION("output", 'o', "FILE", output, "Target", "the plan to write (plan.bin)"),
    TEXT_OPTION("model", 0, "DIR|FILE.bin", model, "Target", "take configuration, weight types and the default model path from this checkpoint"),
    FLAG_OPTION("swap-embeddings", 0, OPT_SWAP, "Target", "the .bin holds unembedding before embedding"),
    TEXT_OPTION("precision", 0, "fast|strict", precision, "Numbers", "bf16 matrix units, or fp32 values with fp64 sums (fast)"),
    FLAG_OPTION("kv16", 0, OPT_KV16, "Numbers", "KV cache in bf16 (what fast does)"),
    FLAG_OPTION("kv32", 0, OPT_KV32, "Numbers", "KV cache in fp32 (what strict does)"),
    NUMBER_OPTION("max-batch", 0, max_batch, 1, 65535, "Sizes", "requests in flight (64)"),
    NUMBER_OPTION("max-tokens", 0, max_tokens, 1, 4096, "Sizes", "tokens in a step (512)"),
    NUMBER_OPTION("max-seq", 0, max_seq, 1, 1 << 24, "Sizes", "tokens of a request (the model's)"),
    LIST_OPTION("fusions", "FILE.lua", fusions, "Fusions", "add the rules of this file (repeatable)"),
    LIST_OPTION("no-fusion", "NAME|all", no_fusion, "Fusions", "leave this rule out (repeatable; \"elementwise\": the inlined chains)"),
    LIST_OPTION("templates", "DIR", templates, "Fusions", "add or replace kernel templates (repeatable)"),
    TEXT_OPTION("override", 0, "DIR", override, "Fusions", "use edited sources from --emit where DIR has them"),
    TEXT_OPTION("emit", 0, "DIR", emit, "Looking inside", "write the emitted sources there"),
    TEXT_OPTION("dump", 0, "STAGE|all", dump, "Looking inside", "print the graphs after a pass"),
    FLAG_OPTION("explain", 0, OPT_EXPLAIN, "Looking inside", "say which rules matched, and why others did not"),
    TEXT_OPTION("report", 0, "text|json", report, "Looking inside", "registers, LDS, spills of every kernel"),
    NUMBER_OPTION("jobs", 'j', workers, 1, 1024, "Running", "compilers at once (one per CPU)"),
    FLAG_OPTION("no-cache", 0, OPT_NO_CACHE, "Running", "compile even what the cache holds"),
    FLAG_OPTION("help", 'h', OPT_HELP, "Running", "this text"),
    FLAG_OPTION("version", 0, OPT_VERSION, "Running", "the version"),
};

static void help(void) {
    printf("gptoss-compile GRAPH.lua --arch ARCH [options]\nCompiles a model's graph into a plan that gptoss-exec runs.\n");
    const char *group = "";
    for (size_t i = 0; i < LEN(options); i++) {
        const Option *o = &options[i];
        if (strcmp(group, o->group)) printf("\n%s:\n", group = o->group);
        char left[64];
        snprintf(left, sizeof left, "%s%c%s--%s %s", o->letter ? "-" : "  ", o->letter ? o->letter : ' ', o->letter ? ", " : " ", o->name, o->arg ? o->arg : "");
        printf("  %-34s %s\n", left, o->help);
    }
    printf("\nExamples:\n  gptoss-compile graphs/gpt-oss-20b.lua --arch gfx90a\n"
           "  gptoss-compile graphs/gpt_oss.lua --arch gfx90a --model DIR --precision strict\n"
           "  gptoss-compile graphs/tiny.lua --arch gfx90a --no-fusion mlp1_swiglu --explain --report text\n\n"
           "An option --some-name is also read from the environment, GPTOSS_COMPILE_SOME_NAME. More: man gptoss-compile\n");
}

static bool number(const Option *o, const char *text, int64_t *n, Err *e) {
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (errno || end == text || *end || x < o->min || x > o->max)
        return err_set(e, "--%s %s: not a number from %" PRId64 " to %" PRId64, o->name, text, o->min, o->max);
    *n = x;
    return true;
}

static bool apply(Arena *a, Options *to, const Option *o, const char *arg, Err *e) {
    char *field = (char *)to + o->at;
    switch (o->kind) {
    case OPT_TEXT: *(const char **)(void *)field = arg; break;
    case OPT_NUMBER: return number(o, arg, (int64_t *)(void *)field, e);
    case OPT_LIST: PUSH(a, *(Names *)(void *)field, arg); break;
    case OPT_KV16: to->kv16 = true; break;
    case OPT_KV32: to->kv32 = true; break;
    case OPT_EXPLAIN: to->explain = true; break;
    case OPT_NO_CACHE: to->no_cache = true; break;
    case OPT_SWAP: to->swap_embeddings = true; break;
    case OPT_HELP: help(); exit(0);
    case OPT_VERSION: printf("gptoss-compile %s\n", GPTOSS_VERSION); exit(0);
    }
    return true;
}

/* GPTOSS_COMPILE_MAX_BATCH for --max-batch; not GPTOSS_OUTPUT and so on, which are gptoss-exec's. The command line wins. */
static bool from_environment(Arena *a, Options *o, Err *e) {
    for (size_t i = 0; i < LEN(options); i++) {
        char *name = arena_printf(a, "GPTOSS_COMPILE_%s", options[i].name);
        for (char *s = name; *s; s++) *s = *s == '-' ? '_' : *s >= 'a' && *s <= 'z' ? (char)(*s - 32) : *s;
        const char *v = options[i].kind == OPT_HELP || options[i].kind == OPT_VERSION ? NULL : getenv(name);
        if (!v || !*v || (!options[i].arg && (!strcmp(v, "0") || !strcmp(v, "no")))) continue;
        if (!apply(a, o, &options[i], arena_strdup(a, v), e)) return err_wrap(e, "%s", name);
    }
    return true;
}

static bool check(Arena *a, Options *o, Err *e) {
    if (!o->graph) return err_set(e, "no graph file; see --help");
    if (!o->arch) return err_set(e, "no --arch; it is one of: %s", target_list(a));
    if (!target_find(o->arch)) return err_set(e, "--arch %s is not implemented yet; it is one of: %s", o->arch, target_list(a));
    if (strcmp(o->precision, "fast") && strcmp(o->precision, "strict")) return err_set(e, "--precision %s: it is fast or strict", o->precision);
    if (o->kv16 && o->kv32) return err_set(e, "--kv16 and --kv32 exclude each other");
    if (o->report && strcmp(o->report, "text") && strcmp(o->report, "json"))
        return err_set(e, "--report %s: it is text or json%s", o->report, strcmp(o->report, "html") ? "" : " (html is not implemented yet)");
    if (o->report && o->dump) return err_set(e, "--report and --dump both write to stdout: one at a time");
    return true;
}

static bool parse(Arena *a, int argc, char **argv, Options *o, Err *e) {
    struct option longs[LEN(options) + 1] = {0};
    char letters[LEN(options) * 2 + 2] = ":";
    for (size_t i = 0; i < LEN(options); i++) {
        longs[i] = (struct option){options[i].name, options[i].arg ? required_argument : no_argument, NULL, (int)(NONE + i)};
        if (options[i].letter) snprintf(letters + strlen(letters), 3, "%c%s", options[i].letter, options[i].arg ? ":" : "");
    }
    opterr = 0;
    if (!from_environment(a, o, e)) return false;
    for (int c; (c = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (c == '?' || c == ':') {
            const char *which = argv[optind - 1];
            if (!strcmp(which, "--tune")) return err_set(e, "--tune is not implemented yet");
            return err_set(e, c == ':' ? "%s needs a value; see --help" : "unknown option %s; see --help", which);
        }
        size_t i = 0;
        if (c >= NONE) i = (size_t)(c - NONE);
        else while (options[i].letter != c) i++;
        if (!apply(a, o, &options[i], optarg, e)) return false;
    }
    if (optind < argc) o->graph = argv[optind++];
    if (optind < argc) return err_set(e, "more than one graph file: %s", argv[optind]);
    return check(a, o, e);
}

/* --- the folder with lua/ and templates/ --- */

static const char *find_home(Arena *a, Err *e) {
    const char *env = getenv("GPTOSS_HOME");
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    const char *tries[] = {env, arena_printf(a, "%s/..", self), arena_printf(a, "%s/../share/gptoss", self)};
    for (size_t i = 0; i < LEN(tries); i++)
        if (tries[i] && !access(arena_printf(a, "%s/templates/arch/common.h", tries[i]), R_OK)) return tries[i];
    err_set(e, "cannot find templates/ and lua/ beside %s; set GPTOSS_HOME to the folder that holds them", self);
    return NULL;
}

static bool load_prelude(Compile *c, Err *e) {
    const char *files[] = {c->target->prelude, is_host(c) ? NULL : "common.h", c->target->matrix ? "tile.h" : NULL};
    Text t = {0};
    if (!is_host(c)) text_add(&t, "#define WAVE %d\n", c->target->wave);
    for (size_t i = 0; i < LEN(files) && files[i]; i++) {
        const char *text = file_read(c->a, arena_printf(c->a, "%s/templates/arch/%s", c->home, files[i]), NULL, e);
        if (!text) return text_free(&t), false;
        text_add(&t, "#line 1 \"arch/%s\"\n%s\n", files[i], text);
    }
    c->prelude = arena_strndup(c->a, t.at, t.n);
    text_free(&t);
    return true;
}

static int is_lua(const struct dirent *f) {
    size_t n = strlen(f->d_name);
    return n > 4 && f->d_name[0] != '.' && !strcmp(f->d_name + n - 4, ".lua");
}

/* Every rule file of the folder, by name; an empty or absent folder is no error. */
static bool load_rules_dir(Compile *c, const char *dir, Err *e) {
    struct dirent **files;
    int n = scandir(dir, &files, is_lua, alphasort);
    bool ok = true;
    for (int i = 0; i < n; i++) {
        ok = ok && front_rules(c->front, arena_printf(c->a, "%s/%s", dir, files[i]->d_name), &c->rules, e);
        free(files[i]);
    }
    if (n >= 0) free(files);
    return ok;
}

static bool load_rules(Compile *c, Err *e) {
    if (!load_rules_dir(c, arena_printf(c->a, "%s/lua/fusions", c->home), e)) return false;
    for (size_t i = 0; i < c->o.fusions.n; i++)
        if (!front_rules(c->front, c->o.fusions.at[i], &c->rules, e)) return false;
    for (size_t i = 0; i < c->o.no_fusion.n; i++) {
        const char *name = c->o.no_fusion.at[i];
        bool known = !strcmp(name, "all") || !strcmp(name, "elementwise");
        for (size_t k = 0; k < c->rules.n; k++) known |= !strcmp(c->rules.at[k]->name, name);
        if (!known) return err_set(e, "--no-fusion %s: there is no such rule", name);
    }
    return true;
}

static bool prepare(Compile *c, Err *e) {
    c->home = find_home(c->a, e);
    if (!c->home || !load_prelude(c, e)) return false;
    const char *ending = is_host(c) ? ".c" : ".hip";
    if (!templates_load(c->a, &c->templates, arena_printf(c->a, is_host(c) ? "%s/templates/host" : "%s/templates", c->home), ending, e)) return false;
    for (size_t i = 0; i < c->o.templates.n; i++)
        if (!templates_load(c->a, &c->templates, c->o.templates.at[i], ending, e)) return false;
    if (c->o.model && !(c->model = model_open(c->o.model, c->o.swap_embeddings, e))) return false;
    FrontOptions f = {.model = c->model ? model_config(c->model) : NULL, .max_batch = c->o.max_batch, .max_tokens = c->o.max_tokens, .max_seq = c->o.max_seq};
    f.lua_dir = arena_printf(c->a, "%s/lua", c->home);
    c->front = front_open(c->a, &f, e);
    return c->front && load_rules(c, e);
}

/* --- results --- */

static bool write_sources(const Compile *c, Err *e) {
    if (mkdir(c->o.emit, 0777) && errno != EEXIST) return err_set(e, "%s: %s", c->o.emit, strerror(errno));
    for (int i = 0; i < c->plan.n_modules; i++) {
        const PlanModule *m = &c->plan.modules[i];
        if (!file_write(arena_printf(c->a, "%s/%s", c->o.emit, m->name), m->source, strlen(m->source), e)) return false;
    }
    return true;
}

static bool finish(Compile *c, Err *e) {
    if (c->o.emit && !write_sources(c, e)) return false;
    if (!plan_write(&c->plan, c->o.output, e)) return false;
    Text t = {0};
    if (c->o.explain) report_explain(c, &t);
    if (c->o.report && !strcmp(c->o.report, "text")) report_text(c, &t);
    if (c->o.report && !strcmp(c->o.report, "json")) report_json(c, &t);
    bool ok = !t.n || file_write("-", t.at, t.n, e);
    text_free(&t);
    return ok;
}

static void fill_plan(Compile *c) {
    Plan *p = &c->plan;
    p->arena = c->a;
    p->arch = c->o.arch;
    p->target_id = is_host(c) ? rtc_host_target(c->a) : c->target->id;
    p->precision = c->o.precision;
    p->max_batch = c->o.max_batch;
    p->max_tokens = c->o.max_tokens;
    if (c->o.model) {
        char path[PATH_MAX];
        p->model_path = arena_strdup(c->a, realpath(c->o.model, path) ? path : c->o.model);
    }
}

int main(int argc, char **argv) {
    Err e = {""};
    Compile c = {.a = arena_new(), .o = {.output = "plan.bin", .precision = "fast", .max_batch = 64, .max_tokens = 512}};
    if (!parse(c.a, argc, argv, &c.o, &e)) {
        fprintf(stderr, "gptoss-compile: %s\n", e.msg);
        return 2;
    }
    c.target = target_find(c.o.arch);
    fill_plan(&c);
    bool ok = prepare(&c, &e) && compile_run(&c, &e) && finish(&c, &e);
    if (!ok) fprintf(stderr, "%s%s\n", strstr(e.msg, ": error: ") ? "" : "gptoss-compile: ", e.msg);
    front_close(c.front);
    model_close(c.model);
    arena_free(c.a);
    return ok ? 0 : 1;
}
