/* model_hf.c - a Hugging Face folder: config.json, model.safetensors or an index and its shards, and
 * generation_config.json. The table says where each canonical tensor is. */
#include "model_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* clang-format off */
const Layout layout_huggingface = {
    "huggingface", "model.layers.%d.", "_blocks", "_scales", {
        [C_EMBED]     = {{{"model.embed_tokens.weight", NULL}}},
        [C_UNEMBED]   = {{{"lm_head.weight", NULL}}},
        [C_NORM]      = {{{"model.norm.weight", NULL}}},
        [C_ATTN_NORM] = {{{"input_layernorm.weight", NULL}}},
        [C_QKV_W]     = {{{"self_attn.q_proj.weight", "QH"}, {"self_attn.k_proj.weight", "KH"},
                          {"self_attn.v_proj.weight", "KH"}}},
        [C_QKV_B]     = {{{"self_attn.q_proj.bias", "Q"}, {"self_attn.k_proj.bias", "K"},
                          {"self_attn.v_proj.bias", "K"}}},
        [C_SINKS]     = {{{"self_attn.sinks", NULL}}},
        [C_O_W]       = {{{"self_attn.o_proj.weight", NULL}}},
        [C_O_B]       = {{{"self_attn.o_proj.bias", NULL}}},
        [C_MLP_NORM]  = {{{"post_attention_layernorm.weight", NULL}}},
        [C_ROUTER_W]  = {{{"mlp.router.weight", NULL}}},
        [C_ROUTER_B]  = {{{"mlp.router.bias", NULL}}},
        [C_MLP1_W]    = {{{"mlp.experts.gate_up_proj", "EHG"}}},
        [C_MLP1_B]    = {{{"mlp.experts.gate_up_proj_bias", NULL}}},
        [C_MLP2_W]    = {{{"mlp.experts.down_proj", "EIH"}}},
        [C_MLP2_B]    = {{{"mlp.experts.down_proj_bias", NULL}}},
    }};
/* clang-format on */

static SafeTensors *find_open(Model *m, const char *path) {
    for (size_t i = 0; i < m->files.n; i++)
        if (!strcmp(m->files.at[i].path, path)) return &m->files.at[i];
    return NULL;
}

static bool add_indexed(Model *m, const char *index, const char *name, const json_t *shard, Err *e) {
    const char *file = json_string_value(shard);
    if (!file || !*file || strchr(file, '/') || !strcmp(file, ".."))
        return err_set(e, "%s: tensor %.80s: its file is not a plain file name", index, name);
    const char *path = arena_printf(m->arena, "%s/%s", m->path, file);
    SafeTensors *s = find_open(m, path);
    if (!s && !model_add_file(m, path, &s, e)) return false;
    const FileTensor *t = safetensors_find(s, name);
    if (!t) return err_set(e, "%s: tensor %.80s is not in %.80s", index, name, file);
    model_add_tensor(m, t);
    return true;
}

static bool open_shards(Model *m, const char *index, Err *e) {
    json_t *root = config_load(index, e), *map = json_object_get(root, "weight_map"), *shard;
    const char *name;
    bool ok = root != NULL;
    if (ok && !json_is_object(map)) ok = err_set(e, "%s: no weight_map", index);
    if (ok) json_object_foreach(map, name, shard) if (!(ok = add_indexed(m, index, name, shard, e))) break;
    json_decref(root);
    return ok;
}

/* So is a link that leads nowhere (a download that was not finished), and what cannot be looked at: opening it says what is wrong. */
static bool is_there(const char *path) {
    struct stat st;
    return !lstat(path, &st) || (errno != ENOENT && errno != ENOTDIR);
}

static bool open_weights(Model *m, Err *e) {
    const char *single = arena_printf(m->arena, "%s/model.safetensors", m->path);
    const char *index = arena_printf(m->arena, "%s/model.safetensors.index.json", m->path);
    SafeTensors *s;
    if (!is_there(single)) {
        if (!is_there(index))
            return err_set(e, "%s: neither model.safetensors nor model.safetensors.index.json", m->path);
        return open_shards(m, index, e);
    }
    if (!model_add_file(m, single, &s, e)) return false;
    for (size_t i = 0; i < s->n; i++) model_add_tensor(m, &s->at[i]);
    return true;
}

static bool read_eos(Model *m, const json_t *config, const char *config_path, Err *e) {
    const char *path = arena_printf(m->arena, "%s/generation_config.json", m->path);
    if (is_there(path)) {
        json_t *root = config_load(path, e);
        bool ok = root && config_eos(root, path, &m->config, e);
        json_decref(root);
        if (!ok) return false;
    }
    if (!m->config.n_eos && !config_eos(config, config_path, &m->config, e)) return false;
    config_eos_default(&m->config);
    return true;
}

bool model_hf_open(Model *m, json_t *config, const char *config_path, Err *e) {
    m->layout = &layout_huggingface;
    return config_bool(config, config_path, "attention_bias", &m->attention_bias, e) &&
           config_bool(config, config_path, "tie_word_embeddings", &m->tied, e) && config_read(config, config_path, CONFIG_HF, &m->config, e) && read_eos(m, config, config_path, e) &&
           open_weights(m, e);
}
