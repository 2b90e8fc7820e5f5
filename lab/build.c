/* build.c - the two plans, without and with what is tried, and what became of the rules. See lab.h. */
#include "lab.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const double BUILD_SECONDS = 1800;
static const size_t SMALL_MODEL = 512u << 20; /* bytes of weights that are made up without asking */

/* --- command lines ------------------------------------------------------------------------------------------------------- */

static bool is_file(const char *rule) {
    size_t n = strlen(rule);
    return !access(rule, R_OK) || (n > 4 && !strcmp(rule + n - 4, ".lua"));
}

void build_args(Lab *lab, Args *to, const char *graph, const char *output) {
    const LabOptions *o = lab->o;
    args_add(lab->a, to, "gptoss-compile");
    args_add(lab->a, to, graph);
    args_pair(lab->a, to, "--report", "json");
    args_add(lab->a, to, "--explain");
    args_pair(lab->a, to, "--arch", o->arch);
    args_pair(lab->a, to, "--output", output);
    args_pair(lab->a, to, "--precision", o->precision);
    args_pair(lab->a, to, "--model", o->model);
    if (o->kv16) args_add(lab->a, to, "--kv16");
    if (o->kv32) args_add(lab->a, to, "--kv32");
    if (o->max_batch) args_int(lab->a, to, "--max-batch", o->max_batch);
    if (o->max_tokens) args_int(lab->a, to, "--max-tokens", o->max_tokens);
    if (o->max_seq) args_int(lab->a, to, "--max-seq", o->max_seq);
    if (o->jobs) args_int(lab->a, to, "--jobs", o->jobs);
    for (size_t i = 0; i < o->no_fusion.n; i++) args_pair(lab->a, to, "--no-fusion", o->no_fusion.at[i]);
}

/* A rule is a file, or the name of one that is shipped: that one is on unless it is left out. Where edited sources or choices are
 * tried, rules and templates are on both sides. */
void build_add_rules(Lab *lab, Args *to, bool with) {
    const LabOptions *o = lab->o;
    bool rules = with || o->override || o->tuning;
    for (size_t i = 0; i < o->rules.n; i++) {
        bool file = is_file(o->rules.at[i]);
        if (rules && file) args_pair(lab->a, to, "--fusions", o->rules.at[i]);
        if (!rules && !file) args_pair(lab->a, to, "--no-fusion", o->rules.at[i]);
    }
    for (size_t i = 0; rules && i < o->templates.n; i++) args_pair(lab->a, to, "--templates", o->templates.at[i]);
    if (with && !o->tune) args_pair(lab->a, to, "--override", o->override), args_pair(lab->a, to, "--tuning", o->tuning);
}

/* --- plans --------------------------------------------------------------------------------------------------------------- */

/* The compiler's warnings, a line each; but for those of rules, which the page tells itself. */
static json_t *warnings(Lab *lab, const Text *err) {
    json_t *list = json_array();
    for (const char *at = err->at; *at; at += strcspn(at, "\n"), at += *at == '\n')
        if (!strncmp(at, "warning: ", 9) && !memmem(at, strcspn(at, "\n"), ": rule ", 7))
            json_array_append_new(list, json_string(arena_strndup(lab->a, at + 9, strcspn(at, "\n") - 9)));
    return list;
}

static bool open_plan(LabPlan *to, const char *path, Err *e) {
    to->path = path;
    return (to->plan = plan_open(path, e)) != NULL;
}

bool build_plan(Lab *lab, const Args *args, const char *path, LabPlan *to, Err *e) {
    Said s;
    if (!child_run(lab->a, args, BUILD_SECONDS, &s, e)) return false;
    to->error = s.ok ? NULL : said_why(lab->a, &s);
    to->report = s.ok ? json_loads(s.out.at, 0, NULL) : NULL;
    if (to->report) json_object_set_new(to->report, "warnings", warnings(lab, &s.err));
    said_free(&s);
    return to->error || open_plan(to, path, e);
}

static json_t *plan_json(const LabPlan *p) {
    char hash[24];
    Arena *a = arena_new();
    Err e;
    size_t n = 0;
    char *bytes = p->plan ? file_read(a, p->path, &n, &e) : NULL;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)(bytes ? hash64(bytes, n) : 0));
    json_t *j = json_pack("{s:s, s:s, s:b, s:s?, s:o*}", "name", p->name, "hash", hash, "built", p->plan != NULL,
                          "error", p->error, "warnings", json_incref(json_object_get(p->report, "warnings")));
    arena_free(a);
    return j;
}

