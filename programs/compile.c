/* gptoss-compile: a graph file to plan.bin. Options are rows of `options` (ir/cli.h); all work is in pipeline.c. */
#include "compiler/compile.h"
#include "compiler/rules.h"
#include "compiler/sources.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ir/kept.h"

#define AT(field) offsetof(Options, field)

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "Target"},
    {0, "arch", CLI_TEXT, AT(arch), "ARCH", "what to compile for (required): gfx90a, sm_90 or host; gfx90a may\nname features: gfx90a:sramecc+:xnack-"},
    {'o', "output", CLI_TEXT, AT(output), "FILE", "the plan to write (plan.bin)"},
    {'w', "model", CLI_TEXT, AT(model), "DIR|FILE.bin", "take configuration and weight types from this checkpoint; its path is\nrecorded in the plan"},
    {0, "swap-embeddings", CLI_FLAG, AT(swap_embeddings), NULL, "the .bin holds unembedding before embedding"},

    {.kind = CLI_GROUP, .help = "Numbers"},
    {0, "precision", CLI_CHOICE, AT(precision), "fast|strict", "bf16 matrix units, or fp32 values with fp64 sums (fast)"},
    {0, "kv16", CLI_FLAG, AT(kv16), NULL, "KV cache in bf16 (what fast does)"},
    {0, "kv32", CLI_FLAG, AT(kv32), NULL, "KV cache in fp32 (what strict does)"},

    {.kind = CLI_GROUP, .help = "Sizes"},
    {0, "max-batch", CLI_INT, AT(max_batch), "N", "requests in flight (64)", 1, 65535},
    {0, "max-tokens", CLI_INT, AT(max_tokens), "N", "tokens in a step (512)", 1, 8192},
    {0, "max-seq", CLI_INT, AT(max_seq), "N", "tokens of a request (the model's)", 1, 1 << 24},

    {0, "ep", CLI_INT, AT(ep), "N", "deal the experts out over N devices; the plan runs on N (1)", 1, PLAN_MAX_DEVICES},

    {.kind = CLI_GROUP, .help = "Fusions"},
    {0, "fusions", CLI_LIST, AT(fusions), "FILE.lua", "add the rules of this file (may be given again)"},
    {0, "no-fusion", CLI_LIST, AT(no_fusion), "NAME|all", "leave this rule out (may be given again;\n\"elementwise\": the inlined chains); NAME@SCOPE: only\nthere: NAME@layer3, @layer0..11, @layer.attn"},
    {0, "templates", CLI_LIST, AT(templates), "DIR", "add or replace kernel templates (may be given again)"},
    {0, "override", CLI_TEXT, AT(override), "DIR", "use edited sources from --emit where DIR has them"},

    {.kind = CLI_GROUP, .help = "Tuning"},
    {0, "tuning", CLI_TEXT, AT(tuning), "FILE", "take the choices that were measured and are kept there\n(--tune's default: tuning.jsonl in ~/.local/state/gptoss)"},
    {0, "tune", CLI_FLAG, AT(tune), NULL, "first measure what FILE lacks, by gptoss-lab, and keep it there"},

    {.kind = CLI_GROUP, .help = "Looking inside"},
    {0, "emit", CLI_TEXT, AT(emit), "DIR", "write the emitted sources there"},
    {0, "dump", CLI_TEXT, AT(dump), "STAGE|all", "print the graphs after a pass"},
    {0, "dot", CLI_FLAG, AT(dot), NULL, "print them for graphviz: --dump fuse --dot | dot -Tsvg"},
    {0, "explain", CLI_FLAG, AT(explain), NULL, "say which rules matched, and why others did not"},
    {0, "report", CLI_CHOICE, AT(report), "text|json|html", "registers, LDS, spills of every kernel; html: a page with\nthe graph before and after, sources, a roofline"},
    {0, "measured", CLI_TEXT, AT(measured), "FILE", "--report html: beside each kernel what it took, from gptoss-exec\n-m bench --kernels --json"},

    {.kind = CLI_GROUP, .help = "Running"},
    {'j', "jobs", CLI_INT, AT(workers), "N", "compilers at once (one per CPU)", 1, 1024},
    {0, "no-cache", CLI_FLAG, AT(no_cache), NULL, "compile even what the cache holds"},
};

