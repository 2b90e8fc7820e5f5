/* plan.c - write and open plan.bin. Format and contract: plan.h.
 *
 * A record of the metadata is a table of fields, which both directions walk; so plan_open is the inverse of plan_write.
 * Add a field: one row of its table, and in verify.c what it must be.
 * Numbers that JSON does not hold exactly are text: doubles as %a, hashes and sizes beyond 2^63 in hex.
 * Reading: decode() turns bytes into a Plan and checks forms, plan_verify what the numbers mean together. */
#include "verify.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "fault.h"
#include "ir/json.h"
#include "ir/map.h"

enum {
    HEADER = 40,
    ALIGN = 64,
    ZLEVEL = 6,
    MAX_META = 64 << 20,
    MAX_TEXTS = 256 << 20,   /* of all texts, expanded */
    MAX_PROGRAM = 32 << 20,  /* of the graphs' text: 330 bytes a node of gpt-oss-120b */
    MAX_JSON = 384 << 20     /* what the metadata takes once it is parsed; 7 KB a node, 6 MB for gpt-oss-120b */
};
static const char magic[8] = "GPTOSSPL";
static const char *const kind_names[BUF_KINDS] = {"weight", "packed", "state", "input", "link", "temp"};

static const char *const hold_names[BUF_HOLDS] = {"first", "each", "common"};

const char *buf_kind_name(BufKind kind) { return kind_names[kind]; }
const char *buf_hold_name(BufHold hold) { return hold_names[hold]; }

/* --- tables of fields --------------------------------------------------------------------------------------------- */

