/* reduce.c - the smallest graph that still fails, saved as a file that --replay loads. See lab.h.
 *
 * A case is a part of one graph as the Lua file gave it (before any pass): some of its nodes; what they read from outside is an
 * input. Such a dump is compiled as it is, and the self-test draws what goes in. It fails when what failed at first does: the
 * compiler with the same words, or a kernel of the same rule or template. Nodes go in halves, then one by one; then, of a kernel, dimensions are
 * halved wherever they stand; each step is kept when it still fails. */
#include "lab.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_TRIALS = 120 };

typedef struct Case Case;
struct Case {
    Lab *lab;
    Program *program; /* as the Lua file gave it */
    const Graph *g;
    bool *keep;                                    /* [nodes] */
    size_t n;                                      /* of those kept */
    const char *error;                             /* the compiler failed with these words; NULL: a kernel is wrong */
    const char *rule, *template_name;              /* of that kernel */
    const char *model;                             /* a checkpoint of any shape: only its configuration is looked at */
    int64_t vocab, max_batch, max_tokens, max_seq; /* of the plan */
    const char *text;                              /* the smallest that fails */
    int64_t rows, schedule;                        /* of the kernel's first failing check in it */
    bool races;                                    /* it failed where races were watched */
    const char *says;
    const char *unbuilt; /* the compiler's words on the last text, when it was to compile */
    int trials;
};

/* --- a part of a graph as text -------------------------------------------------------------------------------------------- */

static bool is_kept(const Case *c, const Value *v) {
    for (size_t i = 0; i < c->g->nodes.n; i++)
        if (v->def == c->g->nodes.at[i]) return c->keep[i];
    return false;
}

static bool seen(const Value *const *list, size_t n, const Value *v) {
    while (n--)
        if (list[n] == v) return true;
    return false;
}

/* What the kept nodes read that none of them computes: a state that is read is one still, if the chain to it is whole. */
static void add_sources(const Case *c, Arena *a, Text *t) {
    const Value **done = arena_array(a, c->g->nodes.n * MAX_IN + 1, sizeof *done);
    size_t n = 0;
    for (size_t pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < c->g->nodes.n; i++)
            for (int k = 0; c->keep[i] && k < c->g->nodes.at[i]->n_in; k++) {
                const Value *v = c->g->nodes.at[i]->in[k];
                if (!v || is_kept(c, v) || seen(done, n, v)) continue;
                bool pool = plan_pool(&v->type) || v->kind == VALUE_STATE;
                size_t turn = v->kind == VALUE_PARAM ? 1 : pool ? 2 : 0;
                if (turn != pass) continue;
                static const char *const words[] = {"input", "param", "state"};
                text_add(t, "%s %s: %s\n", words[turn], v->name, type_str(a, &v->type));
                done[n++] = v;
            }
}

static bool read_outside(const Case *c, const Value *v) {
    bool inside = false;
    for (size_t i = 0; i < c->g->nodes.n; i++)
        for (int k = 0; k < c->g->nodes.at[i]->n_in; k++) {
            if (c->g->nodes.at[i]->in[k] != v) continue;
            if (!c->keep[i]) return true;
            inside = true;
        }
    return !inside || v->is_output;
}

static bool is_pool_state(const Value *v) { return v->def && node_state_in(v->def, v->index) >= 0; }

/* No plan is without one. */
static const char a_step[] = "\ngraph step\ninput in: f32[T,1]\nout: f32[T,1] = scale(in) {by=2.0}\noutput out\nend\n";

static const char *part_text(const Case *c) {
    Arena *a = c->lab->a;
    Text t = {0}, dump = {0};
    size_t node = 0;
    graph_dump(c->g, &dump);
    text_add(&t, "program %s\n\ngraph %s\n", c->program->name, c->g->name);
    add_sources(c, a, &t);
    for (const char *at = dump.at; *at && node < c->g->nodes.n; at += strcspn(at, "\n"), at += *at == '\n') {
        const char *name = c->g->nodes.at[node]->out[0]->name;
        if (strncmp(at, name, strlen(name)) || at[strlen(name)] != ':') continue;
        if (c->keep[node]) text_put(&t, at, strcspn(at, "\n") + 1);
        node++;
    }
    for (size_t i = 0; i < c->g->nodes.n; i++)
        for (int k = 0; c->keep[i] && k < c->g->nodes.at[i]->n_out; k++) {
            const Value *v = c->g->nodes.at[i]->out[k];
            if (read_outside(c, v) && !is_pool_state(v)) text_add(&t, "output %s\n", v->name);
        }
    text_add(&t, "end\n");
    if (strcmp(c->g->name, "step")) text_add(&t, "%s", a_step);
    const char *text = arena_strdup(a, t.at);
    text_free(&t), text_free(&dump);
    return text;
}