/* The variables are not GPTOSS_OUTPUT and so on, which are gptoss-exec's. */
static const Cli cli = {
    .program = "gptoss-compile",
    .synopsis = "GRAPH.lua --arch ARCH [options]",
    .about = "Compiles a model's graph into a plan that gptoss-exec runs.\n",
    .examples = "  gptoss-compile graphs/gpt-oss-20b.lua --arch gfx90a\n"
                "  gptoss-compile graphs/gpt_oss.lua --arch gfx90a --model DIR --precision strict\n"
                "  gptoss-compile graphs/tiny.lua --arch gfx90a --no-fusion mlp1_swiglu --explain --report text\n",
    .env = "GPTOSS_COMPILE_",
    .places = true,
    .options = options,
    .n = LEN(options),
};

/* Before the work: can the plan be written, and is it none of what it is made from? */
static bool check_output(const Options *o, Err *e) {
    bool same = file_same(o->output, o->graph) || (o->model && (file_same(o->output, o->model) || file_inside(o->output, o->model)));
    for (size_t i = 0; i < o->fusions.n; i++) same |= file_same(o->output, o->fusions.at[i]);
    if (same) return err_set(e, "-o %s is an input too: give it another name", o->output);
    if (o->emit && mkdir(o->emit, 0777) && errno != EEXIST) return err_set(e, "--emit %s: %s", o->emit, strerror(errno));
    return file_writable(o->output, e) || err_wrap(e, "-o");
}

