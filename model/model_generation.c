/* model_generation.c - generation_config.json: how a model's makers generate with it. What is implemented is read; a key that
 * would change the text and is not, is listed. Add one: a line of model_generation, or of `others`. */
#include "model_internal.h"

#include <unistd.h>

/* What has no effect here: null, false, nothing, and for numbers `neutral`. */
typedef struct Other Other;
struct Other {
    const char *key;
    double neutral;
};
static const Other others[] = {
    {"repetition_penalty", 1},
    {"encoder_repetition_penalty", 1},
    {"presence_penalty", 0},
    {"frequency_penalty", 0},
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"max_length", 0},
    {"max_time", 0},
    {"num_beams", 1},
    {"num_beam_groups", 1},
    {"diversity_penalty", 0},
    {"num_return_sequences", 1},
    {"penalty_alpha", 0},
    {"dola_layers", 0},
    {"typical_p", 1},
    {"top_h", 0},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"guidance_scale", 1},
    {"bad_words_ids", 0},
    {"sequence_bias", 0},
    {"begin_suppress_tokens", -1},
    {"forced_bos_token_id", -1},
    {"forced_eos_token_id", -1},
    {"force_words_ids", 0},
    {"constraints", 0},
    {"exponential_decay_length_penalty", 0},
    {"watermarking_config", 0},
    {"token_healing", 0},
};

static bool is_neutral(const json_t *v, double neutral) {
    if (json_is_number(v)) return json_number_value(v) == neutral;
    if (json_is_array(v)) return !json_array_size(v);
    if (json_is_object(v)) return !json_object_size(v);
    return !json_is_true(v) && !json_string_length(v);
}

static const char *list_ignored(Model *m, const json_t *root) {
    Text t = {0};
    for (size_t i = 0; i < LEN(others); i++)
        if (!is_neutral(json_object_get(root, others[i].key), others[i].neutral))
            text_add(&t, "%s%s", t.n ? ", " : "", others[i].key);
    const char *list = t.n ? arena_strdup(m->arena, t.at) : NULL;
    text_free(&t);
    return list;
}

/* One string or a list of them. */
static bool read_stops(Model *m, const json_t *root, const char *path, ModelGeneration *g, Err *e) {
    const json_t *v = config_get(root, "stop_strings");
    size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;
    const char **stops = arena_array(m->arena, n + 1, sizeof *stops);
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        if (!s || !*s)
            return err_set(e, "%s: stop_strings: expected a text, or a list of texts, that are not empty", path);
        stops[i] = arena_strdup(m->arena, s);
    }
    if (n) g->stops = stops;
    return true;
}

static bool read_suppressed(Model *m, const json_t *root, const char *path, ModelGeneration *g, Err *e) {
    const json_t *v = config_get(root, "suppress_tokens");
    size_t n = json_array_size(v);
    int32_t *ids = arena_array(m->arena, n + 1, sizeof *ids);
    if (v && !json_is_array(v)) return err_set(e, "%s: suppress_tokens: expected a list of token ids", path);
    for (size_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_array_get(v, i));
        if (!json_is_integer(json_array_get(v, i)) || id < 0)
            return err_set(e, "%s: suppress_tokens[%zu]: expected a token id", path, i);
        if (id < m->config.vocab) ids[g->n_suppressed++] = (int32_t)id; /* none that is not there can come */
    }
    g->suppressed = ids;
    return true;
}

static bool read_all(Model *m, const json_t *root, const char *path, ModelGeneration *g, Err *e) {
    double top_k = 0, max_new = 0;
    if (!config_number(root, path, "temperature", 0, 1e6, &g->temperature, e) ||
        !config_number(root, path, "top_p", 0, 1, &g->top_p, e) ||
        !config_number(root, path, "top_k", 0, INT32_MAX, &top_k, e) ||
        !config_number(root, path, "min_p", 0, 1, &g->min_p, e) ||
        !config_number(root, path, "max_new_tokens", 1, INT32_MAX, &max_new, e))
        return false;
    if (json_is_false(json_object_get(root, "do_sample"))) g->temperature = 0;
    g->top_k = (int32_t)top_k, g->max_new = (int64_t)max_new;
    g->ignored = list_ignored(m, root);
    return read_stops(m, root, path, g, e) && read_suppressed(m, root, path, g, e);
}

bool model_generation(Model *m, ModelGeneration *g, Err *e) {
    const char *path = arena_printf(m->arena, "%s/generation_config.json", m->path);
    *g = (ModelGeneration){.temperature = 1, .top_p = 1};
    if (access(path, F_OK)) return true;
    json_t *root = config_load(path, e);
    bool ok = root && read_all(m, root, path, g, e);
    json_decref(root);
    return ok;
}
