/* model_config.c - read config.json (Hugging Face's and openai's) and check any layout's configuration.
 *
 * A field that is null counts as missing. Missing optional ones take gpt-oss's values; the integer fields of all three
 * layouts and the ranges that the engine supports are one table, config_ints. */
#include "model_internal.h"

#include "ir/json.h"

#include <limits.h>
#include <math.h>

#define AT(field) offsetof(ModelConfig, field)

const ConfigInt config_ints[CONFIG_INTS] = {
    {{"vocab_size", "vocab_size", "vocab_size"}, AT(vocab), 1, 1 << 27, 1},
    {{"hidden_size", "hidden_size", "hidden_dim"}, AT(hidden), 32, 1 << 18, 32},
    {{"num_local_experts", "num_experts", "n_experts"}, AT(experts), 1, 1 << 14, 1},
    {{"num_experts_per_tok", "experts_per_token", "experts_per_token"}, AT(topk), 1, 8, 1},
    {{"intermediate_size", "intermediate_size", "intermediate_dim"}, AT(intermediate), 32, 1 << 18, 32},
    {{"num_hidden_layers", "num_hidden_layers", "n_layers"}, AT(layers), 1, MODEL_MAX_LAYERS, 1},
    {{"head_dim", "head_dim", "head_dim"}, AT(head_dim), 16, 128, 16},
    {{"num_attention_heads", "num_attention_heads", "n_attn_heads"}, AT(heads), 1, 1 << 14, 1},
    {{"num_key_value_heads", "num_key_value_heads", "n_kv_heads"}, AT(kv_heads), 1, 1 << 14, 1},
    {{"max_position_embeddings", NULL, "seq_len"}, AT(max_seq), 1, INT32_MAX, 1},
    {{NULL, "initial_context_length", "initial_context_length"}, AT(original_context), 1, INT32_MAX, 1},
    {{"sliding_window", "sliding_window", "sliding_window"}, AT(window), 0, INT32_MAX, 1},
};

/* --- JSON --- */

json_t *config_load(const char *path, Err *e) {
    const size_t most = 16 << 20, parsed = 64 << 20; /* real ones have some KB */
    Arena *a = arena_new();
    size_t n;
    char *bytes = file_read_text_most(a, path, most, &n, e);
    json_t *root = bytes ? json_parse(bytes, n, JSON_REJECT_DUPLICATES, parsed, e) : NULL;
    if (bytes && !root) err_wrap(e, "%s", path);
    arena_free(a);
    if (root && !json_is_object(root)) {
        err_set(e, "%s: not a JSON object", path);
        json_decref(root);
        root = NULL;
    }
    return root;
}

/* The value at key, NULL when it is missing or null. */
static const json_t *get(const json_t *o, const char *key) {
    const json_t *v = key && json_is_object(o) ? json_object_get(o, key) : NULL;
    return json_is_null(v) ? NULL : v;
}

static bool integer(const json_t *v, int64_t *out) {
    double d = json_is_real(v) ? json_real_value(v) : 0.5;
    if (json_is_integer(v)) return *out = json_integer_value(v), true;
    if (d != floor(d) || fabs(d) > 9e15) return false; /* 4096.0 will do */
    return *out = (int64_t)d, true;
}

static bool read_number(const json_t *v, const char *path, const char *key, double lo, double hi, double *out, Err *e) {
    if (!v) return true;
    if (!json_is_number(v)) return err_set(e, "%s: %s: expected a number", path, key);
    *out = json_number_value(v);
    if (!(*out >= lo && *out <= hi))
        return err_set(e, "%s: %s is %g; it must lie in %g to %g", path, key, *out, lo, hi);
    return true;
}

static bool read_bool(const json_t *v, const char *path, const char *key, bool *out, Err *e) {
    if (!v) return true;
    if (!json_is_boolean(v)) return err_set(e, "%s: %s: expected true or false", path, key);
    return *out = json_is_true(v), true;
}

/* The engine computes one formula: a config that states another value is refused rather than ignored. */
static bool need_number(const json_t *v, const char *path, const char *key, double want, Err *e) {
    double got = want;
    if (!read_number(v, path, key, -1e30, 1e30, &got, e)) return false;
    if (fabs(got - want) > 1e-4 * fabs(want))
        return err_set(e, "%s: %s is %g; only %g is supported", path, key, got, want);
    return true;
}

/* --- which model --- */

static bool is_gpt_oss(const char *architecture) {
    return !strcmp(architecture, "GptOssForCausalLM") || !strcmp(architecture, "gpt_oss");
}

