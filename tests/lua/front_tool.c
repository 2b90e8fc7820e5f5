/* front_tool.c - runs the front end alone, for its tests.
 *   front_tool [--model small] [--max-seq N] GRAPH.lua         dumps the program
 *   front_tool … --rules FILE.lua [GRAPH.lua]                   dumps the file's rules; with a graph runs each when() on it
 * Errors go to stderr, exit 1. */
#include <stdlib.h>

#include "compiler/front.h"
#include "compiler/scope.h"

/* A checkpoint that differs from toy.lua. */
static const ModelConfig small = {
    .vocab = 512, .hidden = 96, .experts = 4, .topk = 2, .intermediate = 64, .layers = 2, .head_dim = 16, .heads = 4, .kv_heads = 2,
    .max_seq = 1024, .original_context = 64, .rope_theta = 150000, .rope_factor = 32, .rope_beta_fast = 32, .rope_beta_slow = 1,
    .window = 32, .sliding = {true, false}, .swiglu_limit = 7, .rms_eps = 1e-5, .eos = {257}, .n_eos = 1, .dense = DT_F32, .experts_dtype = DT_F32,
};

static void dump_rule(const Rule *r) {
    Text t = {0};
    graph_dump(r->pattern, &t);
    printf("rule %s priority %d%s\n", r->name, r->priority, r->when >= 0 ? " when" : "");
    for (int i = 0; i < r->n_kernel; i++) {
        if (r->kernel[i].max_t == INT64_MAX) printf("kernel %s\n", r->kernel[i].name);
        else printf("kernel %s T<=%lld\n", r->kernel[i].name, (long long)r->kernel[i].max_t);
    }
    for (size_t i = 0; i < r->pattern->inputs.n; i++)
        if (r->optional[i]) printf("optional %s\n", r->pattern->inputs.at[i]->name);
    for (size_t i = 0; i < r->pattern->nodes.n; i++)
        if (r->recompute[i]) printf("recompute %s\n", node_name(r->pattern->nodes.at[i]));
    for (size_t i = 0; i < r->pattern->nodes.n; i++)
        if (r->optional_cast[i]) printf("optional %s\n", node_name(r->pattern->nodes.at[i]));
    fputs(t.at, stdout);
    text_free(&t);
}

/* A stand-in for the matcher: binds each placeholder to the value of its name in the step graph, matches all nodes. */
static bool try_when(Front *f, const Rule *r, const Program *p, Err *e) {
    const Graph *g = p->graphs.at[0];
    Value *bound[MAX_IN] = {0};
    bool failed;
    for (size_t i = 0; i < r->pattern->inputs.n; i++) bound[i] = graph_find(g, r->pattern->inputs.at[i]->name);
    bool yes = front_when(f, r, bound, g->nodes.at, g->nodes.n, loc_path(p->arena, &g->nodes.at[g->nodes.n - 1]->loc), &failed, e);
    if (!failed) printf("when %s: %s\n", r->name, yes ? "yes" : "no");
    return !failed;
}

static bool run(Arena *a, int argc, char **argv, Err *e) {
    FrontOptions o = {.max_batch = 8, .max_tokens = 64, .lua_dir = getenv("GPTOSS_LUA") ? getenv("GPTOSS_LUA") : "lua"};
    const char *rules_file = NULL, *graph = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--model")) o.model = &small, i++;
        else if (!strcmp(argv[i], "--max-seq") && i + 1 < argc) o.max_seq = atoll(argv[++i]);
        else if (!strcmp(argv[i], "--rules") && i + 1 < argc) rules_file = argv[++i];
        else graph = argv[i];
    }
    Front *f = front_open(a, &o, e);
    if (!f) return false;
    RuleList rules = {0};
    Program *p = NULL;
    bool ok = (!rules_file || front_rules(f, rules_file, &rules, e)) && (!graph || (p = front_program(f, graph, e)));
    for (size_t i = 0; ok && i < rules.n; i++) {
        if (p) ok = try_when(f, rules.at[i], p, e);
        else dump_rule(rules.at[i]);
    }
    Text t = {0};
    if (ok && p && !rules_file) {
        program_dump(p, &t);
        Err why;
        Program *back = program_load(a, t.at, "dump", &why);
        Text again = {0};
        if (back) program_dump(back, &again);
        if (!back || strcmp(again.at, t.at)) ok = err_set(e, "the dump does not load back: %s", back ? "another text" : why.msg);
        if (ok) fputs(t.at, stdout);
        text_free(&again);
    }
    text_free(&t);
    front_close(f);
    return ok;
}

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {""};
    bool ok = run(a, argc, argv, &e);
    if (!ok) fprintf(stderr, "%s\n", e.msg);
    arena_free(a);
    return !ok;
}
