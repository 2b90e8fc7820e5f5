/* model_internal.h - what model*.c share: the open model, the tables that map canonical names to file tensors, the
 * reader of configurations. Add a layout: a Layout in its own model_*.c, and a line in model.c's `guess`. */
#ifndef GPTOSS_MODEL_INTERNAL_H
#define GPTOSS_MODEL_INTERNAL_H

#include "model.h"
#include "safetensors.h"

#include <jansson.h>

/* Canonical tensors: X(enum, name, dims, in each layer). A dimension is a letter, see model_dim. Order: the order that
 * model_check follows. */
#define CANON(X)                                                                                                       \
    X(EMBED, "embed", "VH", false)                                                                                     \
    X(UNEMBED, "unembed", "VH", false)                                                                                 \
    X(NORM, "norm", "H", false)                                                                                        \
    X(ATTN_NORM, "attn.norm", "H", true)                                                                               \
    X(QKV_W, "attn.qkv.w", "RH", true)                                                                                 \
    X(QKV_B, "attn.qkv.b", "R", true)                                                                                  \
    X(SINKS, "attn.sinks", "S", true)                                                                                  \
    X(O_W, "attn.o.w", "HQ", true)                                                                                     \
    X(O_B, "attn.o.b", "H", true)                                                                                      \
    X(MLP_NORM, "mlp.norm", "H", true)                                                                                 \
    X(ROUTER_W, "mlp.router.w", "EH", true)                                                                            \
    X(ROUTER_B, "mlp.router.b", "E", true)                                                                             \
    X(MLP1_W, "mlp.mlp1.w", "EGH", true)                                                                               \
    X(MLP1_B, "mlp.mlp1.b", "EG", true)                                                                                \
    X(MLP2_W, "mlp.mlp2.w", "EHI", true)                                                                               \
    X(MLP2_B, "mlp.mlp2.b", "EH", true)

typedef enum Canon {
#define X(e, name, dims, layer) C_##e,
    CANON(X)
#undef X
        C_COUNT
} Canon;

typedef struct CanonInfo CanonInfo;
struct CanonInfo {
    const char *name, *dims;
    bool layer;
};
extern const CanonInfo canon_table[C_COUNT];

/* V vocab, H hidden, I intermediate, G 2I (gate and up), E experts, S heads, Q heads * head_dim, K kv_heads * head_dim,
 * R Q + 2K, L layers. */
int64_t model_dim(const ModelConfig *c, char letter);

/* How a layout stores a canonical tensor: up to three file tensors, concatenated along the outermost dimension. The
 * dims tell the rest: equal to the canonical ones: as it is; an L in front: this layer's slice of a stack; the last two
 * swapped: transposed. NULL dims: the canonical ones. */
typedef struct Row Row;
struct Row {
    struct {
        const char *name, *dims;
    } part[3];
};

typedef struct Layout Layout;
struct Layout {
    const char *name;
    const char *prefix;          /* printf format of the layer number, before the names of a layer's tensors; or NULL */
    const char *blocks, *scales; /* suffixes of the pair that replaces an expert weight in MXFP4; NULL: never */
    Row row[C_COUNT];
};
extern const Layout layout_huggingface, layout_openai, layout_bin;

enum { BIN_HEADER = 60 };
extern const Canon bin_order[C_COUNT]; /* the order of a .bin's tensors */

struct Model {
    Arena *arena;
    const Layout *layout;
    const char *path;
    ModelConfig config;
    bool attention_bias; /* false: qkv and o have none, whatever the file holds: zeros */
    bool tied;              /* unembed is embed */
    struct {
        SafeTensors *at;
        size_t n, cap;
    } files;
    MappedFile bin;
    const FileTensor **index; /* every tensor, sorted by name */
    size_t n_index, cap_index;
};

void model_add_tensor(Model *m, const FileTensor *t);
bool model_add_file(Model *m, const char *path, SafeTensors **s,
                    Err *e); /* opens and keeps it; *s until the next add */

/* Each opens its layout: fills config, files and the index. model_hf_open and model_openai_open have config.json. */
bool model_bin_open(Model *m, bool swap_embeddings, Err *e);
bool model_hf_open(Model *m, json_t *config, const char *config_path, Err *e);
bool model_openai_open(Model *m, json_t *config, const char *config_path, Err *e);

/* --- configurations (model_config.c) --- */

typedef enum ConfigKind { CONFIG_HF, CONFIG_OPENAI, CONFIG_BIN } ConfigKind;

enum { CONFIG_INTS = 12 }; /* the first 11 are a .bin's first 11 fields, in order */
typedef struct ConfigInt ConfigInt;
struct ConfigInt {
    const char *key[3]; /* by ConfigKind; NULL: not there */
    size_t at;          /* offsetof in ModelConfig */
    int64_t lo, hi, step;
};
extern const ConfigInt config_ints[CONFIG_INTS];

json_t *config_load(const char *path, Err *e); /* a JSON object; json_decref it */
/* HF (or openai) when config.json says so; an architecture other than gpt-oss is an error. */
bool config_kind(const json_t *root, const char *path, ConfigKind *kind, Err *e);
/* Reads and checks everything but eos of generation_config.json and the dtypes. Errors name path and key. */
bool config_read(const json_t *root, const char *path, ConfigKind kind, ModelConfig *c, Err *e);
bool config_eos(const json_t *root, const char *path, ModelConfig *c, Err *e); /* eos_token_id, if it has one */
void config_eos_default(ModelConfig *c);
const json_t *config_get(const json_t *root, const char *key); /* NULL: missing or null */
bool config_number(const json_t *root, const char *path, const char *key, double lo, double hi, double *v, Err *e);
bool config_bool(const json_t *root, const char *path, const char *key, bool *v, Err *e); /* missing or null: as it is */
/* The ranges that the engine supports, and how the fields agree. */
bool config_check(const ModelConfig *c, const char *path, ConfigKind kind, Err *e);

#endif
