/* plan_test.c - plan_open is the inverse of plan_write; nothing in a damaged file crashes it or gets past it. */
#include "tests/exec/handmade.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static int failures;
static char dir[] = "/tmp/plan-test-XXXXXX", path[64], other[64];

static void result(const char *name, bool ok, const char *why) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failures++;
}

/* Two of the first node, one of each other; on what the node reads and writes. */
static void add_launches(Plan *p, PlanGraph *g) {
    const Graph *ir = program_graph(p->program, g->name);
    g->n_launches = (int)ir->nodes.n + 1, g->launches = arena_array(p->arena, ir->nodes.n + 1, sizeof *g->launches);
    for (int i = 0; i < g->n_launches; i++) {
        PlanLaunch *l = &g->launches[i];
        *l = (PlanLaunch){.kernel = i > 0, .node = i ? i - 1 : 0, .n_args = 1, .args = {plan_buf(p, "step")}};
        const Node *n = ir->nodes.at[l->node];
        for (int k = 0; k < n->n_in; k++) l->args[l->n_args++] = n->in[k] ? plan_value(g, n->in[k]->name) : -1;
        for (int k = 0; k < n->n_out; k++) l->args[l->n_args++] = plan_value(g, n->out[k]->name);
        l->grid = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->grid);
        l->lds = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->lds);
        for (int b = 0; b < g->n_buckets; b++) {
            l->grid[b][0] = i ? 3 : 0, l->grid[b][1] = i ? 1 : UINT16_MAX, l->grid[b][2] = 1 + (uint32_t)b;
            l->lds[b] = p->kernels[l->kernel].lds / (uint32_t)(b + 1);
        }
    }
}

/* The hand-made plan with everything that it lacks: modules, kernels, launches, rules; with extreme values. */
static Plan *full_plan(void) {
    static const char code[] = "\x7f"
                               "ELF\0\0\xff\xfe binary \0 code";
    Plan *p = hand_plan();
    char *source = arena_alloc(p->arena, 200001);
    for (int i = 0; i < 200000; i++) source[i] = "int x;\n"[i % 7];
    p->model_path = "/models/caf\xe9/\xff";
    p->n_modules = 2, p->modules = arena_array(p->arena, 2, sizeof *p->modules);
    p->modules[0] = (PlanModule){"linear.hip", source, code, sizeof code, false, "FILE linear.hip\n64 1 3\n"};
    p->modules[1] = (PlanModule){"source_only.hip", "", NULL, 0, true, NULL};
    p->n_kernels = 2, p->kernels = arena_array(p->arena, 2, sizeof *p->kernels);
    p->kernels[0] = (PlanKernel){
        "k0", "linear", "mfma16x16x16, K in 4 segments", 0, 256, 65536, 5e-324, 512, 256, 104, 65536, UINT32_MAX, 0, 1};
    p->kernels[1] = (PlanKernel){"k1", "\"quoted\" \\ \xc3\xa9", "", 1, 1024, 0, 0x1.fffffffffffffp+1023, 0, 0, 0, 0, 0, 0, 0};
    p->n_rules = 2, p->rules = arena_array(p->arena, 2, sizeof *p->rules);
    p->rules[0] = (PlanRule){"rmsnorm_qkv", UINT64_MAX, 24};
    p->rules[1] = (PlanRule){"none", 0, 0};
    for (int g = 0; g < p->n_graphs; g++) add_launches(p, &p->graphs[g]);
    p->config.rope_theta = 1 + 1.0 / 3, p->config.rms_eps = 4.9e-324;
    return p;
}

static char *slurp(const char *name, size_t *n) {
    Arena *a = arena_new();
    Err e;
    char *s = file_read(a, name, n, &e), *copy = malloc(*n + 1);
    if (!s) die("%s", e.msg);
    memcpy(copy, s, *n);
    arena_free(a);
    return copy;
}

static void dump(const char *name, const char *bytes, size_t n) {
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) die("%s cannot be written", name);
}

/* --- the inverse ------------------------------------------------------------------------------------------------------ */

static bool same_config(const ModelConfig *a, const ModelConfig *b) {
    return a->vocab == b->vocab && a->rope_theta == b->rope_theta && a->rms_eps == b->rms_eps &&
           a->layers == b->layers && !memcmp(a->sliding, b->sliding, sizeof a->sliding) && a->n_eos == b->n_eos &&
           !memcmp(a->eos, b->eos, sizeof a->eos) && a->dense == b->dense && a->experts_dtype == b->experts_dtype &&
           a->rope_truncate == b->rope_truncate && a->window == b->window;
}

