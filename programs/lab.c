/* gptoss-lab: what a fusion rule does. Options are rows of `options` (ir/cli.h); the work is in lab/. */
#include "lab/lab.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#define AT(field) offsetof(LabOptions, field)

static const CliOption options[] = {
    {.kind = CLI_GROUP, .help = "What is tried"},
    {'r', "rule", CLI_LIST, AT(rules), "FILE.lua|NAME", "a rule to try, or a shipped one by its name (may be given again)"},
    {0, "templates", CLI_LIST, AT(templates), "DIR", "kernel templates that come with it (may be given again)"},
    {0, "override", CLI_TEXT, AT(override), "DIR", "edited sources from --emit, against those that were not\n(rules and templates then are on both sides)"},
    {0, "tuning", CLI_TEXT, AT(tuning), "FILE", "the choices that --tune kept there, against none (likewise)"},
    {0, "no-fusion", CLI_LIST, AT(no_fusion), "NAME|all", "leave this rule out on both sides (may be given again)"},

    {.kind = CLI_GROUP, .help = "Plans (as gptoss-compile's)"},
    {0, "arch", CLI_TEXT, AT(arch), "ARCH", "gfx90a, sm_90 or host"},
    {'w', "model", CLI_TEXT, AT(model), "DIR|FILE.bin", "the checkpoint (default: a random one, when the graph is small)"},
    {0, "precision", CLI_CHOICE, AT(precision), "fast|strict", "bf16 matrix units, or fp32 values with fp64 sums (fast)"},
    {0, "kv16", CLI_FLAG, AT(kv16), NULL, "KV cache in bf16"},
    {0, "kv32", CLI_FLAG, AT(kv32), NULL, "KV cache in fp32"},
    {0, "max-batch", CLI_INT, AT(max_batch), "N", "requests in flight (64)", 1, 65535},
    {0, "max-tokens", CLI_INT, AT(max_tokens), "N", "tokens in a step (512)", 1, 8192},
    {0, "max-seq", CLI_INT, AT(max_seq), "N", "tokens of a request (the model's)", 1, 1 << 24},
    {'j', "jobs", CLI_INT, AT(jobs), "N", "compilers at once (one per CPU)", 1, 1024},
    {0, "keep", CLI_TEXT, AT(keep), "DIR", "leave the plans, their sources and all else there"},

    {.kind = CLI_GROUP, .help = "Running them"},
    {0, "device", CLI_TEXT, AT(device), "NAME", "auto, hip, cuda, host or emu (default auto: one of the plan's arch;\nwhere none is here, emu judges gfx90a and nothing is timed)"},
    {'i', "prompts", CLI_TEXT, AT(prompts), "FILE", "requests for logits and tokens, as getp reads them\n(default: made-up tokens)"},
    {'t', "lines", CLI_INT, AT(n_prompts), "N", "so many prompts (8)", 1, 4096},
    {'n', "steps", CLI_INT, AT(steps), "N", "tokens generated behind each, at least (16)", 1, 65536},
    {0, "no-ref", CLI_FLAG, AT(no_ref), NULL, "do not run ref (it is left out for large models anyway)"},
    {0, "no-judge", CLI_FLAG, AT(no_judge), NULL, "do not ask whether it is right: only what changes, and speed"},
    {0, "pp", CLI_INT, AT(pp), "N", "tokens of the prompt that is measured (16; --predict: 2048)", 1, 65536},
    {0, "tg", CLI_INT, AT(tg), "N", "tokens of the generation that is measured (8)", 1, 65536},
    {0, "depth", CLI_INT, AT(depth), "N", "both behind so many tokens in the cache (0)", 0, 1 << 24},
    {0, "no-speed", CLI_FLAG, AT(no_speed), NULL, "measure no times"},
    {0, "pairs", CLI_INT, AT(pairs), "N", "at most N runs of each plan, in turns (40)", 1, 10000},
    {0, "within", CLI_REAL, AT(within), "X", "stop when every interval is within X of its ratio (0.02)", 0, 1},
    {0, "seconds", CLI_REAL, AT(seconds), "S", "or when measuring has taken S seconds: tests and kernels each (60)", 0, 1e6},
    {0, "limit", CLI_REAL, AT(limit), "S", "a program that does not answer for S seconds hangs (600)", 1, 1e6},

    {.kind = CLI_GROUP, .help = "Instead"},
    {0, "bisect", CLI_FLAG, AT(bisect), NULL, "which of all rules breaks parity, and what each costs or gains"},
    {0, "replay", CLI_TEXT, AT(replay), "FILE", "run a failing case that an earlier run saved"},
    {0, "tune", CLI_FLAG, AT(tune), NULL, "try what tune lines of templates and other rules allow, and keep the\nbest in --tuning FILE (default tuning.jsonl in ~/.local/state/gptoss)"},
    {0, "only", CLI_TEXT, AT(only), "TEXT", "--tune: kernels, templates or \"fusions\" that have TEXT in their name"},
    {0, "predict", CLI_FLAG, AT(predict), NULL, "how fast a plan would be on its machine, from what its kernels must\nread and compute; a second plan: one that was measured"},
    {0, "measured", CLI_TEXT, AT(measured), "FILE", "--predict: what gptoss-exec -m bench --json printed, of the second plan\n(or the one): the model's error there"},
    {0, "counts", CLI_TEXT, AT(counts), "FILE", "--predict: what emu executed, from -m bench --paced -f of a plan with\nthe same kernels (fewer layers will do), a line for each T"},
    {0, "batches", CLI_TEXT, AT(batches), "LIST", "requests side by side in what is measured (1;\n--predict: 1,8,16,32,64,128,256)"},
    {0, "ledger", CLI_FLAG, AT(ledger), NULL, "print what was tried so far", .env = ""},

    {.kind = CLI_GROUP, .help = "Reports"},
    {0, "format", CLI_CHOICE, AT(format), "text|json|html", "how the page is printed (text); html: both graphs side by side, drawn,\nwith sources and what differs, for a browser"},
    {0, "ledger-file", CLI_TEXT, AT(ledger_file), "FILE", "where each run appends a line\n(default lab.jsonl in ~/.local/state/gptoss)"},
};

