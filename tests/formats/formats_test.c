/* formats_test.c - checkpoints on disk: every layout, read back value by value, and files that lie.
 * usage: formats_test [MKMODEL [CHECK]]    the programs; their tests are skipped without them
 * One line per test: ok NAME, FAIL NAME: why, skip NAME: why. Exits 0 iff none failed.
 * The hand-made files below say names, shapes and places independently of the tables in model/model_*.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "model/model.h"
#include "model/safetensors.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the harness --- */

static char dir[256];               /* scratch, removed at the end */
static const char *mkmodel, *check; /* NULL: skip their tests */
static char why[4096];              /* of the current test's first failure */
static int failures;

static bool fail(const char *fmt, ...) PRINTF(1, 2);
static bool fail(const char *fmt, ...) {
    va_list ap;
    if (*why) return false;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return false;
}

static void run(const char *name, void (*test)(void)) {
    *why = 0;
    test();
    if (!*why) printf("ok %s\n", name);
    else if (!strncmp(why, "skip", 4)) printf("skip %s: %s\n", name, why + 5);
    else printf("FAIL %s: %s\n", name, why), failures++;
    fflush(stdout);
}

static const char *at(const char *name) { /* a path in the scratch folder; eight live at once */
    static char buf[8][512];
    static int i;
    i = (i + 1) % 8;
    snprintf(buf[i], sizeof buf[i], "%s/%s", dir, name);
    return buf[i];
}

static void put_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) die("test: cannot write %s", path);
}

static void put_text(const char *path, const char *s) { put_file(path, s, strlen(s)); }