static void note_plans(Lab *lab) {
    json_t *list = json_array();
    for (int i = 0; i < 2; i++) json_array_append_new(list, plan_json(&lab->plan[i]));
    json_object_set_new(lab->page, "plans", list);
    const Plan *p = lab->plan[0].plan;
    json_object_update_new(
        lab->page, json_pack("{s:s, s:s, s:s}", "model", p->model_name, "arch", p->arch, "precision", p->precision));
}

static bool build_from_graph(Lab *lab, Err *e) {
    for (int i = 0; i < 2; i++) {
        Args args = {0};
        LabPlan *p = &lab->plan[i];
        p->name = i ? "with" : "without";
        const char *path = arena_printf(lab->a, "%s/%s.bin", lab->work, p->name);
        build_args(lab, &args, lab->o->first, path);
        build_add_rules(lab, &args, i);
        if (lab->o->keep) args_pair(lab->a, &args, "--emit", arena_printf(lab->a, "%s/%s", lab->work, p->name));
        if (!build_plan(lab, &args, path, p, e)) return false;
        if (!i && p->error) return err_set(e, "without the rule: %s", p->error);
    }
    return true;
}

static bool open_both(Lab *lab, Err *e) {
    LabPlan *a = &lab->plan[0], *b = &lab->plan[1];
    a->name = "A", b->name = "B";
    if (!open_plan(a, lab->o->first, e) || !open_plan(b, lab->o->second, e)) return false;
    if (!strcmp(a->plan->arch, b->plan->arch) && a->plan->config.vocab == b->plan->config.vocab) return true;
    return err_set(e, "the plans cannot be compared: A is of %s for %s, B of %s for %s", a->plan->model_name,
                   a->plan->arch, b->plan->model_name, b->plan->arch);
}

bool build_both(Lab *lab, Err *e) {
    bool ok = lab->o->second ? open_both(lab, e) : build_from_graph(lab, e);
    if (ok) note_plans(lab);
    if (ok && lab->plan[1].error) lab_wrong(lab, "could not be built: %s", lab->plan[1].error);
    return ok;
}

/* --- a model to run them on ---------------------------------------------------------------------------------------------- */

static json_t *config_json(const ModelConfig *c) {
    json_t *layers = json_array();
    for (int64_t i = 0; i < c->layers; i++)
        json_array_append_new(layers, json_string(c->sliding[i] ? "sliding_attention" : "full_attention"));
    json_t *rope = json_pack("{s:s, s:f, s:f, s:f, s:b, s:I}", "rope_type", "yarn", "factor", c->rope_factor,
                             "beta_fast", c->rope_beta_fast, "beta_slow", c->rope_beta_slow, "truncate",
                             c->rope_truncate, "original_max_position_embeddings", (json_int_t)c->original_context);
    json_t *j = json_pack("{s:[s], s:s, s:o, s:o, s:f, s:f, s:f}", "architectures", "GptOssForCausalLM", "model_type",
                          "gpt_oss", "layer_types", layers, "rope_scaling", rope, "rope_theta", c->rope_theta,
                          "swiglu_limit", c->swiglu_limit, "rms_norm_eps", c->rms_eps);
    const struct {
        const char *name;
        int64_t value;
    } row[] = {{"vocab_size", c->vocab},
               {"hidden_size", c->hidden},
               {"intermediate_size", c->intermediate},
               {"num_hidden_layers", c->layers},
               {"num_local_experts", c->experts},
               {"num_experts_per_tok", c->topk},
               {"head_dim", c->head_dim},
               {"num_attention_heads", c->heads},
               {"num_key_value_heads", c->kv_heads},
               {"sliding_window", c->window},
               {"max_position_embeddings", c->max_seq}};
    for (size_t i = 0; i < LEN(row); i++) json_object_set_new(j, row[i].name, json_integer(row[i].value));
    json_object_set_new(j, "quantization_config", json_pack("{s:s}", "quant_method", "mxfp4"));
    return j;
}

static bool has_mxfp4(const Plan *p) {
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_WEIGHT && p->bufs[i].type.dtype == DT_MXFP4) return true;
    return false;
}

