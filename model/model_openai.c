/* model_openai.c - openai's original folder: config.json and every *.safetensors beside it. */
#include "model_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

/* clang-format off */
const Layout layout_openai = {
    "openai", "block.%d.", ".blocks", ".scales", {
        [C_EMBED]     = {{{"embedding.weight", NULL}}},
        [C_UNEMBED]   = {{{"unembedding.weight", NULL}}},
        [C_NORM]      = {{{"norm.scale", NULL}}},
        [C_ATTN_NORM] = {{{"attn.norm.scale", NULL}}},
        [C_QKV_W]     = {{{"attn.qkv.weight", NULL}}},
        [C_QKV_B]     = {{{"attn.qkv.bias", NULL}}},
        [C_SINKS]     = {{{"attn.sinks", NULL}}},
        [C_O_W]       = {{{"attn.out.weight", NULL}}},
        [C_O_B]       = {{{"attn.out.bias", NULL}}},
        [C_MLP_NORM]  = {{{"mlp.norm.scale", NULL}}},
        [C_ROUTER_W]  = {{{"mlp.gate.weight", NULL}}},
        [C_ROUTER_B]  = {{{"mlp.gate.bias", NULL}}},
        [C_MLP1_W]    = {{{"mlp.mlp1_weight", NULL}}},
        [C_MLP1_B]    = {{{"mlp.mlp1_bias", NULL}}},
        [C_MLP2_W]    = {{{"mlp.mlp2_weight", NULL}}},
        [C_MLP2_B]    = {{{"mlp.mlp2_bias", NULL}}},
    }};
/* clang-format on */

static int is_weights(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return d->d_name[0] != '.' && n > 12 && !strcmp(d->d_name + n - 12, ".safetensors");
}

static bool open_weights(Model *m, Err *e) {
    struct dirent **list;
    int n = scandir(m->path, &list, is_weights, alphasort);
    if (n < 0) return err_set(e, "%s: %s", m->path, strerror(errno));
    bool ok = n > 0 || err_set(e, "%s: no .safetensors file", m->path);
    for (int i = 0; i < n; i++) {
        SafeTensors *s;
        ok = ok && model_add_file(m, arena_printf(m->arena, "%s/%s", m->path, list[i]->d_name), &s, e);
        for (size_t j = 0; ok && j < s->n; j++) model_add_tensor(m, &s->at[j]);
        free(list[i]);
    }
    free(list);
    return ok;
}

bool model_openai_open(Model *m, json_t *config, const char *config_path, Err *e) {
    m->layout = &layout_openai;
    if (!config_read(config, config_path, CONFIG_OPENAI, &m->config, e)) return false;
    config_eos_default(&m->config);
    return open_weights(m, e);
}