static bool same_folder(const char *a, const char *b) {
    struct stat x, y;
    return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static bool check(Arena *a, Options *o, Err *e) {
    if (!o->graph) return err_set(e, "no graph file");
    if (!o->arch) return err_set(e, "no --arch; it is one of: %s", target_list(a));
    const Target *target;
    if (!target_parse(a, o->arch, &target, &o->arch, e)) return false;
    if (o->swap_embeddings && !o->model) return err_set(e, "--swap-embeddings says how --model FILE.bin is read; there is no --model");
    if (o->kv16 && o->kv32) return err_set(e, "--kv16 and --kv32 exclude each other");
    if (o->dot && !o->dump) return err_set(e, "--dot says how --dump prints; there is no --dump");
    if (o->measured && (!o->report || strcmp(o->report, "html"))) return err_set(e, "--measured is for --report html");
    if (o->report && o->dump) return err_set(e, "--report and --dump both write to stdout: one at a time");
    if (o->tune && (o->override || o->swap_embeddings)) return err_set(e, "--tune measures what is emitted, of a checkpoint as it is: no --override, no --swap-embeddings");
    if (o->tune && !o->tuning && !(o->tuning = kept_path(a, "tuning.jsonl"))) return err_set(e, "--tune: --tuning names the file (neither HOME nor XDG_STATE_HOME is set)");
    if (o->emit && o->override && same_folder(o->emit, o->override)) return err_set(e, "--emit and --override name one folder: edited files would be overwritten");
    return check_output(o, e);
}

static bool parse(Arena *a, int argc, char **argv, Options *o, bool *done, Err *e) {
    CliParsed parsed;
    if (!cli_parse(&cli, o, argc, argv, &parsed, e)) return false;
    if ((*done = parsed.done)) return true;
    o->graph = argv[0];
    if (parsed.words > 1) return err_set(e, "more than one graph file: %s", argv[1]);
    return check(a, o, e);
}

/* --- what stands before every kernel --- */

static bool load_prelude(Compile *c, Err *e) {
    Text t = {0};
    text_add(&t, "#define FAST %d\n", !strcmp(c->o.precision, "fast"));
    if (!is_host(c)) text_add(&t, "#define WAVE %d\n", c->target->wave);
    char *rest = arena_strdup(c->a, c->target->prelude);
    for (char *file; (file = strtok_r(NULL, " ", &rest));) {
        char *of = strchr(file, ':'), *name = file;
        if (of) *of = 0, file = of + 1;
        const char *text = file_read_text(c->a, arena_printf(c->a, "%s/templates/%s", c->home, file), NULL, e);
        if (!text) return text_free(&t), false;
        if (!of) text_add(&t, "#line 1 \"%s\"\n%s\n", file, text);
        else if (c->prelude.n_parts == LEN(c->prelude.part)) die("targets.def: a prelude with more than %zu parts", LEN(c->prelude.part));
        else {
            c->prelude.part[c->prelude.n_parts].name = name;
            c->prelude.part[c->prelude.n_parts++].text = arena_printf(c->a, "\n#line 1 \"%s\"\n%s", file, text);
        }
    }
    c->prelude.text = arena_strndup(c->a, t.at, t.n);
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
    bool ok = n >= 0 || errno == ENOENT || err_set(e, "%s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        ok = ok && front_rules(c->front, arena_printf(c->a, "%s/%s", dir, files[i]->d_name), &c->rules, e);
        free(files[i]);
    }
    if (n >= 0) free(files);
    return ok;
}

static bool load_rules(Compile *c, Err *e) {
    if (!load_rules_dir(c, arena_printf(c->a, "%s/lua/fusions", c->home), e)) return false;
    size_t shipped = c->rules.n;
    for (size_t i = 0; i < c->o.fusions.n; i++)
        if (!front_rules(c->front, c->o.fusions.at[i], &c->rules, e)) return false;
    for (size_t i = shipped; i < c->rules.n; i++) c->rules.at[i]->given = true;
    return rules_off(c, e);
}

/* Choices are of a compiler: which one it will be. One that is not there (compiler NULL) is the compilation's error. */
static bool open_tuning(Compile *c, Err *e) {
    if (c->o.tuning && !rtc_probe(c->a, c->target->compiler, c->o.arch, &c->compiler, e) && c->compiler) return err_wrap(e, "--tuning");
    return tuning_open(&c->tuning, c->a, c->o.tuning, c->o.arch, c->o.precision, c->compiler, e);
}

static bool prepare(Compile *c, Err *e) {
    c->home = cli_home(c->a, e);
    if (!c->home || !load_prelude(c, e)) return false;
    if (!compile_templates(c, is_host(c), &c->templates, e)) return false;
    if (c->o.model && !(c->model = model_open(c->o.model, c->o.swap_embeddings, e))) return false;
    if (c->model && !model_check(c->model, e)) return false;
    if (c->model) model_warn(c->model);
    if (!open_tuning(c, e)) return false;
    FrontOptions f = {.model = c->model ? model_config(c->model) : NULL, .max_batch = c->o.max_batch, .max_tokens = c->o.max_tokens, .max_seq = c->o.max_seq};
    f.lua_dir = arena_printf(c->a, "%s/lua", c->home);
    c->front = front_open(c->a, &f, e);
    return c->front && load_rules(c, e);
}

/* --- --tune: gptoss-lab measures, and keeps it in --tuning's file, from which this compilation takes it --- */

typedef struct Words Words;
struct Words {
    const char **at;
    size_t n, cap;
};

static void add_arg(Arena *a, Words *to, const char *option, const char *value) {
    if (!value) return;
    PUSH(a, *to, option);
    PUSH(a, *to, value);
}

static void add_int(Arena *a, Words *to, const char *option, int64_t value) {
    if (value) add_arg(a, to, option, arena_printf(a, "%lld", (long long)value));
}

static Words tune_args(Arena *a, const Options *o) {
    Words l = {0};
    PUSH(a, l, "gptoss-lab");
    PUSH(a, l, o->graph);
    PUSH(a, l, "--tune");
    add_arg(a, &l, "--arch", o->arch), add_arg(a, &l, "--tuning", o->tuning), add_arg(a, &l, "--model", o->model);
    add_arg(a, &l, "--precision", o->precision);
    add_int(a, &l, "--max-batch", o->max_batch), add_int(a, &l, "--max-tokens", o->max_tokens), add_int(a, &l, "--max-seq", o->max_seq);
    add_int(a, &l, "--jobs", o->workers);
    for (size_t i = 0; i < o->fusions.n; i++) add_arg(a, &l, "--rule", o->fusions.at[i]);
    for (size_t i = 0; i < o->templates.n; i++) add_arg(a, &l, "--templates", o->templates.at[i]);
    for (size_t i = 0; i < o->no_fusion.n; i++) add_arg(a, &l, "--no-fusion", o->no_fusion.at[i]);
    if (o->kv16) PUSH(a, l, "--kv16");
    if (o->kv32) PUSH(a, l, "--kv32");
    PUSH(a, l, NULL);
    return l;
}

/* Its page goes to stderr: stdout is for what was asked of this program. */
static bool tune(Arena *a, const Options *o, Err *e) {
    const Words args = tune_args(a, o);
    const char *lab = cli_sibling(a, "gptoss-lab");
    int status = 0;
    pid_t self = getpid(), pid = fork();
    if (pid < 0) return err_set(e, "--tune: %s", strerror(errno));
    if (!pid) { /* it ends when this program does, and tidies up */
        end_with(self, SIGTERM);
        dup2(2, 1);
        execv(lab, (char *const *)args.at);
        fprintf(stderr, "%s: %s\n", lab, strerror(errno));
        _exit(127);
    }
    pid_t ended;
    while ((ended = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {}
    return (ended == pid && WIFEXITED(status) && !WEXITSTATUS(status)) || err_set(e, "--tune: gptoss-lab failed");
}

/* --- results --- */

/* The plan; without one (compiled is false) still what --emit and --explain can show of how far the passes came. */
static bool finish(const Compile *c, bool compiled, Err *e) {
    if (c->o.emit && c->lowered && !sources_write(&c->plan, c->o.emit, e)) return false;
    if (compiled && !plan_write(&c->plan, c->o.output, e)) return false;
    Text t = {0};
    bool ok = true;
    const char *report = compiled && c->o.report ? c->o.report : "";
    if (c->o.explain && (!*report || !strcmp(report, "text"))) report_explain(c, &t); /* the others have it inside */
    if (!strcmp(report, "text")) report_text(c, &t);
    if (!strcmp(report, "json")) report_json(c, &t);
    if (!strcmp(report, "html")) ok = report_html(c, &t, e);
    ok = ok && (!t.n || file_write("-", t.at, t.n, e));
    text_free(&t);
    return ok;
}

static bool fill_plan(Compile *c, Err *e) {
    Plan *p = &c->plan;
    p->arena = c->a;
    p->arch = c->o.arch;
    p->target_id = is_host(c) ? rtc_host_target(c->a, e) : arena_printf(c->a, "%s%s", c->target->id, c->o.arch + strcspn(c->o.arch, ":"));
    if (!p->target_id) return false;
    p->precision = c->o.precision;
    p->max_batch = c->o.max_batch;
    p->max_tokens = c->o.max_tokens;
    if (c->o.model) {
        char path[PATH_MAX];
        bool found = realpath(c->o.model, path);
        if (!found && errno != ENOENT && errno != ENOTDIR) return err_set(e, "%s: %s", c->o.model, strerror(errno));
        p->model_path = arena_strdup(c->a, found ? path : c->o.model); /* what is not there, model_open says */
        p->swap_embeddings = c->o.swap_embeddings;
    }
    return true;
}

/* Before anything was opened. */
static int leave(const Compile *c, int code) {
    arena_free(c->a);
    return code;
}

int main(int argc, char **argv) {
    Err e = {""};
    Compile c = {.a = arena_new(), .o = {.output = "plan.bin", .precision = "fast", .max_batch = 64, .max_tokens = 512, .ep = 1}};
    bool done = false;
    if (!parse(c.a, argc, argv, &c.o, &done, &e)) return leave(&c, cli_usage_error(&cli, &e));
    if (done) return leave(&c, cli_end(&cli, true, &e));
    if (c.o.tune && !tune(c.a, &c.o, &e)) return leave(&c, cli_end(&cli, false, &e));
    if (!target_parse(c.a, c.o.arch, &c.target, &c.o.arch, &e)) die("compile: %s", e.msg); /* it was checked */
    bool ok = fill_plan(&c, &e) && prepare(&c, &e) && compile_run(&c, &e);
    Err shown = {""};
    if (!finish(&c, ok, &shown)) {
        if (ok) e = shown;
        else fprintf(stderr, "gptoss-compile: error: %s\n", shown.msg);
        ok = false;
    }
    if (ok && isatty(2)) fprintf(stderr, "%s: %s, %s, %d kernels\n", c.o.output, c.o.arch, c.o.precision, c.plan.n_kernels);
    tuning_close(&c.tuning);
    front_close(c.front);
    model_close(c.model);
    arena_free(c.a);
    return cli_end(&cli, ok, &e);
}