bool config_kind(const json_t *root, const char *path, ConfigKind *kind, Err *e) {
    const json_t *list = get(root, "architectures"), *type = get(root, "model_type");
    const json_t *arch = json_array_get(list, 0);
    const char *found = json_is_string(arch) ? json_string_value(arch) : json_string_value(type);
    *kind = CONFIG_HF;
    if (found && !is_gpt_oss(found))
        return err_set(e, "%s: the model is %.80s; only gpt-oss (GptOssForCausalLM) is supported", path, found);
    if (found || get(root, "num_local_experts")) return true;
    *kind = CONFIG_OPENAI;
    if (get(root, "num_experts")) return true;
    return err_set(e, "%s: not a gpt-oss configuration: neither architectures nor num_local_experts nor num_experts",
                   path);
}

/* --- fields --- */

static int64_t *field(ModelConfig *c, const ConfigInt *f) { return (int64_t *)((char *)c + f->at); }

static bool check_int(const ConfigInt *f, int64_t v, const char *path, const char *key, Err *e) {
    if (v < f->lo || v > f->hi)
        return err_set(e, "%s: %s is %lld; it must lie in %lld to %lld", path, key, (long long)v, (long long)f->lo,
                       (long long)f->hi);
    if (v % f->step)
        return err_set(e, "%s: %s is %lld; it must be a multiple of %lld", path, key, (long long)v, (long long)f->step);
    return true;
}

/* What is stated is in range from here on; the rest of the configuration computes with it. */
static bool read_ints(const json_t *root, const char *path, ConfigKind kind, ModelConfig *c, Err *e) {
    for (int i = 0; i < CONFIG_INTS; i++) {
        const ConfigInt *f = &config_ints[i];
        const char *key = f->key[kind];
        const json_t *v = get(root, key);
        const char *other = f->at == AT(topk) ? "experts_per_token" : f->at == AT(experts) ? "num_experts" : NULL; /* older, newer files */
        if (!v && (v = get(root, other))) key = other;
        if (v && !integer(v, field(c, f))) return err_set(e, "%s: %s: expected an integer", path, key);
        if (v && !check_int(f, *field(c, f), path, key, e)) return false;
        if (!v && key && *field(c, f) < 0) return err_set(e, "%s: %s is missing", path, key);
    }
    return true;
}

/* The rope settings' object and its name; NULL when there is none. An older file's rope_scaling comes first, unless it is empty. */
static const json_t *rope_object(const json_t *root, const char **name) {
    const json_t *old = get(root, *name = "rope_scaling");
    return old && !(json_is_object(old) && !json_object_size(old)) ? old : get(root, *name = "rope_parameters");
}

/* Stated beside the object, the original context goes before the one inside it. */
static bool read_original(const json_t *root, const json_t *r, const char *path, double otherwise, ModelConfig *c,
                          Err *e) {
    static const char key[] = "original_max_position_embeddings";
    const json_t *beside = get(root, key);
    if (!read_number(beside ? beside : get(r, key), path, key, 1, INT32_MAX, &otherwise, e)) return false;
    return c->original_context = (int64_t)otherwise, true;
}

/* What is not stated: the original positions are all of them, the factor is what all are more than those, and the bounds are
 * rounded unless told not to. */
static bool read_yarn(const json_t *root, const json_t *r, const char *path, ModelConfig *c, Err *e) {
    c->rope_truncate = !json_is_null(json_object_get(r, "truncate"));
    if (!read_original(root, r, path, (double)c->max_seq, c, e)) return false;
    c->rope_factor = (double)c->max_seq / (double)c->original_context;
    if (!read_number(get(r, "factor"), path, "rope factor", 0, 1e6, &c->rope_factor, e) ||
        !read_number(get(r, "beta_fast"), path, "beta_fast", 1e-6, 1e9, &c->rope_beta_fast, e) ||
        !read_number(get(r, "beta_slow"), path, "beta_slow", 1e-6, 1e9, &c->rope_beta_slow, e) ||
        !read_bool(get(r, "truncate"), path, "truncate", &c->rope_truncate, e))
        return false;
    if (c->rope_factor < 1) return err_set(e, "%s: rope factor is %g; YaRN's is 1 or more", path, c->rope_factor);
    double attention = c->rope_factor > 1 ? 0.1 * log(c->rope_factor) + 1 : 1;
    if (get(r, "mscale") && get(r, "mscale_all_dim"))
        return err_set(e, "%s: mscale and mscale_all_dim are not supported", path);
    return need_number(get(r, "attention_factor"), path, "attention_factor", attention, e);
}

/* As transformers 5.17 reads it (GptOssConfig, modeling_rope_utils.py), initial_context_length not at all; the cases are
 * tests/formats/rope_cases.json. Without an object YaRN is as config_read begins with it. */