typedef enum FieldKind {
    F_INT,
    F_I64,
    F_U32,
    F_SIZE,
    F_HEX,
    F_REAL,
    F_BOOL,
    F_STR,
    F_STR_OR_NULL,
    F_DTYPE,
    F_BUFKIND,
    F_BUFHOLD,
    F_SYM,
    F_TYPE
} FieldKind;
typedef struct Field Field;
struct Field {
    const char *name;
    FieldKind kind;
    size_t at;
};
#define ROW(type, kind, field)                                                                                         \
    { #field, kind, offsetof(type, field) }

static const Field config_fields[] = {
    ROW(ModelConfig, F_I64, vocab),
    ROW(ModelConfig, F_I64, hidden),
    ROW(ModelConfig, F_I64, experts),
    ROW(ModelConfig, F_I64, topk),
    ROW(ModelConfig, F_I64, intermediate),
    ROW(ModelConfig, F_I64, layers),
    ROW(ModelConfig, F_I64, head_dim),
    ROW(ModelConfig, F_I64, heads),
    ROW(ModelConfig, F_I64, kv_heads),
    ROW(ModelConfig, F_I64, max_seq),
    ROW(ModelConfig, F_I64, original_context),
    ROW(ModelConfig, F_REAL, rope_theta),
    ROW(ModelConfig, F_REAL, rope_factor),
    ROW(ModelConfig, F_REAL, rope_beta_fast),
    ROW(ModelConfig, F_REAL, rope_beta_slow),
    ROW(ModelConfig, F_BOOL, rope_truncate),
    ROW(ModelConfig, F_I64, window),
    ROW(ModelConfig, F_REAL, swiglu_limit),
    ROW(ModelConfig, F_REAL, rms_eps),
    ROW(ModelConfig, F_DTYPE, dense),
    ROW(ModelConfig, F_DTYPE, experts_dtype),
};
static const Field plan_fields[] = {
    ROW(Plan, F_STR, model_name), ROW(Plan, F_STR_OR_NULL, model_path), ROW(Plan, F_BOOL, swap_embeddings),
    ROW(Plan, F_STR, arch),       ROW(Plan, F_STR, target_id),          ROW(Plan, F_STR, precision),
    ROW(Plan, F_I64, max_batch),  ROW(Plan, F_I64, max_tokens),         ROW(Plan, F_I64, max_seq),
    ROW(Plan, F_I64, max_blocks), ROW(Plan, F_I64, devices),
    {"scratch_first", F_SIZE, offsetof(Plan, arena_of[HOLD_FIRST])},
    {"scratch_each", F_SIZE, offsetof(Plan, arena_of[HOLD_EACH])},
    {"scratch_common", F_SIZE, offsetof(Plan, arena_of[HOLD_COMMON])},
};
static const Field buf_fields[] = {
    ROW(PlanBuf, F_STR, name),       ROW(PlanBuf, F_BUFKIND, kind), ROW(PlanBuf, F_TYPE, type),
    ROW(PlanBuf, F_BOOL, may_round), ROW(PlanBuf, F_SIZE, size),    ROW(PlanBuf, F_SIZE, offset),
    ROW(PlanBuf, F_INT, graph),      ROW(PlanBuf, F_INT, first),    ROW(PlanBuf, F_INT, last),
    ROW(PlanBuf, F_BUFHOLD, hold),   ROW(PlanBuf, F_I64, share),
};
static const Field module_fields[] = {ROW(PlanModule, F_STR, name), ROW(PlanModule, F_BOOL, overridden)};
static const Field kernel_fields[] = {
    ROW(PlanKernel, F_STR, symbol),    ROW(PlanKernel, F_STR, template_name), ROW(PlanKernel, F_STR, reduction),
    ROW(PlanKernel, F_INT, module),    ROW(PlanKernel, F_U32, block),         ROW(PlanKernel, F_U32, lds),
    ROW(PlanKernel, F_BOOL, overlaps), ROW(PlanKernel, F_REAL, nmse),         ROW(PlanKernel, F_U32, vgprs),
    ROW(PlanKernel, F_U32, agprs),     ROW(PlanKernel, F_U32, sgprs),         ROW(PlanKernel, F_U32, lds_static),
    ROW(PlanKernel, F_U32, scratch),   ROW(PlanKernel, F_U32, vgpr_spills),   ROW(PlanKernel, F_U32, sgpr_spills),
};
static const Field graph_fields[] = {ROW(PlanGraph, F_STR, name), ROW(PlanGraph, F_SYM, sym)};
static const Field launch_fields[] = {ROW(PlanLaunch, F_INT, kernel), ROW(PlanLaunch, F_INT, node)};
typedef struct PlanValue PlanValue;
static const Field value_fields[] = {ROW(PlanValue, F_STR, name), ROW(PlanValue, F_INT, buf)};
static const Field kv_fields[] = {ROW(PlanKv, F_STR, blocks), ROW(PlanKv, F_I64, window)};
static const Field choice_fields[] = {ROW(PlanChoice, F_STR, of), ROW(PlanChoice, F_STR, says)};
static const Field rule_fields[] = {ROW(PlanRule, F_STR, name), ROW(PlanRule, F_HEX, hash), ROW(PlanRule, F_INT, uses)};

/* --- writing ------------------------------------------------------------------------------------------------------ */

static json_t *json_u64(uint64_t u, bool hex) {
    char s[24];
    if (u <= INT64_MAX && !hex) return json_integer((json_int_t)u);
    snprintf(s, sizeof s, "0x%llx", (unsigned long long)u);
    return json_string(s);
}

static json_t *json_real_text(double d) {
    char s[40];
    snprintf(s, sizeof s, "%a", d);
    return json_string(s);
}

/* JSON holds UTF-8 only; a file's name may be any bytes: those become {"hex": "…"}. */
static json_t *json_text(const char *s) {
    json_t *j = json_string(s);
    if (j) return j;
    Text hex = {0};
    for (; *s; s++) text_add(&hex, "%02x", (unsigned char)*s);
    j = json_pack("{s:s}", "hex", hex.at);
    text_free(&hex);
    return j;
}

static json_t *type_json(const Type *t) {
    json_t *j = json_array();
    json_array_append_new(j, json_string(dtype_name(t->dtype)));
    for (int i = 0; i < t->rank; i++)
        json_array_append_new(
            j, json_pack("[i,I,I]", (int)t->dim[i].sym, (json_int_t)t->dim[i].mul, (json_int_t)t->dim[i].add));
    return j;
}

static json_t *field_json(const Field *f, const char *record) {
    const void *at = record + f->at;
    switch (f->kind) {
    case F_INT: return json_integer(*(const int *)at);
    case F_SYM: return json_integer((int)*(const Sym *)at);
    case F_I64: return json_integer(*(const int64_t *)at);
    case F_U32: return json_integer(*(const uint32_t *)at);
    case F_SIZE: return json_u64(*(const size_t *)at, false);
    case F_HEX: return json_u64(*(const uint64_t *)at, true);
    case F_REAL: return json_real_text(*(const double *)at);
    case F_BOOL: return json_boolean(*(const bool *)at);
    case F_DTYPE: return json_string(dtype_name(*(const DType *)at));
    case F_BUFKIND: return json_string(kind_names[*(const BufKind *)at]);
    case F_BUFHOLD: return json_string(hold_names[*(const BufHold *)at]);
    case F_TYPE: return type_json(at);
    case F_STR:
    case F_STR_OR_NULL: {
        const char *s = *(const char *const *)at;
        if (!s && f->kind == F_STR) die("plan_write: field %s is NULL", f->name);
        return s ? json_text(s) : json_null();
    }
    }
    die("plan_write: field kind %d", (int)f->kind);
}

static json_t *record_json(const void *record, const Field *fields, size_t n) {
    json_t *j = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(j, fields[i].name, field_json(&fields[i], record));
    return j;
}
#define RECORD(record, fields) record_json(record, fields, LEN(fields))

static json_t *ints_json(const int *v, int n) {
    json_t *j = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(j, json_integer(v[i]));
    return j;
}

static json_t *config_json(const ModelConfig *c) {
    json_t *j = RECORD(c, config_fields), *eos = json_array();
    if (c->layers < 0 || c->layers > MODEL_MAX_LAYERS || c->n_eos < 0 || c->n_eos > MODEL_MAX_EOS)
        die("plan_write: config out of range");
    char sliding[MODEL_MAX_LAYERS + 1];
    for (int i = 0; i < c->layers; i++) sliding[i] = c->sliding[i] ? '1' : '0';
    json_object_set_new(j, "sliding", json_stringn(sliding, (size_t)c->layers));
    for (int i = 0; i < c->n_eos; i++) json_array_append_new(eos, json_integer(c->eos[i]));
    json_object_set_new(j, "eos", eos);
    return j;
}

static json_t *launch_json(const PlanLaunch *l, int n_buckets) {
    json_t *j = RECORD(l, launch_fields), *grid = json_array();
    json_object_set_new(j, "args", ints_json(l->args, l->n_args));
    for (int b = 0; b < n_buckets; b++)
        for (int d = 0; d < 3; d++) json_array_append_new(grid, json_integer(l->grid[b][d]));
    json_object_set_new(j, "grid", grid);
    json_t *lds = json_array();
    for (int b = 0; b < n_buckets; b++) json_array_append_new(lds, json_integer(l->lds[b]));
    json_object_set_new(j, "lds", lds);
    return j;
}

static json_t *graph_json(const PlanGraph *g) {
    json_t *j = RECORD(g, graph_fields), *buckets = json_array(), *launches = json_array(), *values = json_array();
    for (int i = 0; i < g->n_buckets; i++) json_array_append_new(buckets, json_integer(g->buckets[i]));
    for (int i = 0; i < g->n_launches; i++) json_array_append_new(launches, launch_json(&g->launches[i], g->n_buckets));
    for (int i = 0; i < g->n_values; i++) json_array_append_new(values, RECORD(&g->values[i], value_fields));
    json_object_set_new(j, "buckets", buckets);
    json_object_set_new(j, "launches", launches);
    json_object_set_new(j, "values", values);
    return j;
}

static void pad(Text *t) {
    static const char zeros[ALIGN];
    text_put(t, zeros, (ALIGN - t->n % ALIGN) % ALIGN);
}

/* Offsets in the metadata count from the first blob, which follows the metadata at the next multiple of 64. */
static json_t *blob_json(Text *blobs, const void *bytes, size_t n) {
    pad(blobs);
    json_t *j = json_pack("[I,I]", (json_int_t)blobs->n, (json_int_t)n);
    text_put(blobs, bytes, n);
    return j;
}

static void compress(Text *out, const char *text, size_t n) {
    size_t cap = ZSTD_compressBound(n);
    char *z = malloc(cap);
    size_t size = z ? ZSTD_compress(z, cap, text, n, ZLEVEL) : 0;
    if (!z || ZSTD_isError(size)) out_of_memory(cap, "a compressed text"); /* zstd has no other error here */
    text_put(out, z, size);
    free(z);
}

static json_t *text_blob_json(Text *blobs, const char *text, size_t n) {
    Text z = {0};
    compress(&z, text, n);
    json_t *j = blob_json(blobs, z.at, z.n);
    text_free(&z);
    return j;
}

static json_t *module_json(const PlanModule *m, Text *blobs) {
    json_t *j = RECORD(m, module_fields);
    json_object_set_new(j, "source", text_blob_json(blobs, m->source, strlen(m->source)));
    if (m->code) json_object_set_new(j, "code", blob_json(blobs, m->code, m->code_size));
    if (m->lines) json_object_set_new(j, "lines", text_blob_json(blobs, m->lines, strlen(m->lines)));
    return j;
}

static json_t *kv_json(const PlanKv *k) {
    json_t *j = RECORD(k, kv_fields);
    json_object_set_new(j, "states", ints_json(k->states, k->n_states));
    return j;
}

static json_t *plan_json(const Plan *p, Text *blobs) {
    json_t *j = RECORD(p, plan_fields);
    json_object_set_new(j, "config", config_json(&p->config));
    Text dump = {0};
    program_dump(p->program, &dump);
    json_object_set_new(j, "program", text_blob_json(blobs, dump.at, dump.n));
    text_free(&dump);
    json_t *list;
#define LIST(name, count, item)                                                                                        \
    list = json_array();                                                                                               \
    for (int i = 0; i < (count); i++) json_array_append_new(list, (item));                                             \
    json_object_set_new(j, name, list)
    LIST("bufs", p->n_bufs, RECORD(&p->bufs[i], buf_fields));
    LIST("modules", p->n_modules, module_json(&p->modules[i], blobs));
    LIST("kernels", p->n_kernels, RECORD(&p->kernels[i], kernel_fields));
    LIST("graphs", p->n_graphs, graph_json(&p->graphs[i]));
    LIST("kv", p->n_kv, kv_json(&p->kv[i]));
    LIST("rules", p->n_rules, RECORD(&p->rules[i], rule_fields));
    if (p->n_choices) { LIST("choices", p->n_choices, RECORD(&p->choices[i], choice_fields)); }
#undef LIST
    return j;
}

static void put_u64(char *at, uint64_t v) { memcpy(at, &v, 8); }
static void put_u32(char *at, uint32_t v) { memcpy(at, &v, 4); }

bool plan_write(const Plan *p, const char *path, Err *e) {
    Text blobs = {0}, file = {0};
    json_t *j = plan_json(p, &blobs);
    char *meta = json_dumps(j, JSON_COMPACT), header[HEADER] = {0};
    json_decref(j);
    if (!meta) die("plan_write: metadata cannot be written as JSON");
    text_put(&file, header, HEADER);
    compress(&file, meta, strlen(meta));
    free(meta);
    size_t meta_size = file.n - HEADER;
    pad(&file);
    text_put(&file, blobs.at, blobs.n);
    memcpy(file.at, magic, 8);
    put_u32(file.at + 8, PLAN_VERSION);
    put_u64(file.at + 16, meta_size);
    put_u64(file.at + 24, file.n);
    put_u64(file.at + 32, hash64(file.at + HEADER, file.n - HEADER));
    bool ok = file_write(path, file.at, file.n, e);
    text_free(&blobs);
    text_free(&file);
    return ok;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

typedef struct Reader Reader;
struct Reader {
    Arena *arena;
    PlanFault at; /* after the first every function returns zeros */
    const unsigned char *blobs;
    size_t blobs_size;
    size_t named; /* bytes of the blobs named so far */
    size_t texts; /* bytes that texts were expanded to so far */
};

static const json_t *member(Reader *r, const json_t *j, const char *name) {
    const json_t *m = json_object_get(j, name);
    if (!m) FAULT(r, "no field \"%s\"", name);
    return m;
}

static int64_t get_int(Reader *r, const json_t *j, const char *name, int64_t lo, int64_t hi) {
    if (!json_is_integer(j)) return FAULT(r, "\"%s\" is not an integer", name), lo;
    int64_t v = json_integer_value(j);
    if (v < lo || v > hi) return FAULT(r, "\"%s\" is %lld", name, (long long)v), lo;
    return v;
}

static uint64_t get_u64(Reader *r, const json_t *j, const char *name) {
    if (!json_is_string(j)) return (uint64_t)get_int(r, j, name, 0, INT64_MAX);
    const char *s = json_string_value(j);
    char *end;
    errno = 0;
    uint64_t v = strtoull(s, &end, 16);
    if (errno || *end || s[0] != '0' || s[1] != 'x') FAULT(r, "\"%s\" is not a number", name);
    return v;
}

static double get_real(Reader *r, const json_t *j, const char *name) {
    const char *s = json_string_value(j);
    char *end = NULL;
    double d = s ? strtod(s, &end) : 0;
    if (!s || end == s || *end) FAULT(r, "\"%s\" is not a number", name);
    return d;
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static const char *get_hex(Reader *r, const char *s, const char *name) {
    size_t n = s ? strlen(s) / 2 : 0;
    char *text = arena_alloc(r->arena, n + 1);
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);
        if (high < 0 || low < 0 || !(high | low)) return FAULT(r, "\"%s\" is not hex", name), "";
        text[i] = (char)(high << 4 | low);
    }
    return text;
}

static const char *get_text(Reader *r, const json_t *j, const char *name) {
    if (json_is_object(j)) return get_hex(r, json_string_value(json_object_get(j, "hex")), name);
    const char *s = json_string_value(j);
    if (!s) return FAULT(r, "\"%s\" is not text", name), "";
    if (strlen(s) != json_string_length(j)) FAULT(r, "\"%s\" holds a NUL", name);
    return arena_strdup(r->arena, s);
}

static DType get_dtype(Reader *r, const json_t *j, const char *name) {
    DType d = DT_F32;
    const char *s = json_string_value(j);
    if (!s || !dtype_parse(s, &d)) FAULT(r, "\"%s\" is not an element type", name);
    return d;
}

static void get_type(Reader *r, const json_t *j, Type *t) {
    size_t n = json_array_size(j);
    *t = (Type){0};
    if (n < 1 || n > MAX_RANK + 1) FAIL(r, "type has rank %d", (int)n - 1);
    t->dtype = get_dtype(r, json_array_get(j, 0), "type");
    t->rank = (int)n - 1;
    for (int i = 0; i < t->rank && !r->at.failed; i++) {
        const json_t *d = json_array_get(j, (size_t)i + 1);
        if (json_array_size(d) != 3) FAIL(r, "dimension %d is malformed", i);
        t->dim[i].sym = (Sym)get_int(r, json_array_get(d, 0), "symbol", 0, SYM_COUNT - 1);
        t->dim[i].mul = get_int(r, json_array_get(d, 1), "dimension", 0, INT64_MAX);
        t->dim[i].add = get_int(r, json_array_get(d, 2), "dimension", 0, INT64_MAX);
        if (!t->dim[i].sym && t->dim[i].mul) FAULT(r, "dimension %d multiplies no symbol", i);
    }
}

static int get_word(Reader *r, const json_t *j, const char *name, const char *const *words, int n) {
    const char *s = json_string_value(j);
    for (int i = 0; s && i < n; i++)
        if (!strcmp(s, words[i])) return i;
    return FAULT(r, "\"%s\" is not a %s of buffer", name, name), 0;
}

static void get_field(Reader *r, const Field *f, const json_t *j, char *record) {
    void *at = record + f->at;
    const char *name = f->name;
    switch (f->kind) {
    case F_INT: *(int *)at = (int)get_int(r, j, name, INT32_MIN, INT32_MAX); break;
    case F_SYM: *(Sym *)at = (Sym)get_int(r, j, name, 0, SYM_COUNT - 1); break;
    case F_I64: *(int64_t *)at = get_int(r, j, name, INT64_MIN, INT64_MAX); break;
    case F_U32: *(uint32_t *)at = (uint32_t)get_int(r, j, name, 0, UINT32_MAX); break;
    case F_SIZE: *(size_t *)at = get_u64(r, j, name); break;
    case F_HEX: *(uint64_t *)at = get_u64(r, j, name); break;
    case F_REAL: *(double *)at = get_real(r, j, name); break;
    case F_BOOL:
        if (!json_is_boolean(j)) FAULT(r, "\"%s\" is neither true nor false", name);
        *(bool *)at = json_is_true(j);
        break;
    case F_DTYPE: *(DType *)at = get_dtype(r, j, name); break;
    case F_BUFKIND: *(BufKind *)at = (BufKind)get_word(r, j, name, kind_names, BUF_KINDS); break;
    case F_BUFHOLD: *(BufHold *)at = (BufHold)get_word(r, j, name, hold_names, BUF_HOLDS); break;
    case F_TYPE: get_type(r, j, at); break;
    case F_STR: *(const char **)at = get_text(r, j, name); break;
    case F_STR_OR_NULL: *(const char **)at = json_is_null(j) ? NULL : get_text(r, j, name); break;
    }
}

static void get_record(Reader *r, const json_t *j, void *record, const Field *fields, size_t n) {
    for (size_t i = 0; i < n && !r->at.failed; i++) {
        const json_t *m = member(r, j, fields[i].name);
        if (m) get_field(r, &fields[i], m, record);
    }
}
#define GET(r, j, record, fields) get_record(r, j, record, fields, LEN(fields))

/* A list's length; it is an array of the JSON text in memory, so this bounds what it makes us allocate. */
static int get_count(Reader *r, const json_t *j, const char *name, int max) {
    const json_t *list = member(r, j, name);
    if (list && !json_is_array(list)) FAULT(r, "\"%s\" is not a list", name);
    size_t n = list && !r->at.failed ? json_array_size(list) : 0;
    if (n > (size_t)max) FAULT(r, "\"%s\" has %zu items, at most %d are possible", name, n, max);
    return r->at.failed ? 0 : (int)n;
}

static const json_t *item(const json_t *j, const char *list, int i) {
    return json_array_get(json_object_get(j, list), (size_t)i);
}

static void get_ints(Reader *r, const json_t *j, const char *list, int *v, int n) {
    for (int i = 0; i < n; i++) v[i] = (int)get_int(r, item(j, list, i), list, INT32_MIN, INT32_MAX);
}

static const void *get_blob(Reader *r, const json_t *j, const char *name, size_t *size) {
    static const char nothing[1];
    *size = 0;
    if (json_array_size(j) != 2) return FAULT(r, "\"%s\" is not an offset and a size", name), nothing;
    uint64_t at = get_u64(r, json_array_get(j, 0), name), n = get_u64(r, json_array_get(j, 1), name);
    if (!r->at.failed && (at % ALIGN || at > r->blobs_size || n > r->blobs_size - at))
        FAULT(r, "\"%s\" lies outside the file", name);
    /* Each is written for itself: one that is named again and again would make a small file long work. */
    if (!r->at.failed && n > r->blobs_size - r->named) FAULT(r, "\"%s\" shares its bytes: the blobs are larger than the file", name);
    if (r->at.failed) return nothing;
    *size = n, r->named += n;
    return n ? (const void *)(r->blobs + at) : nothing; /* a file may have no blobs at all */
}

/* A few bytes may say that they are many. One frame, as it was written: any number of empty ones expand to nothing, one by one. */
static char *expand(Reader *r, const void *z, size_t size, size_t most, const char *name) {
    unsigned long long n = ZSTD_getFrameContentSize(z, size);
    if (n == ZSTD_CONTENTSIZE_UNKNOWN || n == ZSTD_CONTENTSIZE_ERROR || ZSTD_findFrameCompressedSize(z, size) != size)
        return FAULT(r, "%s cannot be expanded", name), NULL;
    if (n > most) return FAULT(r, "%s expands to %llu bytes, there may be %zu", name, n, most), NULL;
    char *text = malloc(n + 1);
    size_t got = text ? ZSTD_decompress(text, n, z, size) : 0;
    if (!text || ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation) out_of_memory(n, "an expanded text");
    if (ZSTD_isError(got) || got != n || memchr(text, 0, n))
        return free(text), FAULT(r, "%s cannot be expanded", name), NULL;
    text[n] = 0;
    return text;
}

static const char *get_text_blob(Reader *r, const json_t *j, const char *name, size_t most) {
    size_t size, left = MAX_TEXTS - r->texts;
    const void *z = get_blob(r, member(r, j, name), name, &size);
    char *text = r->at.failed ? NULL : expand(r, z, size, most < left ? most : left, name);
    const char *s = text ? arena_strdup(r->arena, text) : "";
    r->texts += strlen(s);
    free(text);
    return s;
}

static void get_config(Reader *r, const json_t *j, ModelConfig *c) {
    if (!j) return;
    GET(r, j, c, config_fields);
    const char *sliding = json_string_value(json_object_get(j, "sliding"));
    size_t n = sliding ? strlen(sliding) : SIZE_MAX;
    if (n > MODEL_MAX_LAYERS || (int64_t)n != c->layers) FAIL(r, "config: \"sliding\" does not list the layers");
    if (strspn(sliding, "01") != n) FAIL(r, "config: \"sliding\" holds other letters than 0 and 1");
    for (size_t i = 0; i < n; i++) c->sliding[i] = sliding[i] == '1';
    c->n_eos = get_count(r, j, "eos", MODEL_MAX_EOS);
    for (int i = 0; i < c->n_eos; i++) c->eos[i] = (int32_t)get_int(r, item(j, "eos", i), "eos", 0, INT32_MAX);
}

static void get_module(Reader *r, const json_t *j, PlanModule *m) {
    GET(r, j, m, module_fields);
    m->source = get_text_blob(r, j, "source", MAX_TEXTS);
    const json_t *code = json_object_get(j, "code");
    if (code) m->code = get_blob(r, code, "code", &m->code_size);
    if (json_object_get(j, "lines")) m->lines = get_text_blob(r, j, "lines", MAX_TEXTS);
}

static void get_launch(Reader *r, const json_t *j, PlanLaunch *l, int n_buckets) {
    GET(r, j, l, launch_fields);
    l->n_args = get_count(r, j, "args", PLAN_MAX_ARGS);
    get_ints(r, j, "args", l->args, l->n_args);
    if (get_count(r, j, "grid", 3 * PLAN_MAX_BUCKETS) != 3 * n_buckets)
        FAIL(r, "a launch of node %d has no grid for each bucket", l->node);
    l->grid = arena_array(r->arena, (size_t)n_buckets, sizeof *l->grid);
    for (int i = 0; i < 3 * n_buckets; i++)
        l->grid[i / 3][i % 3] = (uint32_t)get_int(r, item(j, "grid", i), "grid", 0, UINT32_MAX);
    if (get_count(r, j, "lds", PLAN_MAX_BUCKETS) != n_buckets)
        FAIL(r, "a launch of node %d has no lds for each bucket", l->node);
    l->lds = arena_array(r->arena, (size_t)n_buckets, sizeof *l->lds);
    for (int i = 0; i < n_buckets; i++) l->lds[i] = (uint32_t)get_int(r, item(j, "lds", i), "lds", 0, 1 << 20);
}

static void get_graph(Reader *r, const json_t *j, PlanGraph *g) {
    GET(r, j, g, graph_fields);
    g->n_buckets = get_count(r, j, "buckets", PLAN_MAX_BUCKETS);
    for (int i = 0; i < g->n_buckets; i++) g->buckets[i] = get_int(r, item(j, "buckets", i), "buckets", 1, INT32_MAX);
    g->n_launches = get_count(r, j, "launches", INT32_MAX);
    g->launches = arena_array(r->arena, (size_t)g->n_launches, sizeof *g->launches);
    for (int i = 0; i < g->n_launches && !r->at.failed; i++)
        get_launch(r, item(j, "launches", i), &g->launches[i], g->n_buckets);
    g->n_values = get_count(r, j, "values", INT32_MAX);
    g->values = arena_array(r->arena, (size_t)g->n_values, sizeof *g->values);
    for (int i = 0; i < g->n_values && !r->at.failed; i++) GET(r, item(j, "values", i), &g->values[i], value_fields);
}

static void get_kv(Reader *r, const json_t *j, PlanKv *k) {
    GET(r, j, k, kv_fields);
    k->n_states = get_count(r, j, "states", INT32_MAX);
    k->states = arena_array(r->arena, (size_t)k->n_states, sizeof *k->states);
    get_ints(r, j, "states", k->states, k->n_states);
}

static void get_program(Reader *r, const json_t *j, Plan *p) {
    const char *text = get_text_blob(r, j, "program", MAX_PROGRAM);
    if (r->at.failed) return;
    Err e = {0};
    p->program = program_load(r->arena, text, "program", &e);
    if (!p->program || !program_verify(p->program, &e)) FAULT(r, "%s", e.msg);
}

static void decode(Reader *r, const json_t *j, Plan *p) {
    GET(r, j, p, plan_fields);
    get_config(r, member(r, j, "config"), &p->config);
    get_program(r, j, p);
#define LIST(field, count, most, get_item)                                                                             \
    p->count = get_count(r, j, #field, most);                                                                          \
    p->field = arena_array(r->arena, (size_t)p->count, sizeof *p->field);                                              \
    r->at.list = #field;                                                                                                  \
    for (int i = 0; i < p->count && !r->at.failed; i++) {                                                                 \
        const json_t *at = item(j, #field, i);                                                                         \
        r->at.item = i;                                                                                                   \
        get_item;                                                                                                      \
    }                                                                                                                  \
    r->at.list = NULL
    LIST(bufs, n_bufs, INT32_MAX, GET(r, at, &p->bufs[i], buf_fields));
    LIST(modules, n_modules, PLAN_MAX_MODULES, get_module(r, at, &p->modules[i]));
    LIST(kernels, n_kernels, PLAN_MAX_KERNELS, GET(r, at, &p->kernels[i], kernel_fields));
    LIST(graphs, n_graphs, INT32_MAX, get_graph(r, at, &p->graphs[i]));
    LIST(kv, n_kv, INT32_MAX, get_kv(r, at, &p->kv[i]));
    LIST(rules, n_rules, INT32_MAX, GET(r, at, &p->rules[i], rule_fields));
    if (json_object_get(j, "choices")) { LIST(choices, n_choices, INT32_MAX, GET(r, at, &p->choices[i], choice_fields)); }
#undef LIST
}

/* --- the file ------------------------------------------------------------------------------------------------------- */

static bool map_file(Plan *p, const char *path, Err *e) {
    if (!mapped_open(&p->file, path, e)) return false;
    return p->file.size >= HEADER || err_set(e, "%s: not a plan (%zu bytes; gptoss-compile makes one)", path, p->file.size);
}

bool plan_check(const Plan *p, Err *e) {
    return plan_verify(p, "the plan just made", e);
}

static bool check_header(const Plan *p, const char *path, size_t *meta, Err *e) {
    const char *h = (const char *)p->file.at;
    uint32_t version, zero;
    uint64_t meta_size, total, hash;
    memcpy(&version, h + 8, 4), memcpy(&zero, h + 12, 4);
    memcpy(&meta_size, h + 16, 8), memcpy(&total, h + 24, 8), memcpy(&hash, h + 32, 8);
    if (memcmp(h, magic, 8)) return err_set(e, "%s: not a plan (gptoss-compile makes one)", path);
    if (version != PLAN_VERSION)
        return err_set(e, "%s: written by plan version %u, this is version %d: recompile with gptoss-compile", path,
                       version, PLAN_VERSION);
    if (total != p->file.size)
        return err_set(e, "%s: truncated plan: %zu bytes, its header says %llu", path, p->file.size,
                       (unsigned long long)total);
    if (zero || meta_size > total - HEADER) return err_set(e, "%s: damaged plan: header", path);
    if (hash64(h + HEADER, total - HEADER) != hash)
        return err_set(e, "%s: damaged plan: its checksum does not match its contents", path);
    *meta = meta_size;
    return true;
}

/* So that reading a plan, and finding things in it, takes time in proportion to it. */
static void index_names(Plan *p) {
    p->index = map_new(p->arena);
    for (int i = p->n_bufs; i-- > 0;) /* the first of a name is found */
        if (p->bufs[i].kind != BUF_TEMP) map_put(p->index, p->bufs[i].name, (void *)(intptr_t)(i + 1));
    for (int k = 0; k < p->n_graphs; k++) {
        PlanGraph *g = &p->graphs[k];
        g->index = map_new(p->arena);
        for (int i = g->n_values; i-- > 0;) map_put(g->index, g->values[i].name, &g->values[i]);
    }
}

/* The metadata as JSON; NULL, with the fault, when it is none. */
static json_t *parse_meta(Reader *r, const void *z, size_t size) {
    char *text = expand(r, z, size, MAX_META, "metadata");
    Err why;
    json_t *j = text ? json_parse(text, strlen(text), JSON_REJECT_DUPLICATES, MAX_JSON, &why) : NULL;
    if (text && !j) FAULT(r, "metadata: %s", why.msg);
    free(text);
    return j;
}

static bool plan_read(Plan *p, const char *path, size_t meta_size, Err *e) {
    Reader r = {.arena = p->arena, .at = {.path = path, .e = e}};
    const unsigned char *file = p->file.at;
    size_t blobs = (HEADER + meta_size + ALIGN - 1) / ALIGN * ALIGN;
    if (blobs < p->file.size) r.blobs = file + blobs, r.blobs_size = p->file.size - blobs;
    json_t *j = parse_meta(&r, file + HEADER, meta_size);
    if (!r.at.failed) decode(&r, j, p);
    json_decref(j);
    if (r.at.failed) return false;
    index_names(p);
    return plan_verify(p, path, e);
}

Plan *plan_open(const char *path, Err *e) {
    Arena *a = arena_new();
    Plan *p = arena_alloc(a, sizeof *p);
    p->arena = a;
    size_t meta_size = 0;
    if (map_file(p, path, e) && check_header(p, path, &meta_size, e) && plan_read(p, path, meta_size, e)) return p;
    plan_close(p);
    return NULL;
}

void plan_close(Plan *p) {
    if (!p) return;
    mapped_close(&p->file);
    arena_free(p->arena);
}

int64_t plan_share(const Plan *p, int64_t n, int d, int64_t *count) {
    int64_t first = n * d / p->devices;
    *count = n * (d + 1) / p->devices - first;
    return first;
}

size_t plan_scratch(const Plan *p, int d) {
    return p->arena_of[HOLD_EACH] + (d ? 0 : p->arena_of[HOLD_FIRST] + p->arena_of[HOLD_COMMON]);
}

bool plan_holds(const PlanBuf *b, int d) { return !d || b->hold == HOLD_EACH; }

int plan_graph(const Plan *p, const char *name) {
    for (int i = 0; i < p->n_graphs; i++)
        if (!strcmp(p->graphs[i].name, name)) return i;
    return -1;
}

int plan_buf(const Plan *p, const char *name) {
    if (p->index) return (int)(intptr_t)map_get(p->index, name) - 1;
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind != BUF_TEMP && !strcmp(p->bufs[i].name, name)) return i;
    return -1;
}

int plan_launches(const PlanGraph *g, int kernel, int bucket) {
    int n = 0;
    for (int b = 0; bucket < 0 && b < g->n_buckets; b++) {
        int k = plan_launches(g, kernel, b);
        if (k > n) n = k;
    }
    for (int i = 0; bucket >= 0 && i < g->n_launches; i++) {
        const uint32_t *d = g->launches[i].grid[bucket];
        n += d[0] && d[1] && d[2] && (kernel < 0 || g->launches[i].kernel == kernel);
    }
    return n;
}

/* In each bucket, and of those the most. */
static void count_uses(const PlanGraph *g, int n_kernels, int *in_bucket, int *uses) {
    int *most = in_bucket + n_kernels;
    memset(most, 0, (size_t)n_kernels * sizeof *most);
    for (int b = 0; b < g->n_buckets; b++) {
        memset(in_bucket, 0, (size_t)n_kernels * sizeof *in_bucket);
        for (int i = 0; i < g->n_launches; i++) {
            const uint32_t *d = g->launches[i].grid[b];
            if (d[0] && d[1] && d[2]) in_bucket[g->launches[i].kernel]++;
        }
        for (int k = 0; k < n_kernels; k++)
            if (in_bucket[k] > most[k]) most[k] = in_bucket[k];
    }
    for (int k = 0; k < n_kernels; k++) uses[k] += most[k];
}

int *plan_uses(const Plan *p, Arena *a) {
    int *uses = arena_array(a, (size_t)p->n_kernels + 1, sizeof *uses), *room = arena_array(a, 2 * (size_t)p->n_kernels + 1, sizeof *room);
    for (int i = 0; i < p->n_graphs; i++) count_uses(&p->graphs[i], p->n_kernels, room, uses);
    return uses;
}

size_t plan_bytes(const Plan *p, BufKind kind) {
    size_t n = 0;
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == kind) n += p->bufs[i].size;
    return n;
}

size_t plan_page_bytes(const Plan *p) {
    size_t n = 0;
    for (int i = 0; i < p->n_kv; i++)
        for (int k = 0; k < p->kv[i].n_states; k++) n += p->bufs[p->kv[i].states[k]].size;
    return n;
}

const char *plan_own_text(const Plan *p, const PlanModule *m) {
    Map symbols = {.arena = arena_new()};
    const char *first = NULL;
    for (int k = 0; k < p->n_kernels; k++)
        if (&p->modules[p->kernels[k].module] == m) map_put(&symbols, p->kernels[k].symbol, (void *)&p->kernels[k]);
    for (const char *at = m->source; (at = strstr(at, "\n#line 1 \"")) && !first; at++) {
        char name[PLAN_MAX_SYMBOL + 1];
        const char *begin = at + strlen("\n#line 1 \"");
        size_t n = strcspn(begin, "\"\n");
        if (n > PLAN_MAX_SYMBOL) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, begin);
        if (map_get(&symbols, name)) first = at + 1;
    }
    arena_free(symbols.arena);
    return first ? first : m->source;
}

int plan_launch(const PlanGraph *g, int node) {
    int lo = 0, hi = g->n_launches;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (g->launches[mid].node < node) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

double plan_tolerance(const Plan *p, const PlanGraph *g, int node, int64_t rows) {
    double most = -1;
    int bucket = 0;
    while (bucket < g->n_buckets - 1 && g->buckets[bucket] < rows) bucket++;
    for (int l = plan_launch(g, node); l < g->n_launches && g->launches[l].node == node; l++) {
        const PlanLaunch *k = &g->launches[l];
        if (k->grid[bucket][0] && p->kernels[k->kernel].nmse > most)
            most = p->kernels[k->kernel].nmse;
    }
    return most;
}

int plan_value(const PlanGraph *g, const char *name) {
    const struct PlanValue *v = g->index ? map_get(g->index, name) : NULL;
    if (g->index) return v ? v->buf : -1;
    for (int i = 0; i < g->n_values; i++)
        if (!strcmp(g->values[i].name, name)) return g->values[i].buf;
    return -1;
}