static int shell(const char *fmt, ...) PRINTF(1, 2);
static int shell(const char *fmt, ...) {
    char cmd[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    fflush(stdout);
    int rc = system(cmd);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128;
}

/* Opening and checking path must fail with a single line that holds each of a, b. */
static bool expect_error(const char *path, const char *a, const char *b) {
    Err e = {0};
    Model *m = model_open(path, false, &e);
    bool ok = m && model_check(m, &e);
    model_close(m);
    if (ok) return fail("%s: accepted; expected an error with \"%s\"", path, a);
    if (strchr(e.msg, '\n')) return fail("more than one line: %s", e.msg);
    if (!strstr(e.msg, a) || (b && !strstr(e.msg, b)))
        return fail("expected \"%s\" \"%s\" in: %s", a, b ? b : "", e.msg);
    return true;
}

static Model *open_ok(const char *path) {
    Err e = {0};
    Model *m = model_open(path, false, &e);
    if (m && model_check(m, &e)) return m;
    fail("%s", e.msg);
    model_close(m);
    return NULL;
}

/* --- hand-made safetensors --- */

typedef struct Entry Entry;
struct Entry {
    char name[96], dtype[8], shape[48];
    uint8_t *bytes;
    size_t n;
};

static Entry entries[128];
static int n_entries;

static size_t shape_size(const char *shape) { /* "[2, 3]" -> 6 */
    size_t n = 1;
    for (const char *p = shape; *p; p++)
        if (*p >= '0' && *p <= '9') {
            char *end;
            n *= strtoul(p, &end, 10);
            p = end - 1;
        }
    return n;
}

static Entry *entry(const char *name) {
    for (int i = 0; i < n_entries; i++)
        if (!strcmp(entries[i].name, name)) return &entries[i];
    die("test: no entry %s", name);
}

static Entry *add(const char *name, const char *dtype, const char *shape, size_t unit) {
    Entry *t = &entries[n_entries++];
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    snprintf(t->shape, sizeof t->shape, "%s", shape);
    t->n = unit * shape_size(shape);
    t->bytes = calloc(t->n + 1, 1);
    if (!t->bytes) die("test: out of memory");
    return t;
}

/* f32 values base, base + 1, … */
static void add_count(const char *name, const char *shape, float base) {
    Entry *t = add(name, "F32", shape, 4);
    for (size_t i = 0; i < t->n / 4; i++) {
        float v = base + (float)i;
        memcpy(t->bytes + 4 * i, &v, 4);
    }
}

static void clear(void) {
    while (n_entries) free(entries[--n_entries].bytes);
}

static void write_entries(const char *path, int first, int last) {
    Text h = {0}, f = {0};
    size_t off = 0;
    text_add(&h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = first; i < last; i++) {
        text_add(&h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", entries[i].name,
                 entries[i].dtype, entries[i].shape, off, off + entries[i].n);
        off += entries[i].n;
    }
    text_add(&h, "}");
    uint64_t n = h.n; /* no padding: the data are not aligned */
    text_put(&f, &n, 8);
    text_put(&f, h.at, h.n);
    for (int i = first; i < last; i++) text_put(&f, entries[i].bytes, entries[i].n);
    put_file(path, f.at, f.n);
    text_free(&h);
    text_free(&f);
}

/* --- a hand-made Hugging Face folder: V 48, H 32, I 64, E 2, 2 heads and 1 kv head of 16, 2 layers --- */

static const char hf_config[] =
    "{\"architectures\":[\"GptOssForCausalLM\"],\"vocab_size\":48,\"hidden_size\":32,\"intermediate_size\":64,"
    "\"num_hidden_layers\":2,\"num_local_experts\":2,\"num_experts_per_tok\":1,\"head_dim\":16,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"sliding_window\":8,\"eos_token_id\":null,\"torch_dtype\":"
    "null}";

static void add_hf_layer(int n, bool mxfp4) {
    static const struct {
        const char *name, *shape;
        float base; /* plus 1e6 * layer */
    } t[] = {{"input_layernorm.weight", "[32]", 0},
             {"self_attn.q_proj.weight", "[32,32]", 1000},
             {"self_attn.k_proj.weight", "[16,32]", 3000},
             {"self_attn.v_proj.weight", "[16,32]", 5000},
             {"self_attn.q_proj.bias", "[32]", 7000},
             {"self_attn.k_proj.bias", "[16]", 8000},
             {"self_attn.v_proj.bias", "[16]", 9000},
             {"self_attn.sinks", "[2]", 10000},
             {"self_attn.o_proj.weight", "[32,32]", 11000},
             {"self_attn.o_proj.bias", "[32]", 13000},
             {"post_attention_layernorm.weight", "[32]", 14000},
             {"mlp.router.weight", "[2,32]", 15000},
             {"mlp.router.bias", "[2]", 16000},
             {"mlp.experts.gate_up_proj_bias", "[2,128]", 17000},
             {"mlp.experts.down_proj_bias", "[2,32]", 18000}};
    char name[96];
    for (size_t i = 0; i < LEN(t); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", n, t[i].name);
        add_count(name, t[i].shape, t[i].base + 1e6f * (float)n);
    }
    const char *p = "model.layers.%d.mlp.experts.%s";
    snprintf(name, sizeof name, p, n, mxfp4 ? "gate_up_proj_blocks" : "gate_up_proj");
    if (!mxfp4) {
        add_count(name, "[2,32,128]", 20000 + 1e6f * (float)n);
        snprintf(name, sizeof name, p, n, "down_proj");
        add_count(name, "[2,64,32]", 40000 + 1e6f * (float)n);
        return;
    }
    Entry *b = add(name, "U8", "[2,128,1,16]", 1);
    for (size_t i = 0; i < b->n; i++) b->bytes[i] = (uint8_t)(i * 37 + (size_t)n);
    snprintf(name, sizeof name, p, n, "gate_up_proj_scales");
    memset(add(name, "U8", "[2,128,1]", 1)->bytes, 128, 256);
    snprintf(name, sizeof name, p, n, "down_proj_blocks");
    b = add(name, "U8", "[2,32,2,16]", 1);
    for (size_t i = 0; i < b->n; i++) b->bytes[i] = (uint8_t)(i * 101 + 7);
    snprintf(name, sizeof name, p, n, "down_proj_scales");
    b = add(name, "U8", "[2,32,2]", 1);
    for (size_t i = 0; i < b->n; i++) b->bytes[i] = (uint8_t)(120 + i % 5);
}

static void add_hf(bool mxfp4) {
    clear();
    add_count("model.embed_tokens.weight", "[48,32]", 100000);
    add_count("lm_head.weight", "[48,32]", 200000);
    add_count("model.norm.weight", "[32]", 300000);
    add_hf_layer(0, mxfp4);
    add_hf_layer(1, mxfp4);
}

/* The entries as a folder, single file. */
static const char *write_folder(const char *name, const char *config) {
    const char *path = at(name);
    shell("rm -rf '%s'", path);
    mkdir(path, 0777);
    char file[600];
    snprintf(file, sizeof file, "%s/config.json", path);
    put_text(file, config);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    write_entries(file, 0, n_entries);
    return path;
}

static float *read_f32(const Model *m, const char *name, size_t want) {
    ModelTensor t;
    Err e = {0};
    size_t n = 1;
    if (!model_tensor(m, name, &t, &e)) return fail("%s", e.msg), NULL;
    for (int i = 0; i < t.rank; i++) n *= (size_t)t.shape[i];
    if (want && n != want) return fail("%s: %zu values, expected %zu", name, n, want), NULL;
    float *v = malloc(4 * n);
    memset(v, 0xff, 4 * n); /* NaN: what nothing wrote must not pass */
    if (model_read(m, name, DT_F32, false, 0, t.shape[0], v, 4 * n, &e)) return v;
    free(v);
    return fail("%s", e.msg), NULL;
}

/* name's n values are base + f(i). */
static void expect_count(const Model *m, const char *name, size_t n, float base) {
    float *v = read_f32(m, name, n);
    for (size_t i = 0; v && i < n; i++)
        if (v[i] != base + (float)i) {
            fail("%s[%zu] is %g, expected %g", name, i, (double)v[i], (double)base + (double)i);
            break;
        }
    free(v);
}

/* --- layouts --- */

static void expect_qkv(const Model *m, int layer) {
    char name[64];
    snprintf(name, sizeof name, "layer%d.attn.qkv.w", layer);
    float *v = read_f32(m, name, 64 * 32), extra = 1e6f * (float)layer;
    for (size_t r = 0; v && r < 64; r++)
        for (size_t k = 0; k < 32; k++) {
            float want = (r < 32   ? 1000 + (float)(r * 32 + k)
                          : r < 48 ? 3000 + (float)((r - 32) * 32 + k)
                                   : 5000 + (float)((r - 48) * 32 + k)) +
                         extra;
            if (v[r * 32 + k] != want) fail("%s row %zu col %zu is %g", name, r, k, (double)v[r * 32 + k]);
        }
    free(v);
    snprintf(name, sizeof name, "layer%d.attn.qkv.b", layer);
    v = read_f32(m, name, 64);
    for (size_t r = 0; v && r < 64; r++) {
        float want = (r < 32 ? 7000 + (float)r : r < 48 ? 8000 + (float)(r - 32) : 9000 + (float)(r - 48)) + extra;
        if (v[r] != want) fail("%s[%zu] is %g", name, r, (double)v[r]);
    }
    free(v);
}

/* Rows that cross from q to k to v, read in a piece. */
static void expect_piece(const Model *m) {
    float v[20 * 32];
    Err e = {0};
    if (!model_read(m, "layer1.attn.qkv.w", DT_F32, false, 30, 20, v, sizeof v, &e)) fail("%s", e.msg);
    else if (v[0] != 1001000 + 30 * 32 || v[2 * 32] != 1003000 || v[18 * 32 + 31] != 1005031) fail("a piece is wrong");
    if (model_read(m, "layer1.attn.qkv.w", DT_F32, false, 60, 5, v, 5 * 32 * 4, &e)) fail("rows beyond the end");
    if (model_read(m, "layer1.attn.qkv.w", DT_F32, false, 0, 20, v, sizeof v - 4, &e)) fail("a wrong buffer size");
    if (model_read(m, "layer1.attn.qkv.w", DT_I32, false, 0, 20, v, sizeof v, &e)) fail("read as i32");
    if (model_read(m, "layer1.attn.qkv.w", DT_F32, false, -1, 20, v, sizeof v, &e)) fail("negative rows");
    if (model_read(m, "layer1.attn.qkv.w", DT_F32, false, 1, INT64_MAX, v, sizeof v, &e)) fail("rows overflow");
}

static void test_hf(void) {
    add_hf(false);
    Model *m = open_ok(write_folder("hf", hf_config));
    if (!m) return;
    const ModelConfig *c = model_config(m);
    if (strcmp(model_layout(m), "huggingface") || c->dense != DT_F32 || c->experts_dtype != DT_F32)
        fail("layout or types");
    if (!c->sliding[0] || c->sliding[1] || c->window != 8 || c->n_eos != 2 || c->eos[0] != 200002)
        fail("window or eos");
    expect_count(m, "embed", 48 * 32, 100000);
    expect_count(m, "unembed", 48 * 32, 200000);
    expect_count(m, "norm", 32, 300000);
    expect_qkv(m, 0);
    expect_qkv(m, 1);
    expect_piece(m);
    expect_count(m, "layer1.attn.o.w", 32 * 32, 1011000);
    expect_count(m, "layer1.attn.o.b", 32, 1013000);
    expect_count(m, "layer1.attn.sinks", 2, 1010000);
    expect_count(m, "layer1.attn.norm", 32, 1000000);
    expect_count(m, "layer1.mlp.norm", 32, 1014000);
    expect_count(m, "layer1.mlp.router.w", 64, 1015000);
    expect_count(m, "layer1.mlp.router.b", 2, 1016000);
    expect_count(m, "layer1.mlp.mlp1.b", 256, 1017000);
    expect_count(m, "layer1.mlp.mlp2.b", 64, 1018000);
    float *w = read_f32(m, "layer1.mlp.mlp1.w", 2 * 128 * 32); /* the file holds [E, H, 2I] */
    for (size_t x = 0; w && x < 2; x++)
        for (size_t r = 0; r < 128; r++)
            for (size_t k = 0; k < 32; k++)
                if (w[(x * 128 + r) * 32 + k] != 1020000 + (float)((x * 32 + k) * 128 + r))
                    fail("mlp1 is not transposed");
    free(w);
    w = read_f32(m, "layer0.mlp.mlp2.w", 2 * 32 * 64); /* [E, I, H] */
    for (size_t x = 0; w && x < 2; x++)
        for (size_t r = 0; r < 32; r++)
            for (size_t k = 0; k < 64; k++)
                if (w[(x * 32 + r) * 64 + k] != 40000 + (float)((x * 64 + k) * 32 + r)) fail("mlp2 is not transposed");
    free(w);
    float one[32 * 64]; /* the second expert alone */
    Err e = {0};
    if (!model_read(m, "layer0.mlp.mlp2.w", DT_F32, false, 1, 1, one, sizeof one, &e) || one[1] != 40000 + 65 * 32)
        fail("second expert: %s", e.msg);
    ModelTensor t;
    static const char *const bad[] = {"layer2.norm",
                                      "layer-1.attn.norm",
                                      "layer0.norm",
                                      "attn.norm",
                                      "layer0.",
                                      "x",
                                      "layer99999999999999999999.attn.norm",
                                      "layer0.attn.qkv"};
    for (size_t i = 0; i < LEN(bad); i++)
        if (model_tensor(m, bad[i], &t, &e)) fail("there is a tensor %s", bad[i]);
    model_close(m);
}

static void test_rounding(void) {
    add_hf(false);
    Entry *t = entry("model.norm.weight");
    float v = 1.00000012f;
    memcpy(t->bytes, &v, 4);
    Model *m = open_ok(write_folder("round", hf_config));
    if (!m) return;
    uint16_t h[32];
    Err e = {0};
    if (model_read(m, "norm", DT_BF16, false, 0, 32, h, sizeof h, &e)) fail("an inexact f32 became bf16");
    if (!strstr(e.msg, "model.norm.weight")) fail("the error names no tensor: %s", e.msg);
    if (!model_read(m, "norm", DT_BF16, true, 0, 32, h, sizeof h, &e) || h[0] != 0x3f80) fail("rounding: %s", e.msg);
    if (model_read(m, "norm", DT_MXFP4, true, 0, 32, h, 17, &e)) fail("f32 read as mxfp4");
    model_close(m);
}

/* The value of element i of blocks and scales, written out anew. */
static double mxfp4_value(const Entry *b, const Entry *s, size_t i) {
    static const double value[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
    int code = b->bytes[i / 2] >> (i % 2 * 4) & 15;
    return (code & 8 ? -1 : 1) * ldexp(value[code & 7], s->bytes[i / 32] - 127);
}

static void expect_mxfp4(const Model *m, const char *name, const char *file, size_t n) {
    char blocks[96], scales[96];
    snprintf(blocks, sizeof blocks, "%s_blocks", file);
    snprintf(scales, sizeof scales, "%s_scales", file);
    const Entry *b = entry(blocks), *s = entry(scales);
    float *v = read_f32(m, name, n);
    uint16_t *h = malloc(2 * n);
    uint8_t *raw = malloc(n / 32 * 17), half[17 * 1024];
    Err e = {0};
    if (!model_read(m, name, DT_BF16, false, 0, 2, h, 2 * n, &e)) fail("%s", e.msg);
    for (size_t i = 0; v && !*why && i < n; i++)
        if ((double)v[i] != mxfp4_value(b, s, i) || f32_of_bf16(h[i]) != v[i])
            fail("%s[%zu] is %g", name, i, (double)v[i]);
    if (!model_read(m, name, DT_MXFP4, false, 0, 2, raw, n / 32 * 17, &e)) fail("%s", e.msg);
    else if (memcmp(raw, b->bytes, b->n) || memcmp(raw + b->n, s->bytes, s->n)) fail("%s: raw bytes differ", name);
    if (!model_read(m, name, DT_MXFP4, false, 1, 1, half, n / 64 * 17, &e)) fail("%s", e.msg);
    else if (memcmp(half, b->bytes + b->n / 2, b->n / 2) || memcmp(half + b->n / 2, s->bytes + s->n / 2, s->n / 2))
        fail("%s: the second expert's bytes differ", name);
    size_t size = 0;
    const void *map = model_map(m, name, DT_MXFP4, &size);
    if (!map || size != n / 32 * 17 || memcmp(map, raw, size)) fail("%s: not mapped in place", name);
    if (model_map(m, name, DT_BF16, &size)) fail("%s: mapped as bf16", name);
    free(v);
    free(h);
    free(raw);
}

static void test_mxfp4(void) {
    add_hf(true);
    Model *m = open_ok(write_folder("mxfp4", hf_config));
    if (!m) return;
    if (model_config(m)->experts_dtype != DT_MXFP4) fail("experts_dtype");
    expect_mxfp4(m, "layer1.mlp.mlp1.w", "model.layers.1.mlp.experts.gate_up_proj", 2 * 128 * 32);
    expect_mxfp4(m, "layer0.mlp.mlp2.w", "model.layers.0.mlp.experts.down_proj", 2 * 32 * 64);
    model_close(m);
}

static void test_scale_bytes(void) {
    static const struct {
        uint8_t scale, code;
        bool raw, f32;
    } cases[] = {{255, 0, false, false}, {254, 3, true, true},  {254, 4, true, false}, {253, 5, true, true},
                 {253, 6, true, false},  {252, 15, true, true}, {0, 1, true, true},    {1, 7, true, true}};
    for (size_t i = 0; i < LEN(cases); i++) {
        add_hf(true);
        Entry *b = entry("model.layers.1.mlp.experts.down_proj_blocks"),
              *s = entry("model.layers.1.mlp.experts.down_proj_scales");
        memset(b->bytes + 16 * 70, cases[i].code * 17, 16);
        s->bytes[70] = cases[i].scale;
        Model *m = open_ok(write_folder("scale", hf_config));
        if (!m) return;
        uint8_t raw[4096 / 32 * 17];
        float v[4096];
        uint16_t h[4096];
        Err e = {0};
        const char *name = "layer1.mlp.mlp2.w";
        if (model_read(m, name, DT_MXFP4, false, 0, 2, raw, sizeof raw, &e) != cases[i].raw ||
            model_read(m, name, DT_F32, false, 0, 2, v, sizeof v, &e) != cases[i].f32 ||
            model_read(m, name, DT_BF16, false, 0, 2, h, sizeof h, &e) != cases[i].f32)
            fail("scale %d with code %d: %s", cases[i].scale, cases[i].code, e.msg);
        if (cases[i].f32 && ((double)v[70 * 32] != mxfp4_value(b, s, 70 * 32) || f32_of_bf16(h[70 * 32]) != v[70 * 32]))
            fail("scale %d: value %g", cases[i].scale, (double)v[70 * 32]);
        if (cases[i].scale == 255 && (!strstr(e.msg, "255") || !strstr(e.msg, "down_proj"))) fail("error: %s", e.msg);
        if ((model_map(m, name, DT_MXFP4, NULL) != NULL) != cases[i].raw) fail("map with scale %d", cases[i].scale);
        model_close(m);
    }
}

static void test_openai(void) {
    static const struct {
        const char *name, *shape;
        float base;
    } t[] = {{"embedding.weight", "[48,32]", 100},
             {"unembedding.weight", "[48,32]", 200},
             {"norm.scale", "[32]", 300},
             {"block.0.attn.norm.scale", "[32]", 400},
             {"block.0.attn.qkv.weight", "[64,32]", 500},
             {"block.0.attn.qkv.bias", "[64]", 600},
             {"block.0.attn.sinks", "[2]", 700},
             {"block.0.attn.out.weight", "[32,32]", 800},
             {"block.0.attn.out.bias", "[32]", 900},
             {"block.0.mlp.norm.scale", "[32]", 1000},
             {"block.0.mlp.gate.weight", "[2,32]", 1100},
             {"block.0.mlp.gate.bias", "[2]", 1200},
             {"block.0.mlp.mlp1_bias", "[2,128]", 1300},
             {"block.0.mlp.mlp2_bias", "[2,32]", 1400},
             {"block.0.mlp.mlp2_weight", "[2,32,64]", 1500}};
    static const char *const canon[] = {"embed",
                                        "unembed",
                                        "norm",
                                        "layer0.attn.norm",
                                        "layer0.attn.qkv.w",
                                        "layer0.attn.qkv.b",
                                        "layer0.attn.sinks",
                                        "layer0.attn.o.w",
                                        "layer0.attn.o.b",
                                        "layer0.mlp.norm",
                                        "layer0.mlp.router.w",
                                        "layer0.mlp.router.b",
                                        "layer0.mlp.mlp1.b",
                                        "layer0.mlp.mlp2.b",
                                        "layer0.mlp.mlp2.w"};
    clear();
    for (size_t i = 0; i < LEN(t); i++) add_count(t[i].name, t[i].shape, t[i].base);
    Entry *b = add("block.0.mlp.mlp1_weight.blocks", "U8", "[2,128,1,16]", 1);
    for (size_t i = 0; i < b->n; i++) b->bytes[i] = (uint8_t)(i * 59);
    Entry *s = add("block.0.mlp.mlp1_weight.scales", "U8", "[2,128,1]", 1);
    memset(s->bytes, 126, s->n);
    const char *path = write_folder(
        "openai",
        "{\"num_hidden_layers\":1,\"num_experts\":2,\"experts_per_token\":2,\"vocab_size\":48,"
        "\"hidden_size\":32,\"intermediate_size\":64,\"swiglu_limit\":7.0,\"head_dim\":16,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"sliding_window\":128,\"initial_context_length\":4096,\"rope_theta\":150000,"
        "\"rope_scaling_factor\":32.0,\"rope_ntk_alpha\":1,\"rope_ntk_beta\":32}");
    /* split into two files without an index, as the 120b has it */
    char file[600];
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    unlink(file);
    snprintf(file, sizeof file, "%s/model--00001-of-00002.safetensors", path);
    write_entries(file, 0, 7);
    snprintf(file, sizeof file, "%s/model--00002-of-00002.safetensors", path);
    write_entries(file, 7, n_entries);
    Model *m = open_ok(path);
    if (!m) return;
    const ModelConfig *c = model_config(m);
    if (strcmp(model_layout(m), "openai") || c->experts != 2 || c->topk != 2 || c->max_seq != 131072 ||
        c->rope_beta_fast != 32 || c->rope_beta_slow != 1)
        fail("config");
    for (size_t i = 0; i < LEN(canon); i++) expect_count(m, canon[i], shape_size(t[i < 12 ? i : i].shape), t[i].base);
    float *v = read_f32(m, "layer0.mlp.mlp1.w", 2 * 128 * 32);
    for (size_t i = 0; v && i < 2 * 128 * 32; i++)
        if ((double)v[i] != mxfp4_value(b, s, i)) fail("mlp1[%zu] is %g", i, (double)v[i]);
    free(v);
    model_close(m);
    write_entries(file, 6, n_entries); /* one tensor twice */
    expect_error(path, "block.0.attn.sinks", "is in");
}

/* Puts patch's keys into o; those that are "DELETE" go. */
static void lay_over(json_t *o, json_t *patch) {
    const char *key;
    json_t *v;
    json_object_foreach(patch, key, v) {
        if (json_is_string(v) && !strcmp(json_string_value(v), "DELETE")) json_object_del(o, key);
        else json_object_set(o, key, v);
    }
}

/* hf_config with `edit` in place of, or after, its keys. */
static const char *edited(const char *edit) {
    static char text[4096];
    json_error_t je;
    json_t *o = json_loads(hf_config, 0, &je), *patch = json_loads(edit, 0, &je);
    if (!o || !patch) die("test: bad JSON: %s", edit);
    lay_over(o, patch);
    char *s = json_dumps(o, 0);
    snprintf(text, sizeof text, "%s", s);
    free(s);
    json_decref(o);
    json_decref(patch);
    return text;
}

static void test_tied_and_unbiased(void) {
    add_hf(false);
    static char config[1024];
    snprintf(config, sizeof config, "%.*s,\"tie_word_embeddings\":true,\"attention_bias\":false}",
             (int)sizeof hf_config - 2, hf_config);
    for (int i = 0; i < n_entries; i++)
        if (strstr(entries[i].name, "_proj.bias") || !strcmp(entries[i].name, "lm_head.weight")) {
            free(entries[i].bytes);
            entries[i--] = entries[--n_entries];
        }
    Model *m = open_ok(write_folder("tied", config));
    if (!m) return;
    expect_count(m, "unembed", 48 * 32, 100000);
    float *v = read_f32(m, "layer1.attn.qkv.b", 64);
    for (int i = 0; v && i < 64; i++)
        if (v[i] != 0) fail("qkv.b is not zero");
    free(v);
    model_close(m);
    expect_error(write_folder("tied", hf_config), "lm_head.weight", "missing");
    add_hf(false); /* biases that are in the file but not in the model */
    m = open_ok(write_folder("tied", edited("{\"attention_bias\":false}")));
    v = m ? read_f32(m, "layer1.attn.qkv.b", 64) : NULL;
    for (int i = 0; v && i < 64; i++)
        if (v[i] != 0) fail("a bias was read");
    free(v);
    model_close(m);
    expect_error(write_folder("tied", edited("{\"attention_bias\":\"false\"}")), "attention_bias", "expected true or false");
    expect_error(write_folder("tied", edited("{\"tie_word_embeddings\":1}")), "tie_word_embeddings", "expected true or false");
}

/* A tensor of a layer that gpt-oss has not. Of no layer, or behind the last: not ours to judge. */
static void test_unknown_tensors(void) {
    add_hf(true);
    add_count("model.layers.2.self_attn.q_norm.weight", "[16]", 1);
    add_count("model.layers.1.self_attn.rotary_emb.inv_freq", "[8]", 1);
    add_count("model.extra", "[8]", 1);
    Model *m = open_ok(write_folder("unknown", hf_config));
    model_close(m);
    add_count("model.layers.1.self_attn.q_norm.weight", "[16]", 1);
    expect_error(write_folder("unknown", hf_config), "tensor model.layers.1.self_attn.q_norm.weight", "there is no op for it");
}

/* F16: every value as F32; as BF16 only what is exact. */
static void test_f16(void) {
    static const uint16_t half[] = {0x0000, 0x3c00, 0xbc00, 0x4248, 0x7bff, 0x0001, 0x8000, 0x0400, 0x3555, 0xfbff};
    static const double value[] = {0, 1, -1, 3.140625, 65504, 0x1p-24, 0, 0x1p-14, 0.333251953125, -65504};
    add_hf(false);
    Entry *x = entry("model.norm.weight");
    snprintf(x->dtype, sizeof x->dtype, "F16");
    x->n = 64;
    memset(x->bytes, 0, 64);
    memcpy(x->bytes, half, sizeof half);
    Model *m = open_ok(write_folder("f16", hf_config));
    if (!m) return;
    float *v = read_f32(m, "norm", 32);
    for (size_t i = 0; v && i < LEN(value); i++)
        if ((double)v[i] != value[i]) fail("half %04x is %.9g, not %.9g", half[i], (double)v[i], value[i]);
    free(v);
    uint16_t b[32];
    Err e = {0};
    if (model_read(m, "norm", DT_BF16, false, 0, 32, b, sizeof b, &e) || !strstr(e.msg, "not exact in bf16")) fail("rounded: %s", e.msg);
    if (!model_read(m, "norm", DT_BF16, true, 0, 32, b, sizeof b, &e) || b[1] != 0x3f80 || b[3] != 0x4049 || b[5] != 0x3380) fail("as bf16: %04x %04x %s", b[1], b[3], e.msg);
    if (model_map(m, "norm", DT_F32, NULL) || model_map(m, "norm", DT_BF16, NULL)) fail("mapped");
    model_close(m);
}

/* What people give for a checkpoint's folder. */
static void test_near_misses(void) {
    char file[600];
    add_hf(false);
    const char *path = write_folder("near", hf_config);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    expect_error(file, "give the folder that it is in", "model.safetensors");
    put_text(file, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n");
    expect_error(path, "a Git LFS pointer", "model.safetensors");
    unlink(file);
    if (symlink("../../blobs/none", file)) fail("symlink");
    expect_error(path, "model.safetensors: No such file", NULL);
    shell("mkdir -p '%s/models--x/snapshots/1'", dir);
    expect_error(at("models--x"), "give one of the folders in", "snapshots");
}

/* --- .bin --- */

typedef union BinField {
    int32_t i;
    float f;
} BinField;

static const BinField bin_fields[15] = {{48}, {32},  {2},    {1},           {64},      {2}, {16},    {2},
                                        {1},  {256}, {4096}, {.f = 150000}, {.f = 32}, {8}, {.f = 7}};
/* floats of each tensor, in the order of docs/formats.md, for the header above */
static const size_t bin_sizes[16] = {48 * 32,          48 * 32,     2 * 32,          2 * 32,    32,         2 * 64 * 32,
                                     2 * 64,           2 * 32 * 32, 2 * 32,          2 * 2,     2 * 2 * 32, 2 * 2,
                                     2 * 2 * 128 * 32, 2 * 2 * 128, 2 * 2 * 32 * 64, 2 * 2 * 32};

static const char *write_bin(const BinField h[15], long extra) {
    Text f = {0};
    float v = 0;
    text_put(&f, h, 60);
    for (int t = 0; t < 16; t++)
        for (size_t i = 0; i < bin_sizes[t]; i++, v++) text_put(&f, &v, 4);
    text_put(&f, "padding", extra > 0 ? (size_t)extra : 0);
    put_file(at("x.bin"), f.at, f.n - (extra < 0 ? (size_t)-extra : 0));
    text_free(&f);
    return at("x.bin");
}

static void test_bin(void) {
    static const char *const canon[16] = {"embed",      "unembed",    "attn.norm",    "mlp.norm",
                                          "norm",       "attn.qkv.w", "attn.qkv.b",   "attn.o.w",
                                          "attn.o.b",   "attn.sinks", "mlp.router.w", "mlp.router.b",
                                          "mlp.mlp1.w", "mlp.mlp1.b", "mlp.mlp2.w",   "mlp.mlp2.b"};
    Model *m = open_ok(write_bin(bin_fields, 0));
    if (!m) return;
    const ModelConfig *c = model_config(m);
    if (strcmp(model_layout(m), "bin") || c->vocab != 48 || c->max_seq != 256 || c->original_context != 4096 ||
        c->window != 8 || c->swiglu_limit != 7 || c->rope_theta != 150000 || c->rope_factor != 32 || !c->sliding[0] ||
        c->sliding[1] || c->dense != DT_F32 || c->experts_dtype != DT_F32)
        fail("config");
    char name[64];
    float base = 0;
    for (int t = 0; t < 16; base += (float)bin_sizes[t++]) {
        bool stacked = t > 1 && t != 4;
        for (int l = 0; l < 1 + stacked; l++) {
            if (stacked) snprintf(name, sizeof name, "layer%d.%s", l, canon[t]);
            size_t n = bin_sizes[t] / (stacked ? 2 : 1);
            expect_count(m, stacked ? name : canon[t], n, base + (float)(n * (size_t)l));
        }
    }
    size_t size = 0;
    const float *map = model_map(m, "layer1.attn.qkv.w", DT_F32, &size);
    if (!map || size != 64 * 32 * 4) fail("not mapped in place");
    model_close(m);
    Err e = {0};
    m = model_open(at("x.bin"), true, &e);
    if (!m) fail("%s", e.msg);
    else expect_count(m, "embed", 48 * 32, 48 * 32), expect_count(m, "unembed", 48 * 32, 0);
    model_close(m);
}

static void test_bin_hostile(void) {
    static const struct {
        int field;
        BinField v;
        const char *key;
    } bad[] = {{0, {0}, "vocab_size"},
               {0, {-1}, "vocab_size"},
               {1, {33}, "hidden_dim"},
               {1, {0}, "hidden_dim"},
               {2, {0}, "n_experts"},
               {2, {-5}, "n_experts"},
               {3, {0}, "experts_per_token"},
               {3, {9}, "experts_per_token"},
               {3, {3}, "experts_per_token"},
               {4, {48}, "intermediate_dim"},
               {5, {0}, "n_layers"},
               {5, {1025}, "n_layers"},
               {6, {8}, "head_dim"},
               {6, {144}, "head_dim"},
               {6, {24}, "head_dim"},
               {7, {0}, "n_attn_heads"},
               {8, {0}, "n_kv_heads"},
               {8, {3}, "n_attn_heads"},
               {9, {0}, "seq_len"},
               {10, {0}, "initial_context_length"},
               {11, {.f = 0}, "rope_theta"},
               {11, {.f = NAN}, "rope_theta"},
               {12, {.f = -1}, "rope_scaling_factor"},
               {12, {.f = INFINITY}, "rope_scaling_factor"},
               {13, {-1}, "sliding_window"},
               {14, {.f = 0}, "swiglu_limit"},
               {14, {.f = NAN}, "swiglu_limit"},
               {0, {49}, "implies"},
               {2, {3}, "implies"},
               {5, {1024}, "implies"}};
    for (size_t i = 0; i < LEN(bad); i++) {
        BinField h[15];
        memcpy(h, bin_fields, sizeof h);
        h[bad[i].field] = bad[i].v;
        expect_error(write_bin(h, 0), bad[i].key, "x.bin");
    }
    BinField huge[15] = {{1 << 27}, {1 << 18},   {1 << 14}, {8},           {1 << 18}, {1024}, {128},   {1 << 14},
                         {1 << 14}, {INT32_MAX}, {4096},    {.f = 150000}, {.f = 32}, {128},  {.f = 7}};
    expect_error(write_bin(huge, 0), "the header implies 13844417127384088636 bytes", NULL); /* 0.75 * 2^64 */
    expect_error(write_bin(bin_fields, 4), "the header implies", NULL);
    expect_error(write_bin(bin_fields, -4), "the header implies", NULL);
    expect_error(write_bin(bin_fields, -1), "the header implies", NULL);
    put_file(at("x.bin"), bin_fields, 59);
    expect_error(at("x.bin"), "too short", NULL);
    put_file(at("x.bin"), "", 0);
    expect_error(at("x.bin"), "empty", NULL);
    expect_error(at("nowhere.bin"), "No such file", "nowhere.bin");
}

/* --- hostile safetensors --- */

static bool try_safetensors(const char *path, Err *e) {
    Arena *a = arena_new();
    SafeTensors s;
    bool ok = safetensors_open(&s, a, path, e);
    if (ok) safetensors_close(&s);
    arena_free(a);
    return ok;
}

static void write_raw(uint64_t length, const char *header, size_t data) {
    Text f = {0};
    text_put(&f, &length, 8);
    text_put(&f, header, strlen(header));
    for (size_t i = 0; i < data; i++) text_put(&f, "", 1);
    put_file(at("raw.safetensors"), f.at, f.n);
    text_free(&f);
}

#define T(name, dtype, shape, a, b)                                                                                    \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #a "," #b "]}"

static void test_safetensors_header(void) {
    static const struct {
        const char *header, *error; /* error NULL: fine */
    } t[] = {
        {"{" T("a", "F32", "[2]", 0, 8) "}", NULL},
        {"{" T("a", "F32", "[2]", 0, 8) "}    ", NULL},
        {"{\"__metadata__\":{\"k\":\"v\"}," T("a", "U8", "[4]", 0, 4) "," T("b", "BF16", "[2,1]", 4, 8) "}", NULL},
        {"{" T("b", "BF16", "[2]", 4, 8) "," T("a", "U8", "[4]", 0, 4) "}", NULL}, /* an object has no order */
        {"{" T("a", "F32", "[0,3]", 0, 0) "," T("b", "F64", "[]", 0, 8) "}", NULL},
        {"{" T("a", "F32", "[2]", 0, 8) "," T("a", "F32", "[2]", 0, 8) "}", "duplicate"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[2]", 0, 8) "}", "overlap"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 2, 6) "}", "overlap"},
        {"{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[4]", 4, 8) "}", "hole"},
        {"{" T("a", "U8", "[4]", 4, 8) "}", "hole"},
        {"{" T("a", "U8", "[4]", 0, 4) "}", "belong to no tensor"},
        {"{}", "belong to no tensor"},
        {"{" T("a", "U8", "[8]", 8, 0) "}", "out of order"},
        {"{" T("a", "U8", "[16]", 0, 16) "}", "beyond"},
        {"{" T("a", "F32", "[3]", 0, 8) "}", "need 12 bytes"},
        {"{" T("a", "F31", "[2]", 0, 8) "}", "unknown dtype F31"},
        {"{" T("a", "f32", "[2]", 0, 8) "}", "unknown dtype"},
        {"{" T("a", "F32", "[4611686018427387904,4]", 0, 8) "}", "overflow"},
        {"{" T("a", "F32", "[4294967296,4294967296,0]", 0, 0) "," T("b", "U8", "[8]", 0, 8) "}", "overflow"},
        {"{" T("a", "F32", "[99999999999999999999]", 0, 8) "}", "bad JSON"},
        {"{" T("a", "F32", "[-2]", 0, 8) "}", "not a non-negative integer"},
        {"{" T("a", "F32", "[2.0]", 0, 8) "}", "not a non-negative integer"},
        {"{" T("a", "F32", "2", 0, 8) "}", "shape is not a list"},
        {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,8]", 0, 8) "}", "dimensions"},
        {"{" T("a", "F32", "[2]", -8, 0) "}", "data_offsets"},
        {"{" T("a", "F32", "[2]", 0, 8.0) "}", "data_offsets"},
        {"{" T("a", "F32", "[2]", 0, "8") "}", "data_offsets"},
        {"{" T("a", "F32", "[2]", 0, 9223372036854775807) "}", "beyond"},
        {"{" T("a", "F32", "[2]", 0, 18446744073709551624) "}", "bad JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "data_offsets"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "no dtype"},
        {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", "no dtype"},
        {"{\"a\":[]}", "not an object"},
        {"{\"a\":null}", "not an object"},
        {"{\"__metadata__\":[]," T("a", "F32", "[2]", 0, 8) "}", "__metadata__"},
        {"{\"__metadata__\":{\"k\":1}," T("a", "F32", "[2]", 0, 8) "}", "__metadata__"},
        {"[]", "not a JSON object"},
        {"  {" T("a", "F32", "[2]", 0, 8) "}", "not a JSON object"},
        {"{" T("a", "F32", "[2]", 0, 8) "} x", "bad JSON"},
        {"{" T("a", "F32", "[2]", 0, 8), "bad JSON"},
        {"{" T("a\\u0000b", "F32", "[2]", 0, 8) "}", "bad JSON"},
        {"{" T("\xff\xfe", "F32", "[2]", 0, 8) "}", "bad JSON"},
    };
    for (size_t i = 0; i < LEN(t); i++) {
        Err e = {0};
        write_raw(strlen(t[i].header), t[i].header, 8);
        bool ok = try_safetensors(at("raw.safetensors"), &e);
        if (ok != !t[i].error) fail("%s: %s", t[i].header, ok ? "accepted" : e.msg);
        if (!ok && t[i].error && (!strstr(e.msg, t[i].error) || !strstr(e.msg, "raw.safetensors")))
            fail("%s: expected \"%s\": %s", t[i].header, t[i].error, e.msg);
    }
}

static void test_safetensors_length(void) {
    static const uint64_t lengths[] = {
        0, 1, 2, 55, 57, 64, 65, 1000, 100000000, 100000001, UINT32_MAX, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
    static const char good[] = "{" T("a", "F32", "[2]", 0, 8) "}";
    for (size_t i = 0; i < LEN(lengths); i++) {
        Err e = {0};
        if (lengths[i] == sizeof good - 1) continue;
        write_raw(lengths[i], good, 8);
        if (try_safetensors(at("raw.safetensors"), &e)) fail("a header length of %llu", (unsigned long long)lengths[i]);
    }
    Text deep = {0}; /* nesting must not overflow the stack */
    text_add(&deep, "{\"a\":");
    for (int i = 0; i < 1000000; i++) text_put(&deep, "[", 1);
    write_raw(deep.n, deep.at, 8);
    text_free(&deep);
    Err e = {0};
    if (try_safetensors(at("raw.safetensors"), &e)) fail("a million brackets");
    if (try_safetensors(dir, &e) || !strstr(e.msg, "not a regular file")) fail("a folder: %s", e.msg);
    if (try_safetensors("/dev/full", &e)) fail("a device");
}

/* {"a":[{},{}, … ]}: two bytes of it are two hundred of memory. The caller frees. */
static char *many_objects(size_t n) {
    Text t = {0};
    text_add(&t, "{\"a\":[");
    for (size_t i = 1; i < n; i++) text_put(&t, "{},", 3);
    text_add(&t, "{}]}");
    return t.at;
}

static void test_many_objects(void) {
    Err e = {0};
    char *header = many_objects(6000000), *config = many_objects(400000);
    write_raw(strlen(header), header, 8);
    if (try_safetensors(at("raw.safetensors"), &e) || !strstr(e.msg, "raw.safetensors: header: JSON of so many items")) fail("a header: %s", e.msg);
    expect_error(write_folder("many", config), "config.json: JSON of so many items", NULL);
    free(header), free(config);
}

/* A pipe with a name in a file's place has no writer: opening it must not wait for one. */
static void test_pipe(void) {
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors"};
    for (size_t i = 0; i < LEN(files); i++) {
        char file[600];
        Err e = {0};
        add_hf(true);
        const char *path = write_folder("pipe", hf_config);
        snprintf(file, sizeof file, "%s/%s", path, files[i]);
        unlink(file);
        if (mkfifo(file, 0600)) die("test: %s", file);
        Model *m = model_open(path, false, &e);
        if (m || !strstr(e.msg, files[i]) || !strstr(e.msg, "not a regular file")) fail("%s: %s", files[i], m ? "taken" : e.msg);
        model_close(m);
        unlink(file);
    }
}

static void test_truncated(void) {
    add_hf(true);
    const char *path = write_folder("cut", hf_config);
    char file[600];
    struct stat st;
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (stat(file, &st)) die("test: %s", file);
    uint64_t n = 0;
    FILE *f = fopen(file, "rb");
    if (!f || fread(&n, 8, 1, f) != 1) die("test: %s", file);
    fclose(f);
    long header = 8 + (long)n;
    /* every length of the first bytes and around the header's end, then ever shorter steps from the end */
    for (long size = st.st_size - 1; size >= 0; size -= size > header + 1000 ? 997
                                                        : size > header - 40 ? 1
                                                        : size > 171         ? 131
                                                                             : 1) {
        Err e = {0};
        if (truncate(file, size)) die("test: truncate");
        if (try_safetensors(file, &e)) fail("accepted when cut to %ld of %ld bytes", size, (long)st.st_size);
        if (!*e.msg || strchr(e.msg, '\n')) fail("cut to %ld: no message of one line", size);
    }
    expect_error(path, "empty", "model.safetensors");
}

/* One byte of the header changed at random: an error or a file that still adds up, never a crash. */
static void test_mutated(void) {
    add_hf(true);
    const char *path = write_folder("mutate", hf_config);
    char file[600];
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    Arena *a = arena_new();
    Err e = {0};
    size_t size;
    uint8_t *bytes = (uint8_t *)file_read(a, file, &size, &e);
    uint64_t n, seed = 12345;
    if (!bytes) die("test: %s", e.msg);
    memcpy(&n, bytes, 8);
    for (int i = 0; i < 400; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t where = (size_t)((seed >> 33) % (8 + n));
        uint8_t old = bytes[where];
        bytes[where] = i % 3 ? (uint8_t)("0123456789[]{},:\"-"[(seed >> 20) % 18]) : (uint8_t)(seed >> 24);
        put_file(file, bytes, size);
        Model *m = model_open(path, false, &e);
        if (m && model_check(m, &e)) {
            float v[2 * 32 * 64];
            model_read(m, "layer1.mlp.mlp2.w", DT_F32, false, 0, 2, v, sizeof v, &e);
        }
        model_close(m);
        bytes[where] = old;
    }
    arena_free(a);
}

/* A file that loses its end while it is mapped: the program that reads it ends, and says which file; no signal kills it. */
static void test_shrinks(void) {
    add_hf(false);
    const char *path = write_folder("shrink", hf_config);
    char file[600], said[1024] = "", expected[700];
    int ends[2], status = 0;
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    snprintf(expected, sizeof expected, "%s: the file became shorter", file);
    if (pipe(ends)) die("test: pipe");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        Err e;
        Model *m = model_open(path, false, &e);
        float v[2 * 32 * 64];
        dup2(ends[1], 2);
        if (!m || truncate(file, 4096)) _exit(3);
        _exit(model_read(m, "layer1.mlp.mlp2.w", DT_F32, false, 0, 2, v, sizeof v, &e) ? 4 : 5);
    }
    close(ends[1]);
    if (read(ends[0], said, sizeof said - 1) < 0) fail("read");
    close(ends[0]);
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1) fail("status 0x%x", status);
    if (!strstr(said, expected)) fail("said: %s", said);
}

/* One that is written to: the bytes read are not those that were verified. */
static void test_changes(void) {
    add_hf(false);
    const char *path = write_folder("change", hf_config);
    Model *m = open_ok(path);
    char file[600];
    float v[32];
    Err e = {0};
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (!m) return;
    if (!model_read(m, "norm", DT_F32, false, 0, 32, v, sizeof v, &e)) fail("%s", e.msg);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    if (utimensat(AT_FDCWD, file, times, 0)) die("test: %s", file);
    if (model_read(m, "norm", DT_F32, false, 0, 32, v, sizeof v, &e)) fail("read from a changed file");
    if (!strstr(e.msg, "model.safetensors: the file changed")) fail("said: %s", e.msg);
    model_close(m);
}

/* --- configurations --- */

static void test_config_errors(void) {
    static const struct {
        const char *edit, *key;
    } t[] = {
        {"{\"vocab_size\":\"DELETE\"}", "vocab_size is missing"},
        {"{\"hidden_size\":null}", "hidden_size is missing"},
        {"{\"num_local_experts\":\"DELETE\"}", "num_local_experts is missing"},
        {"{\"num_attention_heads\":\"DELETE\"}", "num_attention_heads is missing"},
        {"{\"num_key_value_heads\":\"DELETE\"}", "num_key_value_heads is missing"},
        {"{\"num_hidden_layers\":\"DELETE\"}", "num_hidden_layers is missing"},
        {"{\"intermediate_size\":\"DELETE\"}", "intermediate_size is missing"},
        {"{\"max_position_embeddings\":9.3e18}", "max_position_embeddings: expected an integer"},
        {"{\"max_position_embeddings\":9223372036854775807}", "max_position_embeddings is 9223372036854775807; it must lie in"},
        {"{\"original_max_position_embeddings\":9223372036854775807}", "original_max_position_embeddings is 9.22337e+18; it must lie in"},
        {"{\"hidden_size\":48}", "hidden_size is 48; it must be a multiple of 32"},
        {"{\"intermediate_size\":33}", "intermediate_size is 33; it must be a multiple of 32"},
        {"{\"head_dim\":40}", "head_dim is 40; it must be a multiple of 16"},
        {"{\"head_dim\":256}", "head_dim is 256; it must lie in 16 to 128"},
        {"{\"num_experts_per_tok\":9}", "num_experts_per_tok is 9; it must lie in 1 to 8"},
        {"{\"num_experts_per_tok\":3}", "more than the 2 experts"},
        {"{\"num_experts_per_tok\":0}", "num_experts_per_tok"},
        {"{\"num_attention_heads\":3,\"num_key_value_heads\":2}", "must be a multiple of num_key_value_heads"},
        {"{\"num_hidden_layers\":0}", "num_hidden_layers"},
        {"{\"num_hidden_layers\":1025}", "num_hidden_layers"},
        {"{\"vocab_size\":-3}", "vocab_size"},
        {"{\"vocab_size\":9223372036854775807}", "vocab_size"},
        {"{\"vocab_size\":1e300}", "vocab_size: expected an integer"},
        {"{\"vocab_size\":48.5}", "vocab_size: expected an integer"},
        {"{\"vocab_size\":\"48\"}", "vocab_size: expected an integer"},
        {"{\"vocab_size\":true}", "vocab_size: expected an integer"},
        {"{\"sliding_window\":-1}", "sliding_window"},
        {"{\"sliding_window\":null,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}",
         "sliding_window is missing"},
        {"{\"layer_types\":[\"full_attention\"]}", "layer_types"},
        {"{\"layer_types\":[\"full_attention\",\"chunked_attention\"]}", "layer_types[1] is chunked_attention"},
        {"{\"layer_types\":[\"full_attention\",3]}", "layer_types[1]"},
        {"{\"layer_types\":\"full_attention\"}", "layer_types"},
        {"{\"rope_theta\":0}", "rope_theta"},
        {"{\"rope_theta\":\"x\"}", "rope_theta: expected a number"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "rope_type llama3 is not supported"},
        {"{\"rope_scaling\":{\"rope_type\":7}}", "rope_type: expected a string"},
        {"{\"rope_scaling\":[]}", "rope_scaling: expected an object"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":-2}}", "rope factor"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":0.5}}", "rope factor is 0.5; YaRN's is 1 or more"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"original_max_position_embeddings\":262144}}",
         "rope factor is 0.5"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32,\"attention_factor\":2}}", "attention_factor"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32,\"truncate\":1}}",
         "truncate: expected true or false"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32,\"original_max_position_embeddings\":0}}",
         "original_max_position_embeddings"},
        {"{\"rope_parameters\":{\"full_attention\":{\"factor\":1}}}", "rope_parameters"},
        {"{\"rms_norm_eps\":-1}", "rms_norm_eps"},
        {"{\"swiglu_limit\":0}", "swiglu_limit"},
        {"{\"swiglu_alpha\":1.5}", "swiglu_alpha"},
        {"{\"hidden_act\":\"gelu\"}", "hidden_act"},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\"}}", "gptq"},
        {"{\"eos_token_id\":-1}", "eos_token_id"},
        {"{\"eos_token_id\":[1,\"x\"]}", "eos_token_id"},
        {"{\"eos_token_id\":4294967296}", "eos_token_id"},
        {"{\"architectures\":[\"LlamaForCausalLM\"]}", "the model is LlamaForCausalLM"},
        {"{\"architectures\":\"DELETE\",\"model_type\":\"qwen3_moe\"}", "the model is qwen3_moe"},
        {"{\"architectures\":\"DELETE\",\"num_local_experts\":\"DELETE\"}", "not a gpt-oss configuration"},
    };
    add_hf(false);
    for (size_t i = 0; i < LEN(t); i++)
        expect_error(write_folder("config", edited(t[i].edit)), t[i].key, "config.json");
    expect_error(write_folder("config", "{"), "bad JSON", "config.json");
    expect_error(write_folder("config", "[1]"), "not a JSON object", "config.json");
    expect_error(write_folder("config", "{\"a\":1,\"a\":2}"), "duplicate", "config.json");
    expect_error(write_folder("config", "{\"architectures\":[\"a\\nFAIL b\"]}"), "the model is a?FAIL b",
                 "config.json");
    shell("rm '%s/config.json'", at("config"));
    expect_error(at("config"), "No such file", "config.json");
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-9 * fabs(b); }