static bool read_rope(const json_t *root, const char *path, ModelConfig *c, Err *e) {
    const char *name;
    const json_t *r = rope_object(root, &name), *theta = get(r, "rope_theta"), *type = get(r, "rope_type");
    if (r && !json_is_object(r)) return err_set(e, "%s: %s: expected an object", path, name);
    if (!theta) theta = get(root, "rope_theta");
    if (!read_number(theta, path, "rope_theta", 1.0001, 1e12, &c->rope_theta, e)) return false;
    if (get(r, "full_attention") || get(r, "sliding_attention"))
        return err_set(e, "%s: %s: separate settings for each kind of layer are not supported", path, name);
    if (!type) type = get(r, "type");
    if (type && !json_is_string(type)) return err_set(e, "%s: rope_type: expected a string", path);
    if (!need_number(get(r, "partial_rotary_factor"), path, "partial_rotary_factor", 1, e)) return false;
    if (!r) return read_original(root, NULL, path, (double)c->original_context, c, e);
    const char *kind = type ? json_string_value(type) : "default";
    if (!strcmp(kind, "yarn")) return read_yarn(root, r, path, c, e);
    if (strcmp(kind, "default"))
        return err_set(e, "%s: rope_type %.40s is not supported: only yarn and default are", path, kind);
    c->rope_factor = 1;
    return true;
}

static bool read_openai(const json_t *root, const char *path, ModelConfig *c, Err *e) {
    if (!read_number(get(root, "rope_theta"), path, "rope_theta", 1.0001, 1e12, &c->rope_theta, e) ||
        !read_number(get(root, "rope_scaling_factor"), path, "rope_scaling_factor", 0, 1e6, &c->rope_factor, e) ||
        !read_number(get(root, "rope_ntk_alpha"), path, "rope_ntk_alpha", 1e-6, 1e9, &c->rope_beta_slow, e) ||
        !read_number(get(root, "rope_ntk_beta"), path, "rope_ntk_beta", 1e-6, 1e9, &c->rope_beta_fast, e))
        return false;
    /* It states no limit: what YaRN reaches, and no less than any model's. */
    double reach = (double)c->original_context * (c->rope_factor > 1 ? c->rope_factor : 1);
    const json_t *stated = get(root, "max_position_embeddings");
    if (reach > (double)c->max_seq) c->max_seq = reach < INT32_MAX ? (int64_t)reach : INT32_MAX;
    return !stated || integer(stated, &c->max_seq) || err_set(e, "%s: max_position_embeddings: expected an integer", path);
}