static bool same_buf(const PlanBuf *a, const PlanBuf *b) {
    return !strcmp(a->name, b->name) && a->kind == b->kind && type_eq(&a->type, &b->type) &&
           a->may_round == b->may_round && a->size == b->size && a->offset == b->offset && a->graph == b->graph &&
           a->first == b->first && a->last == b->last && a->hold == b->hold && a->share == b->share;
}

static bool same_kernel(const PlanKernel *a, const PlanKernel *b) {
    return !strcmp(a->symbol, b->symbol) && !strcmp(a->template_name, b->template_name) &&
           !strcmp(a->reduction, b->reduction) && a->module == b->module && a->block == b->block && a->lds == b->lds &&
           a->nmse == b->nmse && a->vgprs == b->vgprs && a->agprs == b->agprs && a->sgprs == b->sgprs &&
           a->lds_static == b->lds_static && a->scratch == b->scratch && a->vgpr_spills == b->vgpr_spills &&
           a->sgpr_spills == b->sgpr_spills;
}

static bool same_graph(const PlanGraph *a, const PlanGraph *b) {
    bool same = !strcmp(a->name, b->name) && a->sym == b->sym && a->n_buckets == b->n_buckets &&
                !memcmp(a->buckets, b->buckets, sizeof a->buckets) && a->n_launches == b->n_launches &&
                a->n_values == b->n_values;
    for (int i = 0; same && i < a->n_launches; i++) {
        const PlanLaunch *x = &a->launches[i], *y = &b->launches[i];
        same = x->kernel == y->kernel && x->node == y->node && x->n_args == y->n_args &&
               !memcmp(x->args, y->args, sizeof x->args) &&
               !memcmp(x->grid, y->grid, (size_t)a->n_buckets * sizeof *x->grid) &&
               !memcmp(x->lds, y->lds, (size_t)a->n_buckets * sizeof *x->lds);
    }
    for (int i = 0; same && i < a->n_values; i++)
        same = !strcmp(a->values[i].name, b->values[i].name) && a->values[i].buf == b->values[i].buf;
    return same;
}

static const char *difference(const Plan *a, const Plan *b) {
    if (strcmp(a->model_name, b->model_name) || strcmp(a->model_path, b->model_path) || strcmp(a->arch, b->arch) ||
        strcmp(a->target_id, b->target_id) || strcmp(a->precision, b->precision))
        return "texts";
    if (a->max_batch != b->max_batch || a->max_tokens != b->max_tokens || a->max_seq != b->max_seq ||
        a->max_blocks != b->max_blocks || a->devices != b->devices || memcmp(a->arena_of, b->arena_of, sizeof a->arena_of))
        return "limits";
    if (!same_config(&a->config, &b->config)) return "config";
    if (a->n_bufs != b->n_bufs || a->n_modules != b->n_modules || a->n_kernels != b->n_kernels ||
        a->n_graphs != b->n_graphs || a->n_kv != b->n_kv || a->n_rules != b->n_rules)
        return "counts";
    for (int i = 0; i < a->n_bufs; i++)
        if (!same_buf(&a->bufs[i], &b->bufs[i])) return a->bufs[i].name;
    for (int i = 0; i < a->n_modules; i++) {
        const PlanModule *x = &a->modules[i], *y = &b->modules[i];
        if (x->overridden != y->overridden || strcmp(x->name, y->name) || strcmp(x->source, y->source) ||
            strcmp(x->lines ? x->lines : "none", y->lines ? y->lines : "none") || !x->code != !y->code || x->code_size != y->code_size || (x->code && memcmp(x->code, y->code, x->code_size)))
            return "modules";
    }
    for (int i = 0; i < a->n_kernels; i++)
        if (!same_kernel(&a->kernels[i], &b->kernels[i])) return "kernels";
    for (int i = 0; i < a->n_graphs; i++)
        if (!same_graph(&a->graphs[i], &b->graphs[i])) return a->graphs[i].name;
    for (int i = 0; i < a->n_kv; i++)
        if (strcmp(a->kv[i].blocks, b->kv[i].blocks) || a->kv[i].window != b->kv[i].window ||
            a->kv[i].n_states != b->kv[i].n_states ||
            memcmp(a->kv[i].states, b->kv[i].states, (size_t)a->kv[i].n_states * sizeof(int)))
            return "kv";
    for (int i = 0; i < a->n_rules; i++)
        if (strcmp(a->rules[i].name, b->rules[i].name) || a->rules[i].hash != b->rules[i].hash ||
            a->rules[i].uses != b->rules[i].uses)
            return "rules";
    Text x = {0}, y = {0};
    program_dump(a->program, &x), program_dump(b->program, &y);
    bool same = !strcmp(x.at, y.at);
    text_free(&x), text_free(&y);
    return same ? NULL : "program";
}