static bool make_model(Lab *lab, const Plan *p, Err *e) {
    const char *config = arena_printf(lab->a, "%s/config.json", lab->work),
               *to = arena_printf(lab->a, "%s/model", lab->work);
    json_t *j = config_json(&p->config);
    if (!has_mxfp4(p)) json_object_del(j, "quantization_config");
    bool ok = !json_dump_file(j, config, JSON_INDENT(1)) || err_set(e, "%s: %s", config, strerror(errno));
    json_decref(j);
    Args args = {0};
    Said s;
    args_add(lab->a, &args, "gptoss-mkmodel");
    args_add(lab->a, &args, config);
    args_add(lab->a, &args, to);
    if (!ok || !child_run(lab->a, &args, BUILD_SECONDS, &s, e)) return false;
    if (s.ok) lab->model = to;
    else lab->no_model = arena_printf(lab->a, "no random model could be made: %s", said_why(lab->a, &s));
    said_free(&s);
    return true;
}

bool build_model(Lab *lab, Err *e) {
    const Plan *p = lab->plan[0].plan;
    size_t weights = 0;
    for (int i = 0; i < p->n_bufs; i++) weights += p->bufs[i].kind == BUF_WEIGHT ? p->bufs[i].size : 0;
    if ((lab->model = lab->o->model ? lab->o->model : p->model_path ? p->model_path : getenv("GPTOSS_MODEL")))
        return true;
    json_object_set_new(lab->page, "random_model", json_true());
    if (weights <= SMALL_MODEL) return make_model(lab, p, e);
    lab->no_model = "no model: --model names one";
    return true;
}

/* --- rules --------------------------------------------------------------------------------------------------------------- */

/* Is it what is tried? */
static bool on_trial(const Lab *lab, const char *rule) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(lab->plan[1].report, "rules"), i,
                       r) if (!strcmp(json_text(r, "name"), rule) &&
                              json_is_true(json_object_get(r, "given"))) return true;
    for (i = 0; i < lab->o->rules.n; i++)
        if (!strcmp(lab->o->rules.at[i], rule)) return true;
    return false;
}

typedef struct Overlap Overlap;
struct Overlap {
    char to[128];
    int its, own; /* priorities */
};

/* compiler/fuse.h gives the form. */
static bool is_overlap(const char *why, Overlap *o) {
    return sscanf(why, "overlaps rule %127s (priority %d, this one %d)", o->to, &o->its, &o->own) == 3;
}

/* Adds a place to the row of the list that is of this rule and reason; a new row tells its first place. */
static void add_place(json_t *page, const char *list, const json_t *event, const char *key, const char *value) {
    size_t i;
    json_t *row, *rows = json_object_get(page, list);
    if (!rows) json_object_set_new(page, list, rows = json_array());
    json_array_foreach(rows, i, row) if (!strcmp(json_text(row, "rule"), json_text(event, "rule")) &&
                                         !strcmp(json_text(row, key), value)) {
        json_object_set_new(row, "places", json_integer(json_integer_value(json_object_get(row, "places")) + 1));
        return;
    }
    row = json_pack("{s:s, s:i, s:s, s:s, s:s}", "rule", json_text(event, "rule"), "places", 1, "graph",
                    json_text(event, "graph"), "node", json_text(event, "node"), "why", json_text(event, "why"));
    if (*value) json_object_set_new(row, key, json_string(value));
    json_array_append_new(rows, row);
}

static void note_refusal(const Lab *lab, json_t *page, const json_t *event) {
    Overlap o;
    bool overlap = is_overlap(json_text(event, "why"), &o), tried = on_trial(lab, json_text(event, "rule"));
    if (tried && overlap) add_place(page, "lost", event, "to", o.to);
    else if (tried) add_place(page, "refused", event, "reason", diff_without_layers(lab->a, json_text(event, "why")));
    else if (overlap && on_trial(lab, o.to)) add_place(page, "took", event, "by", o.to);
}

/* fired, missed (the nearest miss), lost (to which), refused; took: what others lost to it. */
void build_rules(Lab *lab) {
    size_t i;
    json_t *event, *page = json_object();
    json_array_foreach(json_object_get(lab->plan[1].report, "explain"), i, event) {
        const char *outcome = json_text(event, "outcome");
        if (!strcmp(outcome, "refused")) note_refusal(lab, page, event);
        else if (on_trial(lab, json_text(event, "rule")))
            add_place(page, strcmp(outcome, "fused") ? "missed" : "fired", event, "", "");
    }
    json_object_set_new(lab->page, "rules", page);
    bool tried = lab->o->rules.n && lab->plan[1].plan;
    if (tried && !json_array_size(json_object_get(page, "fired"))) lab_wrong(lab, "no rule fired");
}