static void test_config_variants(void) {
    static const struct {
        const char *edit;
        int topk;
        double theta, factor, fast;
        int original, window, sliding; /* sliding: bit n is layer n */
        int eos;
    } t[] = {
        {"{}", 1, 150000, 32, 32, 4096, 8, 1, 200002},
        {"{\"num_experts_per_tok\":\"DELETE\",\"experts_per_token\":2}", 2, 150000, 32, 32, 4096, 8, 1, 200002},
        {"{\"num_experts_per_tok\":null,\"experts_per_token\":2}", 2, 150000, 32, 32, 4096, 8, 1, 200002},
        {"{\"num_experts_per_tok\":2,\"experts_per_token\":1}", 2, 150000, 32, 32, 4096, 8, 1, 200002},
        {"{\"rope_theta\":10000,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8,\"beta_fast\":16,\"original_max_"
         "position_embeddings\":512}}",
         1, 10000, 8, 16, 512, 8, 1, 200002},
        {"{\"num_local_experts\":null,\"num_experts\":2}", 1, 150000, 32, 32, 4096, 8, 1, 200002},
        {"{\"max_position_embeddings\":131072.0,\"quantization_config\":null,\"rope_theta\":null}", 1, 150000, 32, 32,
         4096, 8, 1, 200002},
        {"{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", 1, 150000, 32, 32, 4096, 8, 2, 200002},
        {"{\"layer_types\":[\"full_attention\",\"full_attention\"]}", 1, 150000, 32, 32, 4096, 0, 0, 200002},
        {"{\"layer_types\":null,\"sliding_window\":null}", 1, 150000, 32, 32, 4096, 0, 0, 200002},
        {"{\"sliding_window\":\"DELETE\"}", 1, 150000, 32, 32, 4096, 128, 1, 200002},
        {"{\"eos_token_id\":5}", 1, 150000, 32, 32, 4096, 8, 1, 5},
        {"{\"eos_token_id\":[7,5,7]}", 1, 150000, 32, 32, 4096, 8, 1, 7},
        {"{\"eos_token_id\":200002,\"architectures\":null,\"model_type\":\"gpt_oss\"}", 1, 150000, 32, 32, 4096, 8, 1,
         200002},
        {"{\"architectures\":\"DELETE\"}", 1, 150000, 32, 32, 4096, 8, 1, 200002},
    };
    add_hf(false);
    for (size_t i = 0; i < LEN(t); i++) {
        Model *m = open_ok(write_folder("config", edited(t[i].edit)));
        if (!m) return;
        const ModelConfig *c = model_config(m);
        if (c->topk != t[i].topk || !near(c->rope_theta, t[i].theta) || !near(c->rope_factor, t[i].factor) ||
            !near(c->rope_beta_fast, t[i].fast) || c->original_context != t[i].original || c->window != t[i].window ||
            c->sliding[0] + 2 * c->sliding[1] != t[i].sliding || c->eos[0] != t[i].eos || c->rms_eps != 1e-5 ||
            c->swiglu_limit != 7 || c->max_seq != 131072 || c->rope_truncate != !!strstr(t[i].edit, "yarn"))
            fail("%s", t[i].edit);
        model_close(m);
    }
}