static void test_inverse(void) {
    Err e = {0};
    Plan *p = full_plan();
    if (!plan_write(p, path, &e)) die("%s", e.msg);
    Plan *q = plan_open(path, &e);
    result("round_trip", q && !difference(p, q), q ? difference(p, q) : e.msg);
    size_t n = 0, m = 0;
    if (q && !plan_write(q, other, &e)) die("%s", e.msg);
    char *a = slurp(path, &n), *b = q ? slurp(other, &m) : NULL;
    result("same_bytes", q && n == m && !memcmp(a, b, n), "writing what was read gives other bytes");
    free(a), free(b);
    Text t = {0};
    if (q) plan_inspect(q, &t), plan_inspect_json(q, &t);
    result("inspect", q && strstr(t.at, "rmsnorm_qkv") && strstr(t.at, "\"k0\""), "rule or kernel not shown");
    text_free(&t);
    plan_close(q);
    arena_free(p->arena);
}

/* --- damaged files ------------------------------------------------------------------------------------------------------ */

static bool opens(const char *bytes, size_t n, Err *e) {
    dump(other, bytes, n);
    Plan *p = plan_open(other, e);
    plan_close(p);
    return p != NULL;
}

static void seal(char *bytes, size_t n) {
    uint64_t total = n, hash = hash64(bytes + 40, n - 40);
    memcpy(bytes + 24, &total, 8), memcpy(bytes + 32, &hash, 8);
}

static void test_every_byte(const char *file, size_t n) {
    Err e;
    char *copy = malloc(n);
    size_t opened = 0, silent = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(copy, file, n);
        copy[i] ^= (char)(1 << i % 8);
        e.msg[0] = 0;
        if (opens(copy, n, &e)) opened++;
        else if (!e.msg[0]) silent++;
    }
    result("every_byte_flipped", !opened && !silent, "a flipped bit was not an error");
    opened = 0;
    for (size_t k = 0; k < n; k += k < 100 ? 1 : 37) opened += opens(file, k, &e);
    result("truncated", !opened, "a truncated file was opened");
    free(copy);
}

static void test_version(const char *file, size_t n) {
    Err e = {0};
    char *copy = malloc(n);
    memcpy(copy, file, n);
    copy[8] = PLAN_VERSION + 1;
    bool bad = opens(copy, n, &e);
    char want[120];
    snprintf(want, sizeof want, "plan version %d, this is version %d: recompile with gptoss-compile", PLAN_VERSION + 1,
             PLAN_VERSION);
    result("version", !bad && strstr(e.msg, want), e.msg);
    memcpy(copy, file, n);
    copy[0] = 'X';
    bad = opens(copy, n, &e);
    result("not_a_plan", !bad && strstr(e.msg, "not a plan"), e.msg);
    free(copy);
}

static unsigned rnd(uint64_t *s) { return (unsigned)((*s = *s * 6364136223846793005u + 1442695040888963407u) >> 33); }

/* Valid checksum, arbitrary contents: an error or a plan, never a crash (ASan, UBSan). */
static void test_resealed(const char *file, size_t n) {
    Err e;
    uint64_t seed = 1;
    char *copy = malloc(n);
    for (int round = 0; round < 1500; round++) {
        memcpy(copy, file, n);
        for (unsigned k = rnd(&seed) % 4 + 1; k--;) copy[16 + rnd(&seed) % (n - 16)] = (char)rnd(&seed);
        seal(copy, n);
        opens(copy, n, &e);
    }
    result("resealed_bytes", true, "");
    free(copy);
}

/* The file with these bytes as its metadata, sealed. */
static bool opens_meta(const char *file, size_t n, const char *z, size_t size, Err *e) {
    uint64_t meta, new_size = size;
    memcpy(&meta, file + 16, 8);
    size_t blobs = (40 + meta + 63) / 64 * 64;
    Text t = {0};
    text_put(&t, file, 40), text_put(&t, z, size);
    while (t.n % 64) text_put(&t, "", 1);
    text_put(&t, file + blobs, n - blobs);
    memcpy(t.at + 16, &new_size, 8);
    seal(t.at, t.n);
    bool opened = opens(t.at, t.n, e);
    text_free(&t);
    return opened;
}

static bool opens_json(const char *file, size_t n, const char *json, size_t json_n, Err *e) {
    size_t room = ZSTD_compressBound(json_n);
    char *z = malloc(room);
    bool opened = opens_meta(file, n, z, ZSTD_compress(z, room, json, json_n, 1), e);
    free(z);
    return opened;
}