/* --- does it still fail? --------------------------------------------------------------------------------------------------- */

/* What is said without its numbers: lines and sizes differ from part to part. */
static const char *words_of(Arena *a, const char *error) {
    const char *from = strstr(error, "error: ");
    char *to = arena_strdup(a, from ? from : error), *at = to;
    for (const char *s = to; *s; s++)
        if (!isdigit((unsigned char)*s)) *at++ = *s;
    *at = 0;
    return to;
}

static bool same_failure(Case *c, const json_t *check) {
    bool own = *c->rule && !strcmp(json_text(check, "rule"), c->rule);
    if (!own && strcmp(json_text(check, "template"), c->template_name)) return false;
    c->rows = json_integer_value(json_object_get(check, "rows"));
    c->says = arena_strdup(c->lab->a, json_text(check, "says"));
    return true;
}

static bool kernel_fails(Case *c, const char *plan, bool *fails, Err *e) {
    const char *how;
    json_t *lines = verdict_checks(c->lab, plan, &(CheckOptions){.schedule = c->schedule, .races = c->races}, &how, e), *line;
    size_t i;
    if (!lines) return false;
    *fails = *how != 0;
    if (*how) c->says = how;
    json_array_foreach(lines, i, line) if (!*fails && json_is_false(json_object_get(line, "ok"))) *fails =
        same_failure(c, line);
    json_decref(lines);
    return true;
}

/* Compiles and runs a case's text. False with e set: nothing could be started. */
static bool try_text(Case *c, const char *text, bool *fails, Err *e) {
    Lab *lab = c->lab;
    const char *graph = arena_printf(lab->a, "%s/case.ir", lab->work),
               *plan = arena_printf(lab->a, "%s/case.bin", lab->work);
    Args args = {0};
    LabPlan p = {0};
    *fails = false;
    c->trials++;
    if (!file_write(graph, text, strlen(text), e)) return false;
    build_args(lab, &args, graph, plan);
    args_pair(lab->a, &args, "--model", c->model);
    args_int(lab->a, &args, "--max-batch", c->max_batch);
    args_int(lab->a, &args, "--max-tokens", c->max_tokens);
    args_int(lab->a, &args, "--max-seq", c->max_seq);
    build_add_rules(lab, &args, true);
    if (!build_plan(lab, &args, plan, &p, e)) return false;
    bool ok = true;
    c->unbuilt = c->error ? NULL : p.error;
    if (p.error && c->error) *fails = !strcmp(words_of(lab->a, p.error), words_of(lab->a, c->error));
    if (!p.error && !c->error) ok = kernel_fails(c, plan, fails, e);
    plan_close(p.plan), json_decref(p.report);
    return ok;
}

static bool try_part(Case *c, bool *fails, Err *e) {
    const char *text = part_text(c);
    if (!try_text(c, text, fails, e)) return false;
    if (*fails) c->text = text;
    return true;
}

/* --- fewer nodes ---------------------------------------------------------------------------------------------------------- */

static size_t count_kept(const Case *c) {
    size_t n = 0;
    for (size_t i = 0; i < c->g->nodes.n; i++) n += c->keep[i];
    return n;
}

/* Without the kept nodes number `from` to `from + many - 1`. */
static bool try_without(Case *c, size_t from, size_t many, bool *fails, Err *e) {
    size_t nodes = c->g->nodes.n, at = 0;
    bool *was = arena_array(c->lab->a, nodes, sizeof *was);
    memcpy(was, c->keep, nodes * sizeof *was);
    for (size_t i = 0; i < nodes; i++)
        if (was[i]) c->keep[i] = at < from || at >= from + many, at++;
    *fails = false;
    if (count_kept(c) && !try_part(c, fails, e)) return false;
    if (!*fails) memcpy(c->keep, was, nodes * sizeof *was);
    return true;
}