static void test_generation_config(void) {
    static const struct {
        const char *text;
        int n, first;
    } t[] = {{"{\"eos_token_id\":[200002,199999,200012]}", 3, 200002},
             {"{\"eos_token_id\":9}", 1, 9},
             {"{\"eos_token_id\":null}", 1, 5},
             {"{}", 1, 5}};
    char file[600];
    add_hf(false);
    for (size_t i = 0; i < LEN(t); i++) {
        const char *path = write_folder("gen", edited("{\"eos_token_id\":5}"));
        snprintf(file, sizeof file, "%s/generation_config.json", path);
        put_text(file, t[i].text);
        Model *m = open_ok(path);
        if (m && (model_config(m)->n_eos != t[i].n || model_config(m)->eos[0] != t[i].first)) fail("%s", t[i].text);
        model_close(m);
    }
    put_text(file, "{\"eos_token_id\":\"</s>\"}");
    expect_error(at("gen"), "eos_token_id", "generation_config.json");
    Text many = {0};
    text_add(&many, "{\"eos_token_id\":[0");
    for (int i = 1; i <= MODEL_MAX_EOS; i++) text_add(&many, ",%d", i);
    text_add(&many, "]}");
    put_text(file, many.at);
    text_free(&many);
    expect_error(at("gen"), "more than 32", "generation_config.json");
    unlink(file);
    if (symlink("blobs/none", file)) fail("symlink");
    expect_error(at("gen"), "No such file", "generation_config.json");
}