/* The metadata as text, to be freed. */
static char *metadata(const char *file, size_t *n) {
    uint64_t size;
    memcpy(&size, file + 16, 8);
    *n = (size_t)ZSTD_getFrameContentSize(file + 40, size);
    char *json = malloc(*n + 1);
    if (ZSTD_decompress(json, *n, file + 40, size) != *n) die("metadata");
    json[*n] = 0;
    return json;
}

/* Metadata that is valid JSON with other numbers in it. */
static void test_metadata(const char *file, size_t n) {
    static const char *const odd[] = {"-1",
                                      "0",
                                      "1",
                                      "7",
                                      "2147483647",
                                      "-2147483648",
                                      "4294967295",
                                      "9223372036854775807",
                                      "-9223372036854775808",
                                      "null",
                                      "\"0xffffffffffffffff\"",
                                      "[]",
                                      "{}",
                                      "1e300",
                                      "\"\""};
    Err e;
    uint64_t seed = 2;
    size_t json_n;
    char *json = metadata(file, &json_n);
    for (int round = 0; round < 3000; round++) {
        Text t = {0};
        size_t at = rnd(&seed) % json_n;
        while (at < json_n && !(json[at] >= '0' && json[at] <= '9' && strchr("[,:", json[at - 1]))) at++;
        size_t end = at;
        while (end < json_n && json[end] >= '0' && json[end] <= '9') end++;
        const char *by = odd[rnd(&seed) % LEN(odd)];
        text_put(&t, json, at), text_add(&t, "%s", by), text_put(&t, json + end, json_n - end);
        opens_json(file, n, t.at, t.n, &e);
        text_free(&t);
    }
    result("resealed_metadata", true, "");
    free(json);
}

/* --- what must not get past plan_open ------------------------------------------------------------------------------------- */

static int temp_of(const Plan *p) {
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP) return i;
    die("no temp");
}

static PlanBuf *buf(const Plan *p, const char *name) {
    int i = plan_buf(p, name);
    for (int k = 0; i < 0 && k < p->n_bufs; k++)
        if (!strcmp(p->bufs[k].name, name)) i = k;
    if (i < 0) die("no buffer %s", name);
    return &p->bufs[i];
}

static int value_index(const PlanGraph *g, const char *name) {
    for (int i = 0; i < g->n_values; i++)
        if (!strcmp(g->values[i].name, name)) return i;
    die("no value %s", name);
}

/* All at the first node, the last in memory first: whoever keeps them sorted moves all others for each. */
static void many_temps(Plan *p) {
    enum { MANY = 9000, STEP = 256 };
    size_t from = (p->arena_of[0] + STEP - 1) / STEP * STEP;
    PlanBuf *bufs = arena_array(p->arena, (size_t)p->n_bufs + MANY, sizeof *bufs);
    memcpy(bufs, p->bufs, (size_t)p->n_bufs * sizeof *bufs);
    for (size_t i = 0; i < MANY; i++)
        bufs[p->n_bufs++] = (PlanBuf){.name = arena_printf(p->arena, "many%zu", i), .kind = BUF_TEMP, .type = {DT_F32, 1, {dim_const(1)}}, .size = 4,
                                      .offset = from + STEP * (MANY - i)};
    p->bufs = bufs, p->arena_of[0] = from + STEP * (MANY + 1);
}

/* Links that no graph knows: nothing would be wrong with them but that they are many. */
static void many_links(Plan *p) {
    enum { MANY = 1 << 16 };
    PlanBuf *bufs = arena_array(p->arena, (size_t)p->n_bufs + MANY, sizeof *bufs);
    memcpy(bufs, p->bufs, (size_t)p->n_bufs * sizeof *bufs);
    for (int i = 0; i < MANY; i++)
        bufs[p->n_bufs++] = (PlanBuf){.name = arena_printf(p->arena, "many%d", i), .kind = BUF_LINK, .type = {DT_F32, 1, {dim_const(1)}}, .size = 4, .graph = -1, .first = -1, .last = -1};
    p->bufs = bufs;
}

/* The first node's place in the model has so many letters. */
static void long_scope(Plan *p, size_t n) {
    char *s = arena_alloc(p->arena, n + 1);
    p->program->graphs.at[0]->nodes.at[0]->loc.scope = memset(s, 's', n);
}