static bool read_layer_types(const json_t *root, const char *path, ModelConfig *c, Err *e) {
    const json_t *v = get(root, "layer_types");
    for (int64_t i = 0; i < c->layers; i++) c->sliding[i] = c->window > 0 && i % 2 == 0;
    if (!v) return true;
    if (!json_is_array(v) || json_array_size(v) != (size_t)c->layers)
        return err_set(e, "%s: layer_types: expected a list of num_hidden_layers = %lld names", path,
                       (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        const char *s = json_string_value(json_array_get(v, (size_t)i));
        c->sliding[i] = s && !strcmp(s, "sliding_attention");
        if (!c->sliding[i] && (!s || strcmp(s, "full_attention")))
            return err_set(e, "%s: layer_types[%lld] is %.40s; expected sliding_attention or full_attention", path,
                           (long long)i, s ? s : "not a string");
        if (c->sliding[i] && c->window < 1)
            return err_set(e, "%s: sliding_window is missing, but layer_types[%lld] is sliding_attention", path,
                           (long long)i);
    }
    return true;
}

static bool read_hf(const json_t *root, const char *path, ModelConfig *c, Err *e) {
    const json_t *act = get(root, "hidden_act"), *quant = get(root, "quantization_config");
    const json_t *method = get(quant, "quant_method");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu")))
        return err_set(e, "%s: hidden_act: only silu is supported", path);
    if (quant && (!json_is_string(method) || strcmp(json_string_value(method), "mxfp4")))
        return err_set(e, "%s: quantization_config: quant_method %.40s is not supported, only mxfp4", path,
                       json_is_string(method) ? json_string_value(method) : "(none)");
    return need_number(get(root, "partial_rotary_factor"), path, "partial_rotary_factor", 1, e) &&
           read_number(get(root, "rms_norm_eps"), path, "rms_norm_eps", 0, 1, &c->rms_eps, e) &&
           need_number(get(root, "swiglu_alpha"), path, "swiglu_alpha", 1.702, e) && read_rope(root, path, c, e);
}

bool config_read(const json_t *root, const char *path, ConfigKind kind, ModelConfig *c, Err *e) {
    *c = (ModelConfig){.vocab = -1,
                       .hidden = -1,
                       .experts = -1,
                       .topk = 4,
                       .intermediate = -1,
                       .layers = -1,
                       .head_dim = 64,
                       .heads = -1,
                       .kv_heads = -1,
                       .max_seq = 131072,
                       .window = 128,
                       .original_context = 4096,
                       .rope_theta = 150000,
                       .rope_factor = 32,
                       .rope_beta_fast = 32,
                       .rope_beta_slow = 1,
                       .swiglu_limit = 7,
                       .rms_eps = 1e-5,
                       .dense = DT_BF16,
                       .experts_dtype = DT_BF16};
    const json_t *window = json_object_get(root, "sliding_window");
    if (json_is_null(window)) c->window = 0; /* here null has a meaning: no window */
    if (!read_ints(root, path, kind, c, e)) return false;
    if (!read_number(get(root, "swiglu_limit"), path, "swiglu_limit", 1e-6, 1e30, &c->swiglu_limit, e)) return false;
    if (!(kind == CONFIG_HF ? read_hf : read_openai)(root, path, c, e) || !config_check(c, path, kind, e)) return false;
    if (!read_layer_types(root, path, c, e)) return false;
    bool any = false;
    for (int64_t i = 0; i < c->layers; i++) any |= c->sliding[i];
    if (!any) c->window = 0;
    return true;
}

/* --- eos --- */

static bool add_eos(const json_t *v, const char *path, ModelConfig *c, Err *e) {
    int64_t id;
    if (!integer(v, &id) || id < 0 || id > INT32_MAX)
        return err_set(e, "%s: eos_token_id: expected a token id or a list of them", path);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    if (c->n_eos == MODEL_MAX_EOS) return err_set(e, "%s: eos_token_id: more than %d ids", path, MODEL_MAX_EOS);
    c->eos[c->n_eos++] = (int32_t)id;
    return true;
}

const json_t *config_get(const json_t *root, const char *key) { return get(root, key); }

bool config_number(const json_t *root, const char *path, const char *key, double lo, double hi, double *v, Err *e) {
    return read_number(get(root, key), path, key, lo, hi, v, e);
}

bool config_bool(const json_t *root, const char *path, const char *key, bool *v, Err *e) { return read_bool(get(root, key), path, key, v, e); }

bool config_eos(const json_t *root, const char *path, ModelConfig *c, Err *e) {
    const json_t *v = get(root, "eos_token_id");
    if (!v) return true;
    if (!json_is_array(v)) return add_eos(v, path, c, e);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!add_eos(json_array_get(v, i), path, c, e)) return false;
    return true;
}

void config_eos_default(ModelConfig *c) {
    if (c->n_eos) return;
    c->eos[c->n_eos++] = 200002;
    c->eos[c->n_eos++] = 199999;
}

/* --- checks --- */

bool config_check(const ModelConfig *c, const char *path, ConfigKind kind, Err *e) {
    for (int i = 0; i < CONFIG_INTS; i++) {
        const ConfigInt *f = &config_ints[i];
        const char *key = f->key[kind] ? f->key[kind] : f->at == AT(max_seq) ? "max_seq" : "the original context";
        if (!check_int(f, *field((ModelConfig *)(uintptr_t)c, f), path, key, e)) return false;
    }
    if (c->topk > c->experts)
        return err_set(e, "%s: %s is %lld, more than the %lld experts", path, config_ints[3].key[kind],
                       (long long)c->topk, (long long)c->experts);
    if (c->heads % c->kv_heads)
        return err_set(e, "%s: %s is %lld; it must be a multiple of %s, which is %lld", path, config_ints[7].key[kind],
                       (long long)c->heads, config_ints[8].key[kind], (long long)c->kv_heads);
    return true;
}

bool model_config_check(const ModelConfig *c, const char *where, Err *e) {
    const struct { const char *key; double v, lo, hi; } floats[] = {
        {"rope_theta", c->rope_theta, 1.0001, 1e12}, {"rope factor", c->rope_factor, 0, 4e9}, {"beta_fast", c->rope_beta_fast, 1e-6, 1e9},
        {"beta_slow", c->rope_beta_slow, 1e-6, 1e9}, {"swiglu_limit", c->swiglu_limit, 1e-6, 1e30}, {"rms_norm_eps", c->rms_eps, 0, 1},
    };
    for (size_t i = 0; i < LEN(floats); i++)
        if (!(floats[i].v >= floats[i].lo && floats[i].v <= floats[i].hi))
            return err_set(e, "%s: %s is %g; it must lie in %g to %g", where, floats[i].key, floats[i].v, floats[i].lo, floats[i].hi);
    return config_check(c, where, CONFIG_HF, e);
}