static const Cli cli = {
    .program = "gptoss-lab",
    .synopsis = "GRAPH.lua --arch ARCH --rule FILE.lua [options]\n       gptoss-lab A.bin B.bin [options]\n       gptoss-lab GRAPH.lua --arch ARCH --tune [options]\n       gptoss-lab PLAN.bin [MEASURED.bin] --predict [options]",
    .about = "Builds with and without a fusion rule and says on one page whether it fired, what it\n"
             "changed, whether it is right and what it costs. Or compares two plans.\n",
    .notes = "Exits 0 when both were built and compared and all is right, 1 when not, and says why.\n",
    .examples = "  gptoss-lab graphs/toy.lua --arch gfx90a --rule my.lua --templates my-kernels\n"
                "  gptoss-lab graphs/tiny.lua --arch host --model models/tiny --rule mlp1_swiglu\n"
                "  gptoss-lab before.bin after.bin --format html >page.html\n"
                "  gptoss-lab graphs/toy.lua --arch host --bisect\n"
                "  gptoss-lab graphs/toy.lua --arch gfx90a --tune --only linear --tuning kept.jsonl\n"
                "  gptoss-lab 20b-gfx90a.bin 20b-sm_90.bin --predict --measured bench/h200.json\n",
    .env = "GPTOSS_LAB_",
    .places = true,
    .options = options,
    .n = LEN(options),
};

static bool check_files(const LabOptions *o, Err *e) {
    for (size_t i = 0; i < o->rules.n; i++) {
        const char *end = strrchr(o->rules.at[i], '.');
        if (end && !strcmp(end, ".lua") && access(o->rules.at[i], R_OK)) return err_set(e, "--rule %s: %s", o->rules.at[i], strerror(errno));
    }
    for (size_t i = 0; i < o->templates.n; i++)
        if (access(o->templates.at[i], R_OK | X_OK)) return err_set(e, "--templates %s: %s", o->templates.at[i], strerror(errno));
    return true;
}