static bool fewer_nodes(Case *c, Err *e) {
    bool fails;
    for (size_t many = (count_kept(c) + 1) / 2; many && c->trials < MOST_TRIALS; many /= 2)
        for (size_t from = 0; from < count_kept(c) && c->trials < MOST_TRIALS;) {
            if (!try_without(c, from, many, &fails, e)) return false;
            if (!fails) from += many;
        }
    c->n = count_kept(c);
    return true;
}

/* Where a kernel is wrong, its node is known: it begins with what the node's body computes. */
static void keep_body(Case *c, const Graph *body) {
    for (size_t i = 0; i < c->g->nodes.n; i++)
        for (int k = 0; k < c->g->nodes.at[i]->n_out; k++)
            c->keep[i] = c->keep[i] || graph_find(body, c->g->nodes.at[i]->out[k]->name);
}

/* --- smaller dimensions ---------------------------------------------------------------------------------------------------- */

static bool in_shape(const char *text, const char *at) {
    while (at > text && at[-1] != '\n' && at[-1] != '[' && at[-1] != ']' && at[-1] != '{' && at[-1] != '}') at--;
    return at > text && (at[-1] == '[' || at[-1] == '{');
}

/* Every dimension and attribute that is `old` becomes `new`. */
static const char *replace(Arena *a, const char *text, int64_t old, int64_t new) {
    char word[24];
    Text t = {0};
    size_t n = (size_t)snprintf(word, sizeof word, "%lld", (long long)old);
    for (const char *s = text; *s;) {
        bool whole =
            !strncmp(s, word, n) && !isalnum((unsigned char)s[n]) && s[n] != '.' && s > text && strchr("[,=*+ ", s[-1]);
        if (whole && in_shape(text, s)) text_add(&t, "%lld", (long long)new), s += n;
        else text_put(&t, s++, 1);
    }
    const char *to = arena_strdup(a, t.at);
    text_free(&t);
    return to;
}

/* The largest constant in a shape that is below `below`; 0: there is none. */
static int64_t next_dimension(const char *text, int64_t below) {
    int64_t most = 0;
    for (const char *s = text; *s; s++) {
        if (!isdigit((unsigned char)*s) || (s > text && !strchr("[,", s[-1])) || !in_shape(text, s)) continue;
        int64_t v = strtoll(s, NULL, 10);
        if (v < below && v > most) most = v;
    }
    return most;
}

static bool smaller_dimensions(Case *c, Err *e) {
    for (int64_t d = next_dimension(c->text, INT64_MAX); d > 1 && c->trials < MOST_TRIALS;
         d = next_dimension(c->text, d)) {
        int64_t now = d;
        for (bool fails = true; fails && now % 2 == 0 && c->trials < MOST_TRIALS;) {
            const char *text = replace(c->lab->a, c->text, now, now / 2);
            if (!try_text(c, text, &fails, e)) return false;
            if (fails) c->text = text, now /= 2;
        }
    }
    return true;
}

/* --- the file -------------------------------------------------------------------------------------------------------------- */

static bool add_file(Lab *lab, json_t *list, const char *name, const char *path, Err *e) {
    const char *text = file_read_text(lab->a, path, NULL, e);
    if (text) json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "text", text));
    return text != NULL;
}

static bool add_templates(Lab *lab, json_t *list, Err *e) {
    const Plan *p = lab->plan[1].plan;
    for (size_t i = 0; i < lab->o->templates.n; i++)
        for (int m = 0; p && m < p->n_kernels; m++) {
            const char *name = p->kernels[m].template_name,
                       *path = arena_printf(lab->a, "%s/%s", lab->o->templates.at[i], name);
            bool again = access(path, R_OK) != 0;
            for (size_t k = 0; k < json_array_size(list); k++)
                again |= !strcmp(json_text(json_array_get(list, k), "name"), name);
            if (!again && !add_file(lab, list, name, path, e)) return false;
        }
    return true;
}

