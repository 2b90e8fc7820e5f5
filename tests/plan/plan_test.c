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
    p->kernels[1] = (PlanKernel){"k1", "\"quoted\" \\ \n", "", 1, 1024, 0, INFINITY, 0, 0, 0, 0, 0, 0, 0};
    p->n_rules = 2, p->rules = arena_array(p->arena, 2, sizeof *p->rules);
    p->rules[0] = (PlanRule){"rmsnorm_qkv", UINT64_MAX, 24};
    p->rules[1] = (PlanRule){"none", 0, 0};
    PlanGraph *g = &p->graphs[0];
    g->n_launches = 2, g->launches = arena_array(p->arena, 2, sizeof *g->launches);
    for (int i = 0; i < 2; i++) {
        PlanLaunch *l = &g->launches[i];
        *l = (PlanLaunch){.kernel = i, .node = i, .n_args = 3, .args = {plan_buf(p, "step"), plan_buf(p, "embed"), -1}};
        l->grid = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->grid);
        l->lds = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->lds);
        for (int b = 0; b < g->n_buckets; b++) {
            l->grid[b][0] = i ? 4194303 : 0, l->grid[b][1] = l->grid[b][2] = UINT32_MAX;
            l->lds[b] = p->kernels[i].lds / (uint32_t)(b + 1);
        }
    }
    p->config.rope_theta = 1.0 / 3, p->config.rms_eps = 4.9e-324;
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
           a->first == b->first && a->last == b->last;
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
        a->max_blocks != b->max_blocks || a->scratch != b->scratch)
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
    uint64_t meta_size, seed = 2;
    memcpy(&meta_size, file + 16, 8);
    size_t blobs = (40 + meta_size + 63) / 64 * 64, json_n = (size_t)ZSTD_getFrameContentSize(file + 40, meta_size);
    char *json = malloc(json_n + 1);
    if (ZSTD_decompress(json, json_n, file + 40, meta_size) != json_n) die("metadata");
    json[json_n] = 0;
    for (int round = 0; round < 3000; round++) {
        Text t = {0}, out = {0};
        size_t at = rnd(&seed) % json_n;
        while (at < json_n && !(json[at] >= '0' && json[at] <= '9' && strchr("[,:", json[at - 1]))) at++;
        size_t end = at;
        while (end < json_n && json[end] >= '0' && json[end] <= '9') end++;
        const char *by = odd[rnd(&seed) % LEN(odd)];
        text_put(&t, json, at), text_add(&t, "%s", by), text_put(&t, json + end, json_n - end);
        char *z = malloc(ZSTD_compressBound(t.n));
        size_t zn = ZSTD_compress(z, ZSTD_compressBound(t.n), t.at, t.n, 1);
        text_put(&out, file, 40), text_put(&out, z, zn);
        while (out.n % 64) text_put(&out, "", 1);
        text_put(&out, file + blobs, n - blobs);
        uint64_t size = zn;
        memcpy(out.at + 16, &size, 8);
        seal(out.at, out.n);
        opens(out.at, out.n, &e);
        free(z), text_free(&t), text_free(&out);
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

static void b_launch_buffer(Plan *p) { p->graphs[0].launches[0].args[1] = p->n_bufs; }
static void b_launch_negative(Plan *p) { p->graphs[0].launches[0].args[1] = -2; }
static void b_launch_step(Plan *p) { p->graphs[0].launches[0].args[0] = plan_buf(p, "embed"); }
static void b_launch_node(Plan *p) { p->graphs[0].launches[1].node = 100000; }
static void b_launch_kernel(Plan *p) { p->graphs[0].launches[1].kernel = 2; }
static void b_launch_order(Plan *p) { p->graphs[0].launches[0].node = 5; }
static void b_launch_grid(Plan *p) { p->graphs[0].launches[1].grid[0][0] = UINT32_MAX; }
static void b_kernel_module(Plan *p) { p->kernels[0].module = -1; }
static void b_kernel_block(Plan *p) { p->kernels[0].block = 2048; }
static void b_temp_offset(Plan *p) { p->bufs[temp_of(p)].offset = p->scratch; }
static void b_temp_wrap(Plan *p) { p->bufs[temp_of(p)].offset = SIZE_MAX - 8; }
static void b_temp_dead(Plan *p) { p->bufs[temp_of(p)].first = 3, p->bufs[temp_of(p)].last = 3; }
static void b_temp_graph(Plan *p) { p->bufs[temp_of(p)].graph = 9; }
static void b_small(Plan *p) { p->bufs[plan_buf(p, "embed")].size -= 1; }
static void b_missing_value(Plan *p) { p->graphs[0].n_values--; }
static void b_value_type(Plan *p) { p->bufs[plan_buf(p, "embed")].type.dim[0].add--; }
static void b_value_buffer(Plan *p) { p->graphs[0].values[3].buf = -5; }
static void b_graph_name(Plan *p) { p->graphs[1].name = "nothing"; }
static void b_graph_twice(Plan *p) { p->graphs[1].name = "step"; }
static void b_buckets(Plan *p) { p->graphs[0].buckets[1] = 1; }
static void b_max_tokens(Plan *p) { p->max_tokens = 17; }
static void b_max_blocks(Plan *p) { p->max_blocks = 1; }
static void b_kv_blocks(Plan *p) { p->kv[0].blocks = "pos"; }
static void b_kv_twice(Plan *p) { p->kv[1].states[0] = p->kv[0].states[0]; }
static void b_kv_missing(Plan *p) { p->kv[1].n_states--; }
static void b_two_names(Plan *p) { p->bufs[plan_buf(p, "pos")].name = "slot"; }
static void b_overflow(Plan *p) { p->bufs[plan_buf(p, "last")].type.dim[0].add = INT64_MAX; }

static const struct {
    const char *name;
    void (*damage)(Plan *p);
    const char *message;
} bad[] = {
    {"launch_buffer", b_launch_buffer, "graphs[0]: k0: buffer"},
    {"launch_negative", b_launch_negative, "graphs[0]: k0: buffer -2"},
    {"launch_step", b_launch_step, "its first argument is not the step"},
    {"launch_node", b_launch_node, "k1 computes node 100000"},
    {"launch_kernel", b_launch_kernel, "a launch of kernel 2 of 2"},
    {"launch_order", b_launch_order, "not in the order of their nodes"},
    {"launch_grid", b_launch_grid, "a grid of"},
    {"kernel_module", b_kernel_module, "is in module -1"},
    {"kernel_block", b_kernel_block, "blocks of 2048"},
    {"temp_offset", b_temp_offset, "beyond the scratch arena"},
    {"temp_wrap", b_temp_wrap, "beyond the scratch arena"},
    {"temp_dead", b_temp_dead, "which lives from node 3 to 3"},
    {"temp_graph", b_temp_graph, "belongs to graph 9"},
    {"small", b_small, "embed has 65535 bytes, its type needs 65536"},
    {"missing_value", b_missing_value, "has no buffer"},
    {"value_type", b_value_type, "value embed is bf16[512,64], its buffer bf16[511,64]"},
    {"value_buffer", b_value_buffer, "buffer -5"},
    {"graph_name", b_graph_name, "no graph \"nothing\""},
    {"graph_twice", b_graph_twice, "two graphs are called \"step\""},
    {"buckets", b_buckets, "do not ascend"},
    {"max_tokens", b_max_tokens, "max_tokens is 17"},
    {"max_blocks", b_max_blocks, "max_blocks is 1"},
    {"kv_blocks", b_kv_blocks, "block table pos"},
    {"kv_twice", b_kv_twice, "is in two groups"},
    {"kv_missing", b_kv_missing, "is in no group"},
    {"two_names", b_two_names, "a second buffer is called slot"},
    {"overflow", b_overflow, "overflows"},
};

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