/* --- tensors that are not as expected --- */

static void test_tensors(void) {
    static const struct {
        const char *name, *shape, *error; /* shape NULL: missing */
    } t[] = {{"model.layers.1.self_attn.k_proj.weight", NULL, "missing"},
             {"model.layers.1.self_attn.k_proj.weight", "[32,16]", "shape is [32, 16], expected [16, 32]"},
             {"model.layers.0.mlp.experts.gate_up_proj_blocks", "[2,128,16,1]", "expected [2, 128, 1, 16]"},
             {"model.layers.0.mlp.experts.gate_up_proj_scales", NULL, "missing"},
             {"model.layers.0.mlp.experts.gate_up_proj_scales", "[2,128]", "expected [2, 128, 1]"},
             {"model.layers.0.mlp.experts.down_proj_blocks", NULL, "missing"},
             {"model.norm.weight", "[1,32]", "shape is [1, 32], expected [32]"},
             {"model.norm.weight", "[16]", "shape is [16], expected [32]"},
             {"model.embed_tokens.weight", "[1536]", "expected [48, 32]"},
             {"lm_head.weight", NULL, "missing"},
             {"model.layers.1.self_attn.sinks", NULL, "missing"}};
    for (size_t i = 0; i < LEN(t); i++) {
        add_hf(true);
        Entry *x = entry(t[i].name);
        if (t[i].shape) {
            snprintf(x->shape, sizeof x->shape, "%s", t[i].shape);
            x->n = shape_size(x->shape) * (x->dtype[0] == 'U' ? 1 : 4);
        } else {
            free(x->bytes);
            *x = entries[--n_entries];
        }
        const char *path = write_folder("tensors", hf_config);
        char want[128]; /* a lost block tensor is reported under the weight's plain name */
        snprintf(want, sizeof want, "%s", t[i].name);
        if (!t[i].shape && strstr(want, "_blocks")) *strstr(want, "_blocks") = 0;
        expect_error(path, want, t[i].error);
    }
    add_hf(true);
    snprintf(entry("model.norm.weight")->dtype, 8, "I32");
    expect_error(write_folder("tensors", hf_config), "model.norm.weight", "type is I32, expected BF16, F16 or F32");
    add_hf(true);
    snprintf(entry("model.layers.0.mlp.experts.down_proj_scales")->dtype, 8, "I8");
    expect_error(write_folder("tensors", hf_config), "down_proj_scales", "type is I8, expected U8");
}