static json_t *case_json(Case *c, Err *e) {
    Lab *lab = c->lab;
    const LabOptions *o = lab->o;
    json_t *rules = json_array(), *templates = json_array(), *off = json_array();
    for (size_t i = 0; i < o->rules.n; i++) {
        const char *slash = strrchr(o->rules.at[i], '/');
        if (access(o->rules.at[i], R_OK)) json_array_append_new(rules, json_pack("{s:s}", "name", o->rules.at[i]));
        else if (!add_file(lab, rules, slash ? slash + 1 : o->rules.at[i], o->rules.at[i], e)) return NULL;
    }
    if (!add_templates(lab, templates, e)) return NULL;
    for (size_t i = 0; i < o->no_fusion.n; i++) json_array_append_new(off, json_string(o->no_fusion.at[i]));
    json_t *j =
        json_pack("{s:i, s:s, s:s, s:s?, s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:o, s:o}", "gptoss_lab_case", 1, "graph",
                  c->text, "arch", o->arch, "error", c->error, "precision", o->precision ? o->precision : "fast",
                  "rule", c->rule, "template", c->template_name, "rows", (json_int_t)c->rows, "schedule",
                  (json_int_t)c->schedule, "races", c->races, "rules", rules, "templates", templates, "no_fusion", off);
    json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I}", "vocab", (json_int_t)c->vocab, "max_batch",
                                        (json_int_t)c->max_batch, "max_tokens", (json_int_t)c->max_tokens, "max_seq",
                                        (json_int_t)c->max_seq));
    json_object_set_new(j, "says", json_string(c->says ? c->says : ""));
    return j;
}

static bool save(Case *c, Err *e) {
    Lab *lab = c->lab;
    json_t *j = case_json(c, e);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    if (!text) return false;
    const char *name = arena_printf(lab->a, "lab-case-%08x.json", (unsigned)hash64(text, strlen(text)));
    const char *path = lab->o->keep ? arena_printf(lab->a, "%s/%s", lab->o->keep, name) : name;
    bool ok = file_write(path, text, strlen(text), e);
    free(text);
    json_object_set_new(lab->page, "reduced",
                        json_pack("{s:s, s:I, s:I, s:I, s:i}", "file", path, "nodes", (json_int_t)c->n, "of",
                                  (json_int_t)c->g->nodes.n, "rows", (json_int_t)c->rows, "trials", c->trials));
    return ok;
}

/* --- the whole ------------------------------------------------------------------------------------------------------------- */

/* A checkpoint whose configuration goes with any dump: of the least size, with the model's vocabulary. */
static bool any_model(Lab *lab, int64_t vocab, const char **model, Err *e) {
    Text t = {0};
    const char *config = arena_printf(lab->a, "%s/any.json", lab->work);
    text_add(&t,
             "{\"architectures\": [\"GptOssForCausalLM\"], \"model_type\": \"gpt_oss\", \"vocab_size\": %lld, "
             "\"hidden_size\": 32, "
             "\"intermediate_size\": 32, \"num_hidden_layers\": 1, \"num_local_experts\": 1, \"num_experts_per_tok\": "
             "1, \"head_dim\": 16, "
             "\"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"sliding_window\": 16, "
             "\"max_position_embeddings\": 1024, "
             "\"rope_theta\": 150000, \"swiglu_limit\": 7.0, \"rms_norm_eps\": 1e-5, \"rope_scaling\": {\"rope_type\": "
             "\"yarn\", "
             "\"factor\": 32.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0, \"truncate\": false, "
             "\"original_max_position_embeddings\": 64}}\n",
             (long long)vocab);
    bool ok = file_write(config, t.at, t.n, e);
    text_free(&t);
    Args args = {0};
    Said s;
    *model = arena_printf(lab->a, "%s/any", lab->work);
    args_add(lab->a, &args, "gptoss-mkmodel");
    args_add(lab->a, &args, config);
    args_add(lab->a, &args, *model);
    if (!ok || !child_run(lab->a, &args, lab->o->limit, &s, e)) return false;
    ok = s.ok || err_set(e, "%s", said_why(lab->a, &s));
    said_free(&s);
    return ok;
}