/* The node x, the embedding, becomes a fused one whose body scales it so often. */
static Node *fused(Plan *p, int times) {
    Node *n = p->program->graphs.at[0]->nodes.at[1], *made;
    Graph *body = graph_new(p->arena, "b");
    Value *in[2];
    Err e;
    const Attr by = {.name = "by", .type = ATTR_FLOAT, .f = 1};
    graph_index(body, true);
    for (int i = 0; i < 2; i++) in[i] = graph_input(body, n->in[i]->name, n->in[i]->type);
    made = graph_add(body, OP_embed, in, 2, NULL, 0, "y", (Loc){.scope = ""}, &e);
    for (int i = 0; made && i < times; i++) made = graph_add(body, OP_scale, made->out, 1, &by, 1, arena_printf(p->arena, "y%d", i), (Loc){.scope = ""}, &e);
    if (!made) die("fused: %s", e.msg);
    graph_output(body, made->out[0]);
    n->op = OP_FUSED, n->n_attr = 0, n->rule = "r", n->body = body, n->hook = made->out[0];
    n->n_kernel_in = n->n_body_in = 2, n->n_kernel = 1, n->kernel[0] = (KernelChoice){INT64_MAX, "k"};
    return n;
}

/* Behind all that graph step computes, so many more, one of the other. */
static void many_nodes(Plan *p, int n) {
    Graph *g = p->program->graphs.at[0];
    const Attr by = {.name = "by", .type = ATTR_FLOAT, .f = 1};
    Node *made = g->nodes.at[1];
    Err e;
    graph_index(g, true);
    for (int i = 0; made && i < n; i++) made = graph_add(g, OP_scale, made->out, 1, &by, 1, arena_printf(p->arena, "many%d", i), (Loc){.scope = ""}, &e);
    if (!made) die("many_nodes: %s", e.msg);
}

static void choose(Plan *p, const char *of, const char *says) {
    p->n_choices = 1, p->choices = arena_alloc(p->arena, sizeof *p->choices);
    *p->choices = (PlanChoice){of, says};
}

static void many_launches(PlanGraph *g, Arena *a) {
    enum { MANY = 256 };
    PlanLaunch *l = arena_array(a, (size_t)g->n_launches + MANY, sizeof *l);
    for (int i = 0; i < MANY; i++) l[i] = g->launches[0];
    memcpy(l + MANY, g->launches, (size_t)g->n_launches * sizeof *l);
    g->launches = l, g->n_launches += MANY;
}