static void test_shards(void) {
    char file[1200], config[600];
    add_hf(true);
    const char *blobs = at("blobs"), *snap = at("snap"); /* as in the hub's cache: symbolic links into another folder */
    mkdir(blobs, 0777);
    mkdir(snap, 0777);
    static const int cut[4] = {0, 5, 30, -1};
    Text index = {0};
    text_add(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (int s = 0; s < 3; s++) {
        int end = cut[s + 1] < 0 ? n_entries : cut[s + 1];
        snprintf(file, sizeof file, "%s/%dabc", blobs, s);
        write_entries(file, cut[s], end);
        char link[1200];
        snprintf(link, sizeof link, "%s/model-0000%d-of-00003.safetensors", snap, s + 1);
        if (symlink(file, link)) die("test: symlink");
        for (int i = cut[s]; i < end; i++)
            text_add(&index, "%s\"%s\":\"model-0000%d-of-00003.safetensors\"", i ? "," : "", entries[i].name, s + 1);
    }
    text_add(&index, "}}");
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", snap);
    put_text(file, index.at);
    snprintf(config, sizeof config, "%s/config.json", snap);
    put_text(config, hf_config);
    Model *m = open_ok(snap);
    if (m) {
        expect_count(m, "embed", 48 * 32, 100000);
        expect_qkv(m, 1);
        expect_mxfp4(m, "layer1.mlp.mlp1.w", "model.layers.1.mlp.experts.gate_up_proj", 2 * 128 * 32);
    }
    model_close(m);
    static const struct {
        const char *index, *error;
    } bad[] = {{"{\"weight_map\":{\"model.norm.weight\":\"../x\"}}", "plain file name"},
               {"{\"weight_map\":{\"model.norm.weight\":\"..\"}}", "plain file name"},
               {"{\"weight_map\":{\"model.norm.weight\":7}}", "plain file name"},
               {"{\"weight_map\":{\"model.norm.weight\":\"model-00002-of-00003.safetensors\"}}", "is not in"},
               {"{\"weight_map\":{\"model.norm.weight\":\"model-9.safetensors\"}}", "No such file"},
               {"{\"weight_map\":{\"model.norm.weight\":\"model-00001-of-00003.safetensors\"}}", "missing"},
               {"{\"weight_map\":[]}", "no weight_map"},
               {"{}", "no weight_map"},
               {"nonsense", "bad JSON"}};
    for (size_t i = 0; i < LEN(bad); i++) {
        put_text(file, bad[i].index);
        expect_error(snap, bad[i].error, NULL);
    }
    unlink(file);
    expect_error(snap, "neither model.safetensors nor", "index.json");
    text_free(&index);
}

/* --- rope --- */

static void test_rope(void) {
    ModelConfig c = {.head_dim = 64,
                     .original_context = 4096,
                     .rope_theta = 150000,
                     .rope_factor = 32,
                     .rope_beta_fast = 32,
                     .rope_beta_slow = 1};
    double low = 32 * log(4096 / (32 * 2 * M_PI)) / log(150000), high = 32 * log(4096 / (2 * M_PI)) / log(150000);
    float inv[64], k;
    if (fabs(low - 8.0928) > 5e-5 || fabs(high - 17.3980) > 5e-5) fail("the formula is not numerics.md's");
    model_rope_inv_freq(&c, inv, &k);
    if (fabs((double)k - 1.34657) > 5e-6) fail("concentration is %g", (double)k);
    for (int i = 0; i < 32; i++) {
        double freq = pow(150000, i / 32.0), m = 1 - fmin(fmax((i - low) / (high - low), 0), 1);
        double want = 1 / (32 * freq) * (1 - m) + 1 / freq * m;
        /* 1 - (1 - m) cancels in fp32 near the upper bound: measured 1.1e-6 at i = 17 */
        if (fabs((double)inv[i] - want) > (i > 14 && i < 18 ? 4e-6 : 3e-7) * want)
            fail("inv_freq[%d] is %.9g, expected %.9g", i, (double)inv[i], want);
    }
    if (inv[0] != 1) fail("inv_freq[0]");
    float *t = malloc(200 * 32 * 2 * sizeof *t);
    model_rope_table(&c, 200, t);
    for (int p = 0; p < 200; p++)
        for (int i = 0; i < 32; i++) {
            double angle = (double)((float)p * inv[i]), s = 0.1 * log(32) + 1;
            const float *v = t + (p * 32 + i) * 2;
            if (v[0] != (float)(cos(angle) * s) || v[1] != (float)(sin(angle) * s)) fail("table[%d][%d]", p, i);
        }
    free(t);
    for (int f = 0; f < 2; f++) { /* plain */
        c.rope_factor = f;
        model_rope_inv_freq(&c, inv, &k);
        for (int i = 0; i < 32; i++)
            if (fabs((double)inv[i] * pow(150000, i / 32.0) - 1) > 3e-7) fail("plain inv_freq[%d]", i);
        if (k != 1) fail("plain concentration is %g", (double)k);
    }
    c.rope_factor = 32;
    c.original_context = 8; /* both bounds below 0: clamped low 0, high < low as transformers leaves it */
    for (c.head_dim = 16; c.head_dim <= 128; c.head_dim += 16) {
        model_rope_inv_freq(&c, inv, &k);
        for (int i = 0; i < c.head_dim / 2; i++)
            if (!isfinite(inv[i])) fail("inv_freq is not finite at head_dim %d", (int)c.head_dim);
    }
}

/* What transformers 5.17 computes, in double: 1/freq, or YaRN's blend of it with 1/(factor freq). */
static double want_inv_freq(const ModelConfig *c, int i, double *concentration) {
    double d = (double)c->head_dim, bound[2], freq = pow(c->rope_theta, 2 * i / d);
    *concentration = c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1;
    if (c->rope_factor <= 1) return 1 / freq;
    for (int k = 0; k < 2; k++) {
        bound[k] = d * log((double)c->original_context / ((k ? c->rope_beta_slow : c->rope_beta_fast) * 2 * M_PI)) /
                   (2 * log(c->rope_theta));
        if (c->rope_truncate) bound[k] = k ? ceil(bound[k]) : floor(bound[k]);
    }
    double low = fmax(bound[0], 0), high = fmin(bound[1], d - 1),
           ramp = fmin(fmax((i - low) / (high == low ? 0.001 : high - low), 0), 1);
    return ramp / (c->rope_factor * freq) + (1 - ramp) / freq;
}

static void check_rope(const json_t *t, const ModelConfig *c) {
    const char *name = json_string_value(json_object_get(t, "name"));
    const struct {
        const char *key;
        double got, otherwise;
    } field[] = {{"theta", c->rope_theta, 0},
                 {"factor", c->rope_factor, 0},
                 {"fast", c->rope_beta_fast, 32},
                 {"slow", c->rope_beta_slow, 1},
                 {"original", (double)c->original_context, 4096}};
    for (size_t k = 0; k < LEN(field); k++) {
        const json_t *v = json_object_get(t, field[k].key);
        double want = v ? json_number_value(v) : field[k].otherwise;
        if (!near(field[k].got, want)) fail("%s: %s is %g, expected %g", name, field[k].key, field[k].got, want);
    }
    if (json_object_get(t, "truncate") && c->rope_truncate != json_is_true(json_object_get(t, "truncate")))
        fail("%s: truncate is %d", name, c->rope_truncate);
    float inv[64], k;
    model_rope_inv_freq(c, inv, &k);
    for (int i = 0; i < c->head_dim / 2; i++) {
        double one, want = want_inv_freq(c, i, &one);
        if (fabs((double)inv[i] - want) > 5e-6 * want || !near(k, (float)one))
            fail("%s: inv_freq[%d] is %.9g, expected %.9g; concentration %g", name, i, (double)inv[i], want, (double)k);
    }
}

/* The table that tests/oracle/rope_cases.py holds against transformers itself. */
static void test_rope_cases(void) {
    json_error_t je;
    json_t *root = json_load_file("tests/formats/rope_cases.json", 0, &je), *t;
    size_t i;
    if (!root) die("test: rope_cases.json:%d: %s", je.line, je.text);
    json_array_foreach(json_object_get(root, "cases"), i, t) {
        json_t *o = json_loads(hf_config, 0, &je);
        lay_over(o, json_object_get(root, "base"));
        lay_over(o, json_object_get(t, "config"));
        char *text = json_dumps(o, 0);
        Err e = {0};
        Model *m = (add_hf(false), model_open(write_folder("rope", text), false, &e));
        if (m) check_rope(t, model_config(m));
        else fail("%s: %s", json_string_value(json_object_get(t, "name")), e.msg);
        model_close(m);
        free(text);
        json_decref(o);
    }
    if (i < 20) fail("only %zu cases", i);
    json_decref(root);
}

/* --- gptoss-mkmodel --- */

static const char tiny[] =
    "{\"vocab_size\":512,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,\"num_local_experts\":8,"
    "\"num_experts_per_tok\":4,\"head_dim\":16,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"sliding_window\":"
    "8}";

static int make(const char *target, const char *options) {
    return shell("'%s' '%s/tiny.json' '%s/%s' %s 2>'%s/err'", mkmodel, dir, dir, target, options, dir);
}

static bool need_mkmodel(void) {
    if (!mkmodel) return fail("skip no gptoss-mkmodel given");
    put_text(at("tiny.json"), tiny);
    return true;
}

static const char *const globals[] = {"embed", "unembed", "norm"}, *const locals[] = {
                                                                       "attn.norm",  "attn.qkv.w",   "attn.qkv.b",
                                                                       "attn.sinks", "attn.o.w",     "attn.o.b",
                                                                       "mlp.norm",   "mlp.router.w", "mlp.router.b",
                                                                       "mlp.mlp1.w", "mlp.mlp1.b",   "mlp.mlp2.w",
                                                                       "mlp.mlp2.b"};

static bool same_tensor(const Model *a, const Model *b, const char *name) {
    ModelTensor t = {0};
    Err e = {0};
    size_t n = 4;
    float *x = read_f32(a, name, 0), *y = read_f32(b, name, 0);
    model_tensor(a, name, &t, &e);
    for (int i = 0; i < t.rank; i++) n *= (size_t)t.shape[i];
    bool ok = x && y && !memcmp(x, y, n);
    free(x);
    free(y);
    return ok;
}

static void expect_same(const char *pa, const char *pb) {
    Model *a = open_ok(at(pa)), *b = open_ok(at(pb));
    char name[64];
    for (size_t i = 0; a && b && i < LEN(globals); i++)
        if (!same_tensor(a, b, globals[i])) fail("%s and %s: %s differs", pa, pb, globals[i]);
    for (int l = 0; a && b && l < 3; l++)
        for (size_t i = 0; i < LEN(locals); i++) {
            snprintf(name, sizeof name, "layer%d.%s", l, locals[i]);
            if (!same_tensor(a, b, name)) fail("%s and %s: %s differs", pa, pb, name);
        }
    if (a && b && memcmp(model_config(a)->sliding, model_config(b)->sliding, 3)) fail("%s and %s: config", pa, pb);
    model_close(a);
    model_close(b);
}

static void test_mkmodel_layouts(void) {
    if (!need_mkmodel()) return;
    static const char *const targets[][2] = {{"mk.bin", ""},
                                             {"mk-mx", "--dtype mxfp4"},
                                             {"mk-bf16", ""},
                                             {"mk-f32", "--dtype f32"},
                                             {"mk-oa", "--layout openai --dtype mxfp4"},
                                             {"mk-oab", "--layout openai"},
                                             {"mk-shards", "--dtype mxfp4 --max-shard-size 50K"},
                                             {"mk-mx", "--dtype mxfp4 --seed 0"}};
    for (size_t i = 0; i < LEN(targets); i++)
        if (make(targets[i][0], targets[i][1])) fail("gptoss-mkmodel %s failed", targets[i][0]);
    for (size_t i = 1; i < LEN(targets); i++) expect_same(targets[0][0], targets[i][0]);
    static const DType types[] = {DT_F32, DT_MXFP4, DT_BF16, DT_F32, DT_MXFP4, DT_BF16, DT_MXFP4};
    for (size_t i = 0; i < LEN(types); i++) {
        Model *m = open_ok(at(targets[i][0]));
        if (m && model_config(m)->experts_dtype != types[i]) fail("%s: experts_dtype", targets[i][0]);
        model_close(m);
    }
    if (shell("test $(ls '%s/mk-shards' | grep -c '^model-.*safetensors$') -gt 3", dir)) fail("few shards");
    if (make("mk-1", "--seed 1")) fail("--seed 1");
    Model *a = open_ok(at("mk-1")), *b = open_ok(at("mk-bf16"));
    if (a && b && (same_tensor(a, b, "embed") || same_tensor(a, b, "layer2.mlp.mlp2.w")))
        fail("the seed changes nothing");
    if (b && same_tensor(b, b, "embed") == false) fail("a tensor differs from itself");
    model_close(a);
    model_close(b);
}

static void expect_moments(const Model *m, const char *name, double mean, double std) {
    ModelTensor t;
    Err e = {0};
    size_t n = 1;
    float *v = read_f32(m, name, 0);
    double sum = 0, square = 0;
    if (!v || !model_tensor(m, name, &t, &e)) return;
    for (int i = 0; i < t.rank; i++) n *= (size_t)t.shape[i];
    for (size_t i = 0; i < n; i++) sum += (double)v[i], square += (double)v[i] * (double)v[i];
    double got = sum / (double)n, s = sqrt(square / (double)n - got * got);
    if (fabs(got - mean) > 6 * std / sqrt((double)n) || fabs(s - std) > std * (.03 + 4 / sqrt((double)n)))
        fail("%s: mean %.4g std %.4g, expected %.4g %.4g", name, got, s, mean, std);
    free(v);
}

static void test_mkmodel_values(void) {
    if (!need_mkmodel()) return;
    if (make("mk-v", "--seed 7 --dtype mxfp4")) fail("gptoss-mkmodel failed");
    Model *m = open_ok(at("mk-v"));
    if (!m) return;
    expect_moments(m, "embed", 0, 1);
    expect_moments(m, "unembed", 0, 5.5 / 8);
    expect_moments(m, "layer1.attn.norm", 1, .1);
    expect_moments(m, "layer1.attn.qkv.w", 0, 1.0 / 8);
    expect_moments(m, "layer1.mlp.mlp1.w", 0, 1.5 / 8);
    expect_moments(m, "layer1.mlp.mlp2.w", 0, .5 / sqrt(96));
    float *sinks = read_f32(m, "layer1.attn.sinks", 8);
    for (int i = 0; sinks && i < 8; i++)
        if (sinks[i] == 0) fail("a sink is 0");
    free(sinks);
    model_close(m);
}

static bool has_key(const json_t *vocab, const json_t *pair) {
    return json_object_get(vocab, json_string_value(json_array_get(pair, 0))) &&
           json_object_get(vocab, json_string_value(json_array_get(pair, 1)));
}

static void test_mkmodel_tokenizer(void) {
    if (!need_mkmodel()) return;
    if (make("mk-t", "")) fail("gptoss-mkmodel failed");
    json_error_t je;
    json_t *o = json_load_file(at("mk-t/tokenizer.json"), JSON_REJECT_DUPLICATES, &je),
           *model = json_object_get(o, "model");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges"),
           *added = json_object_get(o, "added_tokens"), *v;
    const char *key;
    size_t i;
    bool seen[512] = {0};
    if (!o) fail("%s", je.text);
    json_object_foreach(vocab, key, v) {
        if (json_integer_value(v) < 0 || json_integer_value(v) >= 512 || seen[json_integer_value(v)]) {
            fail("id of %s", key);
            break;
        }
        seen[json_integer_value(v)] = true;
    }
    for (i = 0; i < 256; i++)
        if (!seen[i]) fail("no byte token has id %zu", i);
    if (json_object_size(vocab) != 256 + json_array_size(merges) || json_array_size(merges) < 50) fail("merges");
    if (json_integer_value(json_object_get(vocab, "!")) != 0 || !json_object_get(vocab, "\xc4\xa0") ||
        !json_object_get(vocab, "\xc4\x80") || !json_object_get(vocab, "\xc5\x83") || json_object_get(vocab, " "))
        fail("the byte alphabet is not GPT-2's");
    json_array_foreach(merges, i, v) {
        char joined[64];
        snprintf(joined, sizeof joined, "%s%s", json_string_value(json_array_get(v, 0)),
                 json_string_value(json_array_get(v, 1)));
        json_int_t id = json_integer_value(json_object_get(vocab, joined));
        if (!has_key(vocab, v) || id != 256 + (json_int_t)i) fail("merge %zu: %s", i, joined);
        for (int side = 0; side < 2; side++)
            if (json_integer_value(json_object_get(vocab, json_string_value(json_array_get(v, side)))) >= id)
                fail("merge %zu uses a later token", i);
    }
    json_array_foreach(added, i, v) {
        json_int_t id = json_integer_value(json_object_get(v, "id"));
        if (id != 502 + (json_int_t)i || seen[id]) fail("special token %zu", i);
    }
    if (json_array_size(added) != 10) fail("%zu special tokens", json_array_size(added));
    json_decref(o);
    Model *m = open_ok(at("mk-t"));
    if (m && (model_config(m)->n_eos != 2 || model_config(m)->eos[0] != 504 || model_config(m)->eos[1] != 503))
        fail("eos");
    model_close(m);
    static char small[1024];
    snprintf(small, sizeof small, "%s", tiny);
    memcpy(strstr(small, "512"), "100", 3);
    put_text(at("tiny.json"), small);
    if (make("mk-s", "") || !access(at("mk-s/tokenizer.json"), F_OK)) fail("a vocabulary of 100");
    if (shell("grep -q 'no tokenizer.json' '%s/err'", dir)) fail("it does not say that there is no tokenizer");
}

/* Several pieces of each kind: whoever writes them, the bytes are the same. */
static void test_mkmodel_threads(void) {
    static const char *const options[] = {"--dtype mxfp4", "--layout openai", "--dtype mxfp4 --max-shard-size 9M"};
    if (!need_mkmodel()) return;
    put_text(at("tiny.json"), "{\"vocab_size\":50001,\"hidden_size\":96,\"intermediate_size\":2016,\"num_hidden_layers\":2,\"num_local_experts\":23,"
                              "\"num_experts_per_tok\":4,\"head_dim\":16,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"sliding_window\":8}");
    for (size_t i = 0; i < LEN(options); i++) {
        char one[128], several[128];
        snprintf(one, sizeof one, "%s --threads 1", options[i]);
        snprintf(several, sizeof several, "%s --threads 7", options[i]);
        if (make("mk-one", one) || make("mk-several", several)) fail("%s", several);
        if (shell("diff -r '%s/mk-one' '%s/mk-several'", dir, dir)) fail("%s: other bytes than with one", several);
    }
    if (make("mk.bin", "--threads 1") || make("mk-7.bin", "--threads 7") || shell("cmp '%s/mk.bin' '%s/mk-7.bin'", dir, dir)) fail("a .bin differs");
}

static void test_mkmodel_full_disk(void) {
    if (!need_mkmodel()) return;
    static const char *const targets[] = {"full.bin", "full"};
    for (int i = 0; i < 2; i++) {
        int rc = shell("ulimit -f 200; '%s' '%s/tiny.json' '%s/%s' 2>'%s/err'", mkmodel, dir, dir, targets[i], dir);
        if (rc != 1) fail("%s: exit status %d", targets[i], rc);
        if (shell("grep -q 'write failed: File too large' '%s/err' && grep -q '%s' '%s/err'", dir, targets[i], dir))
            fail("%s: message", targets[i]);
        if (shell("ls '%s' | grep -q '^full'", dir) == 0) fail("%s: something was left behind", targets[i]);
    }
    /* a real full disk where we may mount one */
    if (shell("mkdir -p '%s/disk' && unshare -rm sh -c \"mount -t tmpfs -o size=600k none '%s/disk' && { '%s' "
              "'%s/tiny.json' '%s/disk/m'; "
              "test \\$? = 1 && test -z \\\"\\$(ls -A '%s/disk')\\\"; }\" 2>'%s/err'",
              dir, dir, mkmodel, dir, dir, dir, dir) &&
        !shell("unshare -rm sh -c \"mount -t tmpfs none '%s/disk'\" 2>/dev/null", dir))
        fail("a full tmpfs");
}

static void test_mkmodel_errors(void) {
    if (!need_mkmodel()) return;
    if (make("e", "--bogus") != 2 || make("e", "--seed x") != 2 || make("e", "--dtype f16") != 2 ||
        make("e", "extra") != 2 || make("e", "--max-shard-size 0") != 2 || make("e", "--seed -1") != 2)
        fail("a usage error does not exit 2");
    mkdir(at("other"), 0777);
    put_text(at("other/file"), "x");
    if (make("other", "") != 1 || access(at("other/file"), F_OK) || shell("grep -q 'was not made by' '%s/err'", dir))
        fail("a folder of the user's");
    mkdir(at("empty"), 0777);
    if (make("empty", "") || make("empty", "--max-shard-size 1M") || make("empty", ""))
        fail("an empty folder, then our own");
    if (!access(at("empty/model.safetensors.index.json"), F_OK)) fail("an old index stayed");
    Model *m = open_ok(at("empty"));
    model_close(m);
    put_text(at("tiny.json"), "{\"vocab_size\":512}");
    if (make("e", "") != 1 || shell("grep -q 'tiny.json: not a gpt-oss configuration' '%s/err'", dir))
        fail("a bad config");
    char text[1024];
    snprintf(text, sizeof text, "%.*s,\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\"]}",
             (int)sizeof tiny - 2, tiny);
    put_text(at("tiny.json"), text);
    if (make("e.bin", "") != 1 || make("lt", "")) fail("layer_types");
    m = open_ok(at("lt"));
    if (m && (model_config(m)->sliding[0] || !model_config(m)->sliding[2])) fail("layer_types were lost");
    model_close(m);
    if (shell("'%s' --help >/dev/null", mkmodel) || shell("'%s' --version >/dev/null", mkmodel) ||
        shell("'%s' 2>/dev/null", mkmodel) != 2)
        fail("--help, --version");
    if (shell("ls '%s' | grep -q tmp", dir) == 0) fail("a temporary file was left behind");
}

/* --- gptoss-check --- */

static int check_texts(const char *a, const char *b, const char *options) {
    put_text(at("a.txt"), a);
    put_text(at("b.txt"), b);
    return shell("'%s' '%s/a.txt' '%s/b.txt' %s >'%s/out' 2>&1", check, dir, dir, options, dir);
}

static void test_check(void) {
    if (!check) {
        fail("skip no gptoss-check given");
        return;
    }
    static const struct {
        const char *a, *b, *options;
        int rc;
        const char *out;
    } t[] = {
        {"1\n2\n3\n", "1\n2\n3\n", "", 0, "0 of 3"},
        {"1\n2\n3\n", "1\n2\n3", "", 0, "0 of 3"},
        {"1\r\n2\r\n", "1\n2.00000001\n", "", 0, "0 of 2"},
        {"1\n2\n3\n", "1\n2.1\n3\n", "", 1, "first mismatch at index 1"},
        {"1\n2\n3\n", "1\n2.1\n3\n", "--atol 0.11", 0, "0 of 3"},
        {"1\n2\n3\n", "1\n2.1\n3\n", "--rtol 0.05", 0, "0 of 3"},
        {"1\n2\n", "1\n2\n3\n", "", 1, "sizes differ"},
        {"nan\n", "nan\n", "--atol 1e9", 1, "first mismatch at index 0"},
        {"1\n", "nan\n", "--atol 1e9", 1, "first mismatch"},
        {"inf\n-inf\n", "inf\n-inf\n", "", 0, "0 of 2"},
        {"inf\n", "-inf\n", "", 1, "first mismatch"},
        {"1\n", "inf\n", "--rtol 1", 1, "first mismatch"},
        {"0\n", "-0\n", "--atol 0 --rtol 0", 0, "0 of 1"},
        {"1\n", "1x\n", "", 1, ""},
        {"1 2\n", "1\n2\n", "", 0, "0 of 2"},
        {"1.0,2.0", "9.0,7.0", "", 1, "2 of 2"}, /* eight bytes: as f32 almost equal */
        {"1.0,2.0\n", " 1 ,\t2", "", 0, "0 of 2"},
        {"1,2\n3,4\n", "1 2 3 4", "", 0, "0 of 4"},
        {"\xef\xbb\xbf" "1", "1", "", 0, "0 of 1"},
        {"1,,2", "1,,2", "", 1, "a.txt:1: value 2 is missing"},
        {"1\n2,\n", "1\n2,\n", "", 1, "value 3 is missing"},
        {",1", ",1", "", 1, "value 1 is missing"},
        {"1;2;", "1;2;", "", 1, "a.txt:1: value 1 is not a number: \"1;2;\""},
        {"1\n2\nthree", "1\n2\nthree", "", 1, "a.txt:3: value 3"},
        {"11\xc2\xa0" "2.25", "11\xc2\xa0" "9.25", "", 1, "not a number"}, /* a no-break space; eight bytes */
        {"1e999", "1e999", "", 1, "not a number"},
        {"hello wo", "hello wo", "", 1, "not a number"},
        {"1 2 3 4", "1 2 3 5", "--raw", 1, "not whole f32"},
        {"1 2 3 45", "1 2 3 45", "--raw", 0, "0 of 2"},
        {"", "", "", 1, "a.txt: it holds no values"},
        {"", "", "--raw", 1, "holds no values"},
        {" \n", "1", "", 1, "holds no values"},
        {"1", "", "", 1, "b.txt: it holds no values"},
        {"1 2 3 4", "1 2 3 4", "--rows 3", 1, "4 values are not whole rows of 3"},
        {"0 1 2", "0 1 2.5", "--rows 3 --atol 1", 0, "row 0: nmse 0.0345, kl 0.0243, top-1 2 in both"},
        {"0 1 2\n9 0 0", "0 1 2\n0 1 0", "--rows 3", 1, "row 1: nmse 82, kl 6.12, top-1 0 and 1"},
        {"0 1 2\n9 0 0", "0 1 2\n0 1 0", "--rows 3", 1, "top-1 agrees in 1 of 2 rows; kl of A from B: mean 3.06, most 6.12 in row 1"},
        {"-inf 0 0", "-inf 0 0", "--rows 3", 0, "row 0: nmse 0, kl 0, top-1 1 in both"},
        {"0 0", "0 nan", "--rows 2", 1, "row 0: nmse nan, kl nan, top-1 none: NaN in B"},
        {"1 2", "1 2", "--rows 0", 2, "it is 1 or more"},
        {"1\n", "1\n", "--atol -1", 2, "--atol"},
        {"1\n", "1\n", "--atol nan", 2, "--atol"},
        {"1\n", "1\n", "--rtol x", 2, "--rtol"},
        {"1\n", "1\n", "--bogus", 2, ""},
        {"1\n", "1\n", "more", 2, ""},
    };
    for (size_t i = 0; i < LEN(t); i++) {
        int rc = check_texts(t[i].a, t[i].b, t[i].options);
        if (rc != t[i].rc) fail("case %zu: exit status %d, expected %d", i, rc, t[i].rc);
        if (*t[i].out && shell("grep -qe '%s' '%s/out'", t[i].out, dir))
            fail("case %zu: output lacks \"%s\"", i, t[i].out);
    }
    float v[3] = {1.5f, -2, 3};
    put_file(at("b.txt"), v, sizeof v);
    put_text(at("a.txt"), "1.5\n-2\n3\n");
    if (shell("'%s' '%s/a.txt' '%s/b.txt' >/dev/null", check, dir, dir)) fail("text and raw");
    if (shell("'%s' '%s/a.txt' - <'%s/b.txt' >/dev/null", check, dir, dir)) fail("stdin");
    if (shell("cat '%s/b.txt' | '%s' '%s/a.txt' /dev/stdin >/dev/null", dir, check, dir)) fail("a pipe");
    if (shell("bash -c \"'%s' <(cat '%s/a.txt') <(cat '%s/b.txt')\" >/dev/null", check, dir, dir)) fail("two pipes");
    if (shell("'%s' - - </dev/null 2>&1 | grep -q 'both stdin'", check)) fail("stdin twice");
    if (shell("'%s' '%s' '%s' 2>&1 | grep -q 'Is a directory'", check, dir, dir)) fail("a folder");
    put_file(at("a.txt"), "1\0 23", 5); /* text that is not right */
    if (shell("'%s' '%s/a.txt' '%s/a.txt' 2>&1 | grep -q 'not a number'", check, dir, dir)) fail("a NUL in text");
    put_file(at("a.txt"), "\xff\xfe" "1\0.\0" "5\0\r\0\n\0" "2\0.\0" "5\0\n", 20);
    if (shell("'%s' '%s/a.txt' '%s/a.txt' 2>&1 | grep -q 'not a number'", check, dir, dir)) fail("UTF-16");
    const float small[] = {0, 10, 2560, 1e-5f, -3e-7f, 0.25f};
    for (size_t i = 0; i < LEN(small); i++) {
        put_file(at("a.txt"), &small[i], sizeof small[i]);
        if (shell("'%s' '%s/a.txt' '%s/a.txt' >/dev/null", check, dir, dir)) fail("raw %g alone", (double)small[i]);
    }
    put_text(at("a.txt"), "1.5\n-2\n3\n");
    put_file(at("b.txt"), v, sizeof v - 1);
    if (shell("'%s' '%s/a.txt' '%s/b.txt' >/dev/null 2>&1", check, dir, dir) != 1) fail("a partial float");
    if (shell("'%s' '%s/a.txt' '%s/nowhere' >/dev/null 2>&1", check, dir, dir) != 1) fail("no such file");
    if (shell("'%s' --help >/dev/null", check) || shell("'%s' --version >/dev/null", check)) fail("--help, --version");
}

int main(int argc, char **argv) {
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.200s/formats.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) die("test: mkdtemp %s", dir);
    mkmodel = argc > 1 ? argv[1] : access("out/gptoss-mkmodel", X_OK) ? NULL : "out/gptoss-mkmodel";
    check = argc > 2 ? argv[2] : access("out/gptoss-check", X_OK) ? NULL : "out/gptoss-check";
    run("hf", test_hf);
    run("rounding", test_rounding);
    run("mxfp4", test_mxfp4);
    run("scale-bytes", test_scale_bytes);
    run("openai", test_openai);
    run("tied-and-unbiased", test_tied_and_unbiased);
    run("bin", test_bin);
    run("bin-hostile", test_bin_hostile);
    run("safetensors-header", test_safetensors_header);
    run("safetensors-length", test_safetensors_length);
    run("many-objects", test_many_objects);
    run("pipe", test_pipe);
    run("truncated", test_truncated);
    run("mutated", test_mutated);
    run("shrinks", test_shrinks);
    run("changes", test_changes);
    run("config-errors", test_config_errors);
    run("config-variants", test_config_variants);
    run("generation-config", test_generation_config);
    run("unknown-tensors", test_unknown_tensors);
    run("f16", test_f16);
    run("near-misses", test_near_misses);
    run("tensors", test_tensors);
    run("shards", test_shards);
    run("rope", test_rope);
    run("rope-cases", test_rope_cases);
    run("mkmodel-layouts", test_mkmodel_layouts);
    run("mkmodel-values", test_mkmodel_values);
    run("mkmodel-tokenizer", test_mkmodel_tokenizer);
    run("mkmodel-threads", test_mkmodel_threads);
    run("mkmodel-full-disk", test_mkmodel_full_disk);
    run("mkmodel-errors", test_mkmodel_errors);
    run("check", test_check);
    clear();
    if (shell("rm -rf '%s'", dir)) fprintf(stderr, "could not remove %s\n", dir);
    return failures ? 1 : 0;
}