/* The graphs as the Lua file gives them. NULL: it does not. */
static Program *source_program(const Case *c, Err *e) {
    Lab *lab = c->lab;
    Args args = {0};
    Said s;
    Program *p = NULL;
    args_add(lab->a, &args, "gptoss-compile");
    args_add(lab->a, &args, lab->o->first);
    args_pair(lab->a, &args, "--arch", lab->o->arch);
    args_pair(lab->a, &args, "--model", lab->o->model);
    args_pair(lab->a, &args, "--dump", "graph");
    args_pair(lab->a, &args, "--output", arena_printf(lab->a, "%s/dump.bin", lab->work));
    args_int(lab->a, &args, "--max-batch", c->max_batch);
    args_int(lab->a, &args, "--max-tokens", c->max_tokens);
    args_int(lab->a, &args, "--max-seq", c->max_seq);
    if (!child_run(lab->a, &args, lab->o->limit, &s, e)) return NULL;
    p = program_load(lab->a, arena_strdup(lab->a, s.out.at), "the graph's dump", e);
    said_free(&s);
    return p;
}

static const json_t *first_wrong(const Lab *lab) {
    size_t i;
    json_t *k;
    json_array_foreach(json_object_get(json_object_get(lab->page, "alone"), "kernels"), i,
                       k) if (json_is_false(json_object_get(k, "ok")) && json_object_get(k, "rows")) return k;
    return NULL;
}

/* The graph in which it failed, with the nodes to begin with. */
static bool begin(Case *c, const Graph *g, const json_t *wrong) {
    c->g = g;
    c->keep = arena_array(c->lab->a, g->nodes.n + 1, sizeof *c->keep);
    const Graph *fused = wrong ? program_graph(c->lab->plan[1].plan->program, json_text(wrong, "graph")) : NULL;
    const Value *v = fused ? graph_find(fused, json_text(wrong, "node")) : NULL;
    for (size_t i = 0; i < g->nodes.n; i++)
        c->keep[i] = !wrong || (v && v->def && v->def->op != OP_FUSED &&
                                !strcmp(node_name(g->nodes.at[i]), json_text(wrong, "node")));
    if (v && v->def && v->def->op == OP_FUSED) keep_body(c, v->def->body);
    return count_kept(c) > 0;
}

static bool not_reduced(Lab *lab, const char *why) {
    json_object_set_new(lab->page, "reduced", json_pack("{s:s}", "why", why));
    return true;
}

bool reduce_run(Lab *lab, Err *e) {
    const json_t *wrong = first_wrong(lab);
    Case c = {.lab = lab,
              .rule = json_text(wrong, "rule"),
              .template_name = json_text(wrong, "template"),
              .error = lab->plan[1].error};
    bool fails = false;
    const Plan *p = lab->plan[0].plan;
    c.schedule = json_integer_value(json_object_get(wrong, "schedule"));
    c.races = json_is_true(json_object_get(wrong, "races"));
    c.vocab = p->config.vocab, c.max_batch = p->max_batch, c.max_tokens = p->max_tokens, c.max_seq = p->max_seq;
    if (!wrong && !c.error) return true; /* no single kernel is to blame */
    if (!(c.program = source_program(&c, e)) || !any_model(lab, c.vocab, &c.model, e)) return false;
    if (c.error && !try_text(&c, arena_printf(lab->a, "program none\n%s", a_step), &fails, e)) return false;
    if (fails) return not_reduced(lab, "it fails with any graph");
    for (size_t i = 0; i < c.program->graphs.n && !fails; i++) {
        if (wrong && strcmp(c.program->graphs.at[i]->name, json_text(wrong, "graph"))) continue;
        if (begin(&c, c.program->graphs.at[i], wrong) && !try_part(&c, &fails, e)) return false;
    }
    if (!fails) return not_reduced(lab, "a part of the graph alone does not fail");
    if (!fewer_nodes(&c, e) || (wrong && !smaller_dimensions(&c, e)))
        return false; /* what does not build does not for its size */
    return save(&c, e);
}

/* --- replay ---------------------------------------------------------------------------------------------------------------- */

