/* model.h - a model on disk: its configuration and its tensors under canonical names, whatever the layout.
 *
 * Layouts (docs/formats.md): a Hugging Face folder, openai's original folder, a llama2.c-style fp32 .bin. Files are mapped,
 * not read; a tensor that lies in the file as asked for is handed out in place.
 *
 * Canonical names and shapes (row-major; V vocab, H hidden, D head_dim, NH/NKV heads, E experts, I intermediate):
 *   embed [V,H]  unembed [V,H]  norm [H]
 *   layerN.attn.norm [H]   layerN.attn.qkv.w [(NH+2*NKV)*D,H] (rows q, k, v)   layerN.attn.qkv.b [(NH+2*NKV)*D]
 *   layerN.attn.sinks [NH] layerN.attn.o.w [H,NH*D]  layerN.attn.o.b [H]
 *   layerN.mlp.norm [H]    layerN.mlp.router.w [E,H] layerN.mlp.router.b [E]
 *   layerN.mlp.mlp1.w [E,2I,H] (row 2j gate, 2j+1 up)  layerN.mlp.mlp1.b [E,2I]
 *   layerN.mlp.mlp2.w [E,H,I]  layerN.mlp.mlp2.b [E,H]
 * Each layout maps a canonical name to an expression over its file's tensors (concat, transpose, slice, convert): one
 * table per layout in model_*.c. */
#ifndef GPTOSS_MODEL_H
#define GPTOSS_MODEL_H

#include "ir/dtype.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_EOS = 32 };

typedef struct ModelConfig ModelConfig;
struct ModelConfig {
    int64_t vocab, hidden, experts, topk, intermediate, layers, head_dim, heads, kv_heads;
    int64_t max_seq;          /* max_position_embeddings, or seq_len of a .bin */
    int64_t
        original_context; /* YaRN's: initial_context_length, in a Hugging Face folder original_max_position_embeddings */
    double rope_theta, rope_factor, rope_beta_fast, rope_beta_slow;
    bool rope_truncate; /* YaRN bounds rounded; false for gpt-oss */
    int64_t window;     /* of the sliding layers */
    bool sliding[MODEL_MAX_LAYERS]; /* per layer; from layer_types, else even layers */
    double swiglu_limit, rms_eps;
    int32_t eos[MODEL_MAX_EOS]; /* where generation stops; from generation_config.json, config.json, else 200002, 199999 */
    int n_eos;
    DType dense;   /* of linear weights and embeddings in the file: BF16 or F32 */
    DType experts_dtype; /* BF16, F32 or MXFP4 */
};

typedef struct Model Model;

/* swap_embeddings: the .bin holds unembedding before embedding. Verifies every header against the file (docs/formats.md);
 * errors name file, tensor and what was expected. NULL on error. */
Model *model_open(const char *path, bool swap_embeddings, Err *e);
void model_close(Model *m); /* NULL is fine; pointers from model_map end here */
const ModelConfig *model_config(const Model *m);
/* What every checkpoint's configuration is checked for, whoever stated it (a plan carries one): the ranges that the engine and the
 * functions below support. Errors begin with where. */
bool model_config_check(const ModelConfig *c, const char *where, Err *e);
const char *model_layout(const Model *m); /* "huggingface", "openai", "bin" */

/* Looks up and checks every canonical tensor of the config at once: the first missing one, wrong shape or type is the error,
 * and so is a tensor of a layer that none of them is made from: the model computes something that gpt-oss does not. */
bool model_check(const Model *m, Err *e);
/* Tells checkpoints apart without reading them whole: of what the stop ids are, of every tensor's name, type and shape, and of some of
 * its bytes. The same for copies of the files, wherever they lie. */
uint64_t model_fingerprint(const Model *m);
/* Are the files what they were when they were opened? Asked behind what was computed from mapped weights. */
bool model_unchanged(const Model *m, Err *e);
void model_warn(const Model *m); /* on stderr, what is unusual but not wrong */

/* generation_config.json: how its makers generate with it (its eos_token_id is in the config). */
typedef struct ModelGeneration ModelGeneration;
struct ModelGeneration {
    double temperature, top_p, min_p; /* temperature 0: greedy */
    int32_t top_k;
    int64_t max_new;          /* max_new_tokens; 0: not said */
    const char *const *stops; /* stop_strings, NULL behind the last; NULL: none */
    const int32_t *suppressed; /* ids that never come */
    size_t n_suppressed;
    const char *ignored; /* names of settings that would change the text and are not implemented; NULL: none */
};
/* Without the file: temperature 1 and nothing else. What *g points to lives as long as m. */
bool model_generation(Model *m, ModelGeneration *g, Err *e);

typedef struct ModelTensor ModelTensor;
struct ModelTensor {
    DType dtype; /* as stored */
    int rank;
    int64_t shape[4];
};
bool model_tensor(const Model *m, const char *name, ModelTensor *t, Err *e);

/* The shape that the canonical name has in any model of this configuration, and the type that its files should have. */
bool model_canonical(const ModelConfig *c, const char *name, ModelTensor *t, Err *e);

/* Writes the tensor as `want` (layout: dtype_bytes) into dst of exactly `size` bytes. f32 -> bf16 happens only when
 * every value is exact or may_round; MXFP4 only from MXFP4; mxfp4 -> f32/bf16 is exact dequantisation. A scale byte of
 * 255 (NaN) is refused. `first`, `count`: rows of the outermost dimension, so that a large tensor may be read in pieces
 * (for MXFP4 the piece is still blocks, then scales). */
bool model_read(const Model *m, const char *name, DType want, bool may_round, int64_t first, int64_t count, void *dst,
                size_t size, Err *e);
/* The tensor's bytes in the mapped file where it lies there contiguously as `want`, else NULL. */
const void *model_map(const Model *m, const char *name, DType want, size_t *size);

/* inv_freq and the table of docs/numerics.md. */
void model_rope_inv_freq(const ModelConfig *c, float *inv_freq /* [head_dim/2] */, float *concentration);
/* table[pos][i] = {cos, sin} of fp32(pos * inv_freq[i]), both times the concentration: f32 [positions, head_dim/2, 2]. */
void model_rope_table(const ModelConfig *c, int64_t positions, float *table);

#endif