static bool check_predict(const LabOptions *o, int words, Err *e) {
    if (words > 2) return err_set(e, "a plan, perhaps another that was measured, %d words given", words);
    if (o->rules.n || o->templates.n || o->arch) return err_set(e, "--predict reads plans as they are: no --rule, --templates, --arch");
    return words == 1 || o->measured || err_set(e, "the second plan is one that was measured: --measured FILE");
}

static bool check(LabOptions *o, int words, Err *e) {
    if (o->ledger + o->bisect + o->predict + o->tune + (o->replay != NULL) > 1) return err_set(e, "one at a time: --ledger, --bisect, --predict, --tune, --replay");
    if (o->format && !strcmp(o->format, "html") && (o->ledger || o->replay || o->predict)) return err_set(e, "--format html is for a comparison");
    if (o->ledger || o->replay) return !words || err_set(e, "%s takes no graph", o->ledger ? "--ledger" : "--replay");
    if (!words) return err_set(e, o->predict ? "no plan given" : "no graph given, and no plans");
    if (!o->predict && (o->measured || o->counts)) return err_set(e, "--measured and --counts are --predict's");
    if (o->predict) return check_predict(o, words, e);
    if (words > 2) return err_set(e, "a graph or two plans, %d words given", words);
    if (words == 2) {
        if (o->rules.n || o->templates.n || o->arch || o->bisect || o->tune || o->tuning || o->override)
            return err_set(e, "two plans are compared as they are: no --rule, --templates, --override, --tuning, --arch, --bisect, --tune");
        return true;
    }
    if (!o->arch) return err_set(e, "--arch is missing: gfx90a, sm_90 or host");
    if (!check_files(o, e)) return false;
    if (o->no_judge && (o->bisect || o->tune)) return err_set(e, "--bisect and --tune judge: no --no-judge");
    if (o->only && !o->tune) return err_set(e, "--only is --tune's");
    bool tries = o->rules.n || o->templates.n || o->override || o->tuning;
    if (o->format && !strcmp(o->format, "html") && (o->bisect || o->tune)) return err_set(e, "--format html is for a comparison, not for --bisect or --tune");
    return o->bisect || o->tune || tries || err_set(e, "nothing to try: give --rule, --templates, --override or --tuning, or --bisect or --tune");
}

static bool run(const LabOptions *o, bool *right, Err *e) {
    if (o->ledger) return (*right = true) && ledger_print(o, e);
    if (o->replay) return lab_replay(o, right, e);
    if (o->tune) return (*right = true) && lab_tune(o, e);
    if (o->predict) return (*right = true) && lab_predict(o, e);
    return o->bisect ? lab_bisect(o, right, e) : lab_run(o, right, e);
}

int main(int argc, char **argv) {
    Err e = {""};
    LabOptions o = {.n_prompts = 8, .steps = 16, .tg = 8, .pairs = 40, .within = 0.02, .seconds = 60, .limit = 600};
    CliParsed parsed;
    bool right = true;
    if (!cli_parse(&cli, &o, argc, argv, &parsed, &e)) return cli_usage_error(&cli, &e);
    if (parsed.done) return cli_end(&cli, true, &e);
    o.first = argv[0], o.second = parsed.words > 1 ? argv[1] : NULL;
    if (!o.pp) o.pp = o.predict ? 2048 : 16;
    if (!check(&o, parsed.words, &e)) return cli_usage_error(&cli, &e);
    signal(SIGPIPE, SIG_IGN); /* a child that ended is found out by what it did not answer */
    child_watch(); /* so that its folder is removed */
    bool ok = run(&o, &right, &e);
    int status = cli_end(&cli, ok, &e);
    return status ? status : !right;
}