static bool write_files(Lab *lab, const json_t *list, const char *folder, CliList *to, Err *e) {
    size_t i;
    json_t *f;
    json_array_foreach(list, i, f) {
        const char *text = json_string_value(json_object_get(f, "text")), *name = json_text(f, "name");
        const char *path = text ? arena_printf(lab->a, "%s/%s", folder, name) : name;
        if (strchr(name, '/') || !*name) return err_set(e, "a file of the case is called \"%s\"", name);
        if (text && !file_write(path, text, strlen(text), e)) return false;
        if (to && to->n < CLI_LIST_MAX) to->at[to->n++] = path;
    }
    return true;
}

/* A checkpoint is made for the case, and a plan: as large as it says. A case from a real model has its vocabulary, o200k's 201,088. */
static bool check_sizes(const json_t *j, Err *e) {
    static const struct {
        const char *name;
        int64_t most;
    } size[] = {{"vocab", 1 << 19}, {"max_batch", 1 << 16}, {"max_tokens", 1 << 20}, {"max_seq", 1 << 24}};
    for (size_t i = 0; i < LEN(size); i++) {
        int64_t n = json_integer_value(json_object_get(j, size[i].name));
        if (n < 0 || n > size[i].most)
            return err_set(e, "the case's \"%s\" is %lld; it is 0 to %lld", size[i].name, (long long)n, (long long)size[i].most);
    }
    return true;
}

static bool load_case(Lab *lab, LabOptions *o, json_t *j, Case *c, Err *e) {
    const char *error = json_string_value(json_object_get(j, "error"));
    size_t i;
    json_t *name;
    if (!check_sizes(j, e)) return false;
    o->arch = json_text(j, "arch"), o->precision = json_text(j, "precision");
    *c = (Case){.lab = lab, .rule = json_text(j, "rule"), .template_name = json_text(j, "template"), .error = error};
    c->schedule = json_integer_value(json_object_get(j, "schedule"));
    c->races = json_is_true(json_object_get(j, "races"));
    c->text = json_text(j, "graph");
    c->vocab = json_integer_value(json_object_get(j, "vocab")),
    c->max_seq = json_integer_value(json_object_get(j, "max_seq"));
    c->max_batch = json_integer_value(json_object_get(j, "max_batch")),
    c->max_tokens = json_integer_value(json_object_get(j, "max_tokens"));
    json_array_foreach(json_object_get(j, "no_fusion"), i, name) {
        if (!json_is_string(name)) return err_set(e, "no_fusion lists something that is no name");
        if (o->no_fusion.n < CLI_LIST_MAX) o->no_fusion.at[o->no_fusion.n++] = json_string_value(name);
    }
    if (json_array_size(json_object_get(j, "templates"))) o->templates.at[o->templates.n++] = lab->work;
    return write_files(lab, json_object_get(j, "templates"), lab->work, NULL, e) &&
           write_files(lab, json_object_get(j, "rules"), lab->work, &o->rules, e) &&
           any_model(lab, c->vocab, &c->model, e);
}

bool lab_replay(const LabOptions *given, bool *right, Err *e) {
    LabOptions o = *given;
    Lab lab;
    Case c;
    bool fails = false;
    json_t *j = lab_json_file(given->replay, e);
    if (!j) return false;
    bool ok = json_integer_value(json_object_get(j, "gptoss_lab_case")) == 1 ||
              err_set(e, "%s: no case of gptoss-lab", given->replay);
    o.rules.n = o.templates.n = o.no_fusion.n = 0;
    if (ok) {
        ok = lab_open(&lab, &o, e) && load_case(&lab, &o, j, &c, e) && lab_device(&lab, o.arch, e) &&
             try_text(&c, c.text, &fails, e);
        if (ok && c.unbuilt) ok = err_set(e, "%s: it does not build now: %s", given->replay, c.unbuilt);
        if (ok && fails) printf("still fails: %s\n", c.error ? c.error : c.says);
        else if (ok) printf("fails no more (it said: %s)\n", c.error ? c.error : json_text(j, "says"));
        lab_close(&lab);
    }
    json_decref(j);
    *right = !fails;
    return ok;
}