/* Each breaks one statement of docs/plan-verifier.md; `message` is what plan_open says of it. */
#define BAD(X)                                                                                                         \
    X(launch_buffer, "graphs[0]: k0: buffer", p->graphs[0].launches[0].args[1] = p->n_bufs)                            \
    X(launch_negative, "graphs[0]: k0: buffer -2", p->graphs[0].launches[0].args[1] = -2)                              \
    X(launch_step, "its first argument is not the step", p->graphs[0].launches[0].args[0] = plan_buf(p, "embed"))      \
    X(launch_node, "k1 computes node 100000", p->graphs[0].launches[1].node = 100000)                                  \
    X(launch_kernel, "a launch of kernel 2 of 2", p->graphs[0].launches[1].kernel = 2)                                 \
    X(launch_order, "not in the order of their nodes", (p->graphs[0].launches[3].node = 0, p->graphs[0].launches[3].n_args = 1))                           \
    X(launch_missing, "no launch computes node", p->graphs[0].n_launches--)                                            \
    X(launch_gap, "no launch computes node", (p->graphs[0].launches[3].node = 3, p->graphs[0].launches[3].n_args = 1))                                     \
    X(launch_foreign, "is nothing that its node", p->graphs[0].launches[0].args[2] = plan_buf(p, "embed"))             \
    X(launch_state, "is nothing that its node", p->graphs[0].launches[2].args[1] = plan_buf(p, "layer0.attn.kv"))      \
    X(launch_grid, "a grid of", p->graphs[0].launches[1].grid[0][0] = UINT32_MAX)                                      \
    X(launch_grid_bytes, "a grid of", p->graphs[0].launches[1].grid[0][0] = 1 << 20)                                   \
    X(launch_grid_deep, "a grid of", p->graphs[0].launches[1].grid[0][2] = 1 << 16)                                    \
    X(launch_lds, "bytes of shared memory", p->graphs[0].launches[1].lds[0] = 1)                                       \
    X(launches_many, "step: node 0 has more than 256 launches", many_launches(&p->graphs[0], p->arena))                \
    X(nodes_many, "nodes, there may be 131072", many_nodes(p, 1 << 17))                                               \
    X(program_long, "bytes, there may be 33554432", long_scope(p, 33 << 20))                                           \
    X(body_large, "the body b has 257 nodes, there may be 256", fused(p, 256))                                      \
    X(body_hook, "x: the fused node has no hook", fused(p, 1)->hook = NULL)                                            \
    X(kernel_tolerance, "k0 has a tolerance of nan", p->kernels[0].nmse = NAN)                                         \
    X(kernel_tolerance_wide, "k1 has a tolerance of inf", p->kernels[1].nmse = INFINITY)                               \
    X(kernel_tolerance_less, "k1 has a tolerance of -1", p->kernels[1].nmse = -1)                                      \
    X(choice, "choices[0]: what it says holds a control character", choose(p, "k0", "\033]0;a\a")) \
    X(choice_of, "choices[0]: what it is of holds a control character", choose(p, "k0\r", "")) \
    X(mxfp4, "hidden is mxfp4 but no weight", (buf(p, "hidden")->type.dtype = DT_MXFP4, buf(p, "hidden")->size = 16 * 64 / 32 * 17)) \
    X(tables, "max_blocks is 40 for 2560 positions of 1048576 requests", (p->config.max_seq = p->max_seq = 2560, p->max_blocks = 40, p->max_batch = 1 << 20)) \
    X(kernel_module, "is in module -1", p->kernels[0].module = -1)                                                     \
    X(kernel_block, "blocks of 2048", p->kernels[0].block = 2048)                                                      \
    X(kernel_symbol, "kernels[1]: its symbol is no name", p->kernels[1].symbol = "a\nok k1")                           \
    X(kernel_template, "its template holds a control character", p->kernels[1].template_name = "\033[2J")              \
    X(module_utf8, "modules[0]: its name is not UTF-8", p->modules[0].name = "a\xff")                                  \
    X(rule_utf8, "rules[0]: its name is not UTF-8", p->rules[0].name = "\xc3")                                         \
    X(module_name, "modules[0]: its name holds", p->modules[0].name = "a\tb")                                          \
    X(model_path, "model_path holds a control character", p->model_path = "/a\nb")                                     \
    X(precision, "neither strict nor fast", p->precision = "exact")                                                    \
    X(devices, "a plan for 0 devices", p->devices = 0)                                                                 \
    X(devices_many, "a plan for 65 devices", p->devices = 65)                                                          \
    X(hold, "embed is on several devices, the plan is for one", buf(p, "embed")->hold = HOLD_EACH)                     \
    X(hold_kind, "embed is common to all devices but no temporary", (p->devices = 2, buf(p, "embed")->hold = HOLD_COMMON))\
    X(hold_pool, "on each device, where nobody keeps it", (p->devices = 2, p->bufs[p->kv[0].states[0]].hold = HOLD_EACH))\
    X(hold_arena, "beyond the scratch arena of 0 bytes", (p->devices = 2, p->bufs[temp_of(p)].hold = HOLD_EACH))         \
    X(share, "which are dealt out over 2 devices", (p->devices = 2, buf(p, "embed")->hold = HOLD_EACH, buf(p, "embed")->share = 512))\
    X(share_few, "embed is dealt out, 1 over 2", (p->devices = 2, buf(p, "embed")->hold = HOLD_EACH, buf(p, "embed")->share = 1))\
    X(share_first, "embed is dealt out, 512", (p->devices = 2, buf(p, "embed")->share = 512))                            \
    X(temp_offset, "beyond the scratch arena", p->bufs[temp_of(p)].offset = p->arena_of[HOLD_FIRST])                                \
    X(temp_wrap, "beyond the scratch arena", p->bufs[temp_of(p)].offset = SIZE_MAX - 8)                                \
    X(temp_align, "no multiple of 256", buf(p, "layer0.attn.n")->offset += 16)                                         \
    X(temp_overlap, "live at once in the same bytes", buf(p, "layer0.attn.n")->offset = buf(p, "x")->offset)           \
    X(temp_many, "more than 8192 temporaries live at once", many_temps(p))                                             \
    X(bufs_many, "more than 65536 buffers that are not temporary", many_links(p))                                      \
    X(temp_dead, "which lives from node 3 to 3", buf(p, "x")->first = buf(p, "x")->last = 3)                           \
    X(temp_graph, "belongs to graph 9", p->bufs[temp_of(p)].graph = 9)                                                 \
    X(named_offset, "is not a temporary but has an offset", buf(p, "embed")->offset = 256)                             \
    X(named_range, "is not a temporary but has a live range", buf(p, "embed")->first = 0)                              \
    X(small, "embed has 65535 bytes, its type needs 65536", buf(p, "embed")->size -= 1)                                \
    X(large, "hidden has", buf(p, "hidden")->size += 4)                                                                \
    X(buffer_name, "is no name for a buffer", buf(p, "embed")->name = "a b")                                           \
    X(missing_value, "has no buffer", p->graphs[0].n_values--)                                                         \
    X(value_twice, "has two buffers", p->graphs[0].values[3].name = p->graphs[0].values[2].name)                       \
    X(value_type, "value embed is bf16[512,64], its buffer bf16[511,64]", (buf(p, "embed")->type.dim[0].add--, buf(p, "embed")->size -= 128)) \
    X(value_buffer, "buffer -5", p->graphs[0].values[3].buf = -5)                                                      \
    X(value_shared, "two values of the graph lie in", p->graphs[0].values[value_index(&p->graphs[0], "layer0.attn.o")].buf = p->graphs[0].values[value_index(&p->graphs[0], "layer0.attn.n")].buf) \
    X(value_kind, "lies in embed, a buffer of kind link", buf(p, "embed")->kind = BUF_LINK)                            \
    X(result_input, "a buffer of kind input", p->graphs[0].values[value_index(&p->graphs[0], "ids")].buf = plan_buf(p, "src")) \
    X(graph_name, "nobody runs a graph \"nothing\"", p->graphs[1].name = "nothing")                                    \
    X(graph_twice, "two graphs are called \"step\"", p->graphs[1].name = "step")                                       \
    X(graph_step, "there is no graph step", (p->graphs++, p->n_graphs--))                                              \
    X(graph_left_out, "the program has 3 graphs, the plan 2", p->n_graphs--)                                           \
    X(graph_symbol, "bounded by the wrong symbol", p->graphs[0].sym = SYM_S)                                           \
    X(buckets, "do not ascend", p->graphs[0].buckets[1] = 1)                                                           \
    X(buckets_rows, "max_batch is 4", p->graphs[1].buckets[1] = 5)                                                     \
    X(max_tokens, "max_tokens is 17", p->max_tokens = 17)                                                              \
    X(max_batch, "max_batch is 2097152", p->max_batch = 1 << 21)                                                       \
    X(max_seq, "max_seq is 2000, the model's 1024", p->max_seq = 2000)                                                 \
    X(max_blocks, "max_blocks is 1", p->max_blocks = 1)                                                                \
    X(max_blocks_more, "max_blocks is 5", p->max_blocks = 5)                                                           \
    X(config_head, "head_dim is 256", p->config.head_dim = 256)                                                        \
    X(config_nan, "rms_norm_eps is nan", p->config.rms_eps = NAN)                                                      \
    X(config_eos, "\"eos\" is -1", p->config.eos[0] = -1)                                                              \
    X(input_link, "pos is the name of an input", buf(p, "pos")->kind = BUF_LINK)                                       \
    X(input_type, "the plan has input src as i32[2*T]", (buf(p, "src")->type.dim[0].mul = 2, buf(p, "src")->size *= 2)) \
    X(input_rope, "the plan has input rope", (buf(p, "rope")->type.dim[1] = dim_const(9), buf(p, "rope")->size = 256 * 9 * 8)) \
    X(input_unknown, "value pos lies in buffer pox", buf(p, "pos")->name = "pox")                                            \
    X(kv_blocks, "block table pos", p->kv[0].blocks = "pos")                                                           \
    X(kv_shared, "is of two groups", p->kv[1].blocks = p->kv[0].blocks)                                                \
    X(kv_twice, "is in two groups", p->kv[1].states[0] = p->kv[0].states[0])                                           \
    X(kv_missing, "is in no group", p->kv[1].n_states--)                                                               \
    X(kv_empty, "no state is in the group", p->kv[1].n_states = 0)                                                     \
    X(kv_window, "has a window of 16", p->kv[1].window = 15)                                                           \
    X(kv_window_wide, "window 2147483648", p->kv[1].window = (int64_t)INT32_MAX + 1)                                   \
    X(kv_swapped, "by another table than", (p->kv[0].blocks = "blocks.window", p->kv[1].blocks = "blocks.full"))       \
    X(two_names, "a second buffer is called slot", buf(p, "pos")->name = "slot")                                       \
    X(overflow, "last: dimension 1 is too large", buf(p, "last")->type.dim[0].add = INT64_MAX)                         \
    X(overflow_rows, "its type overflows", (buf(p, "hidden")->type.dim[0].mul = (int64_t)1 << 39))                     \
    X(last, "state last is i32[3]", (buf(p, "last")->type.dim[0].add = 3, buf(p, "last")->size = 12))                  \
    X(vocabulary, "the vocabulary is 544", p->config.vocab = 544)

