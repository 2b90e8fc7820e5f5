/* model_bin.c - the llama2.c-style fp32 checkpoint: a 60-byte header without magic, then stacked tensors.
 * Since nothing marks the format, every field's range and the file's exact size are checked. */
#include "model_internal.h"

#include <math.h>

/* clang-format off */
const Layout layout_bin = {
    "bin", NULL, NULL, NULL, {
        [C_EMBED]     = {{{"embedding", NULL}}},
        [C_UNEMBED]   = {{{"unembedding", NULL}}},
        [C_NORM]      = {{{"out_norm", NULL}}},
        [C_ATTN_NORM] = {{{"attn_norm", "LH"}}},
        [C_QKV_W]     = {{{"w_qkv", "LRH"}}},
        [C_QKV_B]     = {{{"b_qkv", "LR"}}},
        [C_SINKS]     = {{{"sinks", "LS"}}},
        [C_O_W]       = {{{"w_o", "LHQ"}}},
        [C_O_B]       = {{{"b_o", "LH"}}},
        [C_MLP_NORM]  = {{{"mlp_norm", "LH"}}},
        [C_ROUTER_W]  = {{{"router", "LEH"}}},
        [C_ROUTER_B]  = {{{"b_router", "LE"}}},
        [C_MLP1_W]    = {{{"mlp1", "LEGH"}}},
        [C_MLP1_B]    = {{{"b_mlp1", "LEG"}}},
        [C_MLP2_W]    = {{{"mlp2", "LEHI"}}},
        [C_MLP2_B]    = {{{"b_mlp2", "LEH"}}},
    }};
/* clang-format on */

const Canon bin_order[C_COUNT] = {C_EMBED, C_UNEMBED, C_ATTN_NORM, C_MLP_NORM, C_NORM,   C_QKV_W,  C_QKV_B,  C_O_W,
                                  C_O_B,   C_SINKS,   C_ROUTER_W,  C_ROUTER_B, C_MLP1_W, C_MLP1_B, C_MLP2_W, C_MLP2_B};

static int32_t i32_at(const uint8_t *p) {
    int32_t v;
    return memcpy(&v, p, 4), v;
}

static float f32_at(const uint8_t *p) {
    float v;
    return memcpy(&v, p, 4), v;
}

static bool check_float(const char *path, const char *key, double v, double lo, double hi, Err *e) {
    if (v >= lo && v <= hi) return true;
    return err_set(e, "%s: header: %s is %g; it must lie in %g to %g", path, key, v, lo, hi);
}

static bool read_header(const char *path, const uint8_t *p, ModelConfig *c, Err *e) {
    *c = (ModelConfig){
        .rope_beta_fast = 32, .rope_beta_slow = 1, .rms_eps = 1e-5, .dense = DT_F32, .experts_dtype = DT_F32};
    for (int i = 0; i < CONFIG_INTS; i++) /* the window comes after the two floats */
        *(int64_t *)((char *)c + config_ints[i].at) = i32_at(p + (i < 11 ? 4 * i : 52));
    c->rope_theta = f32_at(p + 44);
    c->rope_factor = f32_at(p + 48);
    c->swiglu_limit = f32_at(p + 56);
    if (!config_check(c, path, CONFIG_BIN, e) || !check_float(path, "rope_theta", c->rope_theta, 1.0001, 1e12, e) ||
        !check_float(path, "rope_scaling_factor", c->rope_factor, 0, 1e6, e) ||
        !check_float(path, "swiglu_limit", c->swiglu_limit, 1e-6, 1e30, e))
        return false;
    for (int64_t i = 0; i < c->layers; i++) c->sliding[i] = c->window > 0 && i % 2 == 0;
    config_eos_default(c);
    return true;
}

/* Lays the tensors out after the header; *end is where the file must end. */
static bool place(Model *m, bool swap_embeddings, size_t *end) {
    *end = BIN_HEADER;
    for (int i = 0; i < C_COUNT; i++) {
        Canon id = swap_embeddings && i < 2 ? bin_order[1 - i] : bin_order[i];
        const char *dims = m->layout->row[id].part[0].dims;
        FileTensor *t = arena_alloc(m->arena, sizeof *t);
        *t = (FileTensor){.name = m->layout->row[id].part[0].name, .file = m->path, .dtype = FT_F32, .size = 4};
        for (const char *d = dims ? dims : canon_table[id].dims; *d; d++) {
            t->shape[t->rank] = model_dim(&m->config, *d);
            if (!size_mul(t->size, (size_t)t->shape[t->rank++], &t->size)) return false;
        }
        size_t begin = *end;
        if (!size_add(begin, t->size, end)) return false;
        t->at = (const uint8_t *)((uintptr_t)m->bin.at + begin); /* the caller checks the end before any use */
        model_add_tensor(m, t);
    }
    return true;
}

bool model_bin_open(Model *m, bool swap_embeddings, Err *e) {
    m->layout = &layout_bin;
    if (!mapped_open(&m->bin, m->path, e)) return false;
    size_t len = strlen(m->path), tail = strlen(".safetensors");
    if (len > tail && !strcmp(m->path + len - tail, ".safetensors")) return err_set(e, "%s: give the folder that it is in", m->path);
    if (m->bin.size < BIN_HEADER)
        return err_set(e, "%s: %zu bytes: too short for a .bin checkpoint's header of 60", m->path, m->bin.size);
    if (!read_header(m->path, m->bin.at, &m->config, e))
        return err_wrap(e, "not a folder, so read as a .bin checkpoint");
    size_t end;
    if (!place(m, swap_embeddings, &end)) return err_set(e, "%s: the header implies a size beyond 64 bits", m->path);
    if (end != m->bin.size)
        return err_set(e, "%s: the header implies %zu bytes, the file has %zu", m->path, end, m->bin.size);
    return true;
}