#define FUNCTION(name, message, damage)                                                                                \
    static void b_##name(Plan *p) { (void)(damage); }
BAD(FUNCTION)
static const struct {
    const char *name;
    void (*damage)(Plan *p);
    const char *message;
} bad[] = {
#define ROW(name, message, damage) {#name, b_##name, message},
    BAD(ROW)};

static void test_bad(void) {
    for (size_t i = 0; i < LEN(bad); i++) {
        char name[64], why[4200];
        Err e = {0};
        Plan *p = full_plan();
        bad[i].damage(p);
        if (!plan_write(p, other, &e)) die("%s", e.msg);
        Plan *q = plan_open(other, &e);
        snprintf(name, sizeof name, "bad_%s", bad[i].name);
        snprintf(why, sizeof why, "expected \"%s\", got \"%s\"", bad[i].message, q ? "a plan" : e.msg);
        result(name, !q && strstr(e.msg, bad[i].message), why);
        plan_close(q);
        arena_free(p->arena);
    }
}

/* A few kilobytes that say they are more than there may be. */
static void test_bomb(const char *file, size_t n) {
    size_t most = 65 << 20;
    char *spaces = malloc(most);
    Err e = {0};
    memset(spaces, ' ', most);
    bool opened = opens_json(file, n, spaces, most, &e);
    result("bomb", !opened && strstr(e.msg, "metadata expands to 68157440 bytes, there may be 67108864"), e.msg);
    most = 16 << 20;
    for (size_t i = 0; i < most; i++) spaces[i] = "[],"[i % 3];
    opened = opens_json(file, n, spaces, most, &e);
    result("bomb_items", !opened && strstr(e.msg, "metadata: JSON of so many items that it takes about"), e.msg);
    free(spaces);
}

/* A path that is no UTF-8 stands in hex: digits by twos, and however long, read in one pass. */
static void test_hex(const char *file, size_t n) {
    enum { LONG = 1 << 20 };
    size_t json_n;
    char *json = metadata(file, &json_n), *digits = strstr(json, "{\"hex\":\"") + strlen("{\"hex\":\""), *end = strchr(digits, '"');
    Err e = {0};
    Text t = {0};
    text_put(&t, json, (size_t)(digits - json));
    for (int i = 0; i < LONG; i++) text_put(&t, "a", 1);
    text_put(&t, end, json_n - (size_t)(end - json));
    result("hex_long", opens_json(file, n, t.at, t.n, &e), e.msg);
    digits[1] = ' ';
    result("hex_blank", !opens_json(file, n, json, json_n, &e) && strstr(e.msg, "\"model_path\" is not hex"), e.msg);
    text_free(&t), free(json);
}

/* Work that the file's bytes do not pay for: frames of nothing, blobs that are named again, and lists of such. */
static void test_repeated(const char *file, size_t n) {
    Err e = {0};
    uint64_t size;
    memcpy(&size, file + 16, 8);
    Text t = {0};
    text_put(&t, file + 40, size);
    char empty[32];
    text_put(&t, empty, ZSTD_compress(empty, sizeof empty, "", 0, 1));
    bool opened = opens_meta(file, n, t.at, t.n, &e);
    result("frames", !opened && strstr(e.msg, "metadata cannot be expanded"), e.msg);
    text_free(&t);

    size_t json_n;
    char *json = metadata(file, &json_n), *at = strstr(json, "\"modules\":[") + strlen("\"modules\":["), *end = strstr(at, "},") + 2;
    for (int times = 64; times <= 1024; times += 960) { /* each names the source and the code of the first */
        text_put(&t, json, (size_t)(at - json));
        for (int i = 0; i < times; i++) text_put(&t, at, (size_t)(end - at));
        text_put(&t, at, json_n - (size_t)(at - json));
        opened = opens_json(file, n, t.at, t.n, &e);
        const char *want = times < 1000 ? "the blobs are larger than the file" : "\"modules\" has 1026 items, at most 1024 are possible";
        result(times < 1000 ? "blobs_again" : "modules_many", !opened && strstr(e.msg, want), e.msg);
        text_free(&t);
    }
    free(json);
}

int main(void) {
    Err e = {0};
    if (!mkdtemp(dir)) die("no temporary folder");
    snprintf(path, sizeof path, "%s/plan.bin", dir), snprintf(other, sizeof other, "%s/other.bin", dir);
    test_inverse();
    size_t n;
    char *file = slurp(path, &n);
    test_every_byte(file, n);
    test_version(file, n);
    test_resealed(file, n);
    test_metadata(file, n);
    test_bomb(file, n);
    test_hex(file, n);
    test_repeated(file, n);
    free(file);
    test_bad();
    Plan *none = plan_open(dir, &e);
    result("folder", !none && strstr(e.msg, "not a regular file"), e.msg);
    unlink(other);
    none = mkfifo(other, 0600) ? NULL : plan_open(other, &e); /* whoever opens one waits for a writer */
    result("fifo", !none && strstr(e.msg, "not a regular file"), e.msg);
    none = plan_open("/nonexistent/plan.bin", &e);
    result("missing", !none && strstr(e.msg, "/nonexistent/plan.bin: No such file"), e.msg);
    unlink(path), unlink(other), rmdir(dir);
    return failures != 0;
}
