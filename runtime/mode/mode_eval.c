/* mode_eval.c - -m eval: how many problems of an evaluation set the model answers exactly, by task; and how likely it finds the
 * answers.
 *
 * The set is a file of JSON objects, one a line: "task", "prompt", "answer", and perhaps "stop", the special token that must
 * end the answer (else any of the model's stop ids). In prompt and answer the text of a special token is that token. An answer is
 * right when the text generated up to the stop id is the answer, byte for byte. Greedy. See tools/tiny/generate.py.
 *
 * The answer's log-probability is that of its tokens and its stop token, as far as the model goes along: up to the first that it
 * does not choose itself, that one included. It is read off the graph "logits", at the rows that are sampled. A problem may record
 * what it was: "logprob". By how much the two part, as the logarithm of their ratio, is the answer's drift; a confident model's is
 * about the change of the margin between its logits. Its mean over the answers has a bound, which a graph or kernel that is a little
 * wrong, and still answers, exceeds. */
#include "ir/json.h"
#include "ir/judge.h"
#include "fleet.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* models/tiny (2026-11-29, 160 problems): fast 0.02 on host; a column of the residual overwritten 0.46, mlp2's bias dropped 0.35, one
 * expert of two 1.8. A single answer of fast drifts by up to 0.7. */
static const double DRIFT = 0.1, DRIFT_OF_ONE = 1, SURE = 1e-9; /* SURE: less than that is said of no answer */
enum { SLACK = 8 }; /* tokens beyond the answer's own that may be generated, for an answer in other tokens */

typedef struct Problem Problem;
struct Problem {
    const char *task, *prompt, *answer, *stop; /* stop: NULL where none is named */
    const int32_t *ids;                        /* the answer's tokens */
    int64_t n_answer;                          /* tokens */
    int64_t n_scored;                          /* of its tokens and the stop token; 0: not scored */
    double score, recorded;                    /* log-probability of those; recorded: NAN without one */
    Text got;                                  /* without the stop id */
    bool right;
};

typedef struct Task Task;
struct Task {
    const char *name;
    int64_t right, problems;
    int64_t scored, compared;    /* tokens: with a log-probability, and of those with a recorded one */
    double score, got, recorded; /* sums: over the scored, over the compared */
    int64_t answers;             /* compared */
    double drift;                /* sum over those */
};

typedef struct Eval Eval;
struct Eval {
    struct {
        Problem *at;
        size_t n, cap;
    } problems;
    struct {
        Task *at;
        size_t n, cap;
    } tasks; /* in order of first appearance */
    Prompts prompts;
    Requests requests;
    float *rows; /* of a slice of logits, for each device */
    Fleet fleet;
};

/* --- the set --------------------------------------------------------------------------------------------------------------- */

static const char *text_of(Session *s, const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? arena_strdup(s->arena, text) : NULL;
}

static bool read_problem(Session *s, const char *line, size_t n, Problem *p, struct Prompt *prompt, Err *e) {
    struct Prompt answer;
    json_t *o = json_parse(line, n, JSON_REJECT_DUPLICATES, JSON_MOST, e);
    if (!o) return false;
    if (!json_is_object(o)) return json_decref(o), err_set(e, "not a JSON object");
    json_t *recorded = json_object_get(o, "logprob");
    bool number = !recorded || json_is_number(recorded);
    *p = (Problem){.task = text_of(s, o, "task"),
                   .prompt = text_of(s, o, "prompt"),
                   .answer = text_of(s, o, "answer"),
                   .stop = text_of(s, o, "stop"),
                   .recorded = recorded ? json_number_value(recorded) : NAN};
    json_decref(o);
    if (!number) return err_set(e, "\"logprob\" is no number");
    if (!p->task || !p->prompt || !p->answer)
        return err_set(e, "a problem has a \"task\", a \"prompt\" and an \"answer\", all strings");
    if (!*p->prompt) return err_set(e, "the prompt is empty");
    if (p->stop && tok_special(s->tok, p->stop) < 0)
        return err_set(e, "\"stop\": the tokenizer has no special token %s", p->stop);
    if (p->stop && tok_special(s->tok, p->stop) >= s->plan->config.vocab) /* its logit is looked up */
        return err_set(e, "\"stop\": %s is token %" PRId32 ", the model's vocabulary has %" PRId64 ": the tokenizer does not fit the model", p->stop,
                       tok_special(s->tok, p->stop), s->plan->config.vocab);
    if (!prompt_encode(s, p->prompt, strlen(p->prompt), true, prompt, e) ||
        !prompt_encode(s, p->answer, strlen(p->answer), true, &answer, e)) return false;
    p->n_answer = (int64_t)answer.n;
    p->ids = answer.ids;
    return true;
}

static bool read_lines(Session *s, const char *path, const char *text, size_t size, Eval *v, Err *e) {
    size_t line = 0, most = 1;
    for (size_t i = 0; i < size; i++) most += text[i] == '\n';
    v->prompts.at = arena_array(s->arena, most, sizeof *v->prompts.at);
    for (const char *at = text, *end = text + size;
         at < end && (s->o->lines < 0 || v->problems.n < (size_t)s->o->lines);) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);
        line++;
        if (n && strspn(at, " \t\r") < n) {
            Problem p;
            if (!read_problem(s, at, n, &p, &v->prompts.at[v->prompts.n], e)) return err_wrap(e, "%s:%zu", path, line);
            PUSH(s->arena, v->problems, p);
            v->prompts.n++;
        }
        at += n + (stop != NULL);
    }
    return v->problems.n || err_set(e, "%s: no problems", path);
}

static bool read_set(Session *s, const char *path, Eval *v, Err *e) {
    Text t = {0};
    bool ok = input_read(path, &t, e) && read_lines(s, path, t.at, t.n, v, e);
    text_free(&t);
    return ok;
}

/* --- judging --------------------------------------------------------------------------------------------------------------- */

static bool is_stop(const Session *s, const Problem *p, int32_t id) {
    const ModelConfig *c = model_config(s->model);
    bool eos = false;
    for (int i = 0; i < c->n_eos; i++) eos |= c->eos[i] == id;
    return eos && (!p->stop || id == tok_special(s->tok, p->stop));
}

static void grade(const Session *s, const Request *r, Problem *p) {
    bool stopped = r->n_out && is_stop(s, p, r->out[r->n_out - 1]);
    text_put(&p->got, "", 0);
    for (int64_t i = 0; i < r->n_out - stopped; i++) {
        size_t n = 0;
        const char *bytes = tok_bytes(s->tok, r->out[i], &n);
        if (bytes) text_put(&p->got, bytes, n);
    }
    p->right = stopped && p->got.n == strlen(p->answer) && !memcmp(p->got.at, p->answer, p->got.n);
}

static void count(Session *s, Eval *v) {
    for (size_t i = 0, t; i < v->problems.n; i++) {
        const Problem *p = &v->problems.at[i];
        for (t = 0; t < v->tasks.n && strcmp(v->tasks.at[t].name, p->task);) t++;
        if (t == v->tasks.n) PUSH(s->arena, v->tasks, ((Task){.name = p->task}));
        Task *of = &v->tasks.at[t];
        of->problems++, of->right += p->right;
        of->scored += p->n_scored, of->score += p->score;
        if (!p->n_scored || isnan(p->recorded)) continue;
        of->compared += p->n_scored, of->got += p->score, of->recorded += p->recorded;
        of->answers++, of->drift += fabs(log(fmax(-p->score, SURE) / fmax(-p->recorded, SURE)));
    }
}

/* --- log-probabilities ------------------------------------------------------------------------------------------------------ */

/* The answer's token that should follow what request r has generated; -1: nothing more is scored. (What a device scored before it
 * failed stays: the tokens come again as they were.) */
static int32_t wanted(const Session *s, const Problem *p, const Request *r) {
    int64_t n = r->n_out;
    if (p->n_scored != n || n > p->n_answer || (n && r->out[n - 1] != p->ids[n - 1])) return -1;
    return n < p->n_answer ? p->ids[n] : p->stop ? tok_special(s->tok, p->stop) : -1;
}

/* n rows of the step's sampled ones, the first `from`. */
static bool score_rows(Session *s, Sched *sched, Eval *v, const SchedStep *t, int64_t from, int64_t n, Err *e) {
    int64_t vocab = s->plan->config.vocab;
    float *rows = v->rows + s->index * exec_max(s->plan, s->logits) * vocab;
    exec_rows(s->exec, t->rows + from, NULL, n);
    if (!exec_graph(s->exec, s->logits, e) ||
        !exec_read(s->exec, s->logits_buf, 0, rows, (size_t)(n * vocab) * sizeof *rows, e))
        return false;
    for (int64_t i = 0; i < n; i++) {
        size_t request = t->row_request[from + i];
        const float *row = rows + i * vocab;
        Problem *p = &v->problems.at[v->requests.of[request]];
        int32_t id = wanted(s, p, &v->requests.at[request]);
        if (id < 0) continue;
        if (judge_not_finite(row, vocab) >= 0) {
            err_set(e, "problem %" PRIu32 ", token %" PRId64 ": a logit is %g", v->requests.at[request].number + 1,
                    v->requests.at[request].n_out + 1, (double)row[judge_not_finite(row, vocab)]);
            return session_name_nonfinite(s, sched, v->requests.at, s->logits, t->rows + from, NULL, n, e);
        }
        p->score += judge_log_probability(row, vocab, id);
        p->n_scored++;
    }
    return true;
}

/* AfterStep: the rows that are about to be sampled go through the head "logits" too, in slices. */
static bool score_step(Session *s, Sched *sched, const SchedStep *t, void *ctx, Err *e) {
    int64_t max = exec_max(s->plan, s->logits);
    for (int64_t from = 0; from < t->n_rows; from += max)
        if (!score_rows(s, sched, ctx, t, from, t->n_rows - from < max ? t->n_rows - from : max, e)) return false;
    return true;
}

static bool run(Session *s, Eval *v, Err *e) {
    Requests r = requests_make(s, &v->prompts, "it counts as wrong");
    if (!requests_left(s, &v->prompts, &r, e)) return false;
    for (size_t k = 0; k < r.n; k++) {
        int64_t enough = v->problems.at[r.of[k]].n_answer + SLACK;
        if (r.at[k].max_new > enough) r.at[k].max_new = enough;
    }
    v->requests = r;
    if (s->logits >= 0)
        v->rows =
            arena_array(s->arena, (size_t)(s->groups * exec_max(s->plan, s->logits) * s->plan->config.vocab), sizeof *v->rows);
    bool ok = fleet_run(&v->fleet, s, &v->requests, &(FleetWork){s->o->mode, s->logits < 0 ? NULL : score_step, NULL, v, false}, e);
    for (size_t k = 0; ok && k < r.n; k++) grade(s, &r.at[k], &v->problems.at[r.of[k]]);
    if (ok) count(s, v);
    return ok;
}

/* --- results --------------------------------------------------------------------------------------------------------------- */

static double percent(int64_t right, int64_t problems) { return problems ? 100 * (double)right / (double)problems : 0; }

static Task total(const Eval *v) {
    Task all = {.name = "all"};
    for (size_t i = 0; i < v->tasks.n; i++) {
        const Task *t = &v->tasks.at[i];
        all.right += t->right, all.problems += t->problems, all.scored += t->scored, all.compared += t->compared;
        all.score += t->score, all.got += t->got, all.recorded += t->recorded;
        all.answers += t->answers, all.drift += t->drift;
    }
    return all;
}

static double mean(double sum, int64_t n) { return n ? sum / (double)n : 0; }

static void print_table(const Session *s, const Eval *v, FILE *to) {
    Task all = total(v);
    const SchedStats st = fleet_stats(&v->fleet);
    fprintf(to, "%-12s %8s %9s %12s %16s %10s %7s\n", "task", "right", "problems", "exact match", "log-probability",
            "recorded", "drift");
    for (size_t i = 0; i <= v->tasks.n; i++) {
        const Task *t = i < v->tasks.n ? &v->tasks.at[i] : &all;
        fprintf(to, "%-12s %8" PRId64 " %9" PRId64 " %11.1f%%", printable(arena_strdup(s->arena, t->name), false), t->right, t->problems,
                percent(t->right, t->problems));
        if (t->scored) fprintf(to, " %16.6f", mean(t->score, t->scored));
        if (t->compared) fprintf(to, " %10.6f %7.3f", mean(t->recorded, t->compared), mean(t->drift, t->answers));
        fputc('\n', to);
    }
    fprintf(stderr, "eval on %s: %zu problems, %" PRId64 " prompt + %" PRId64 " generated tokens, %.2f s\n",
            s->dev->ops->name, v->problems.n, st.prompt_tokens, st.generated, v->fleet.seconds);
    fleet_print(&v->fleet);
}

static double drift_bound(int64_t answers) { return DRIFT + (answers ? DRIFT_OF_ONE / (double)answers : 0); }

static void add_log_probability(json_t *o, const Task *t) {
    if (t->scored) json_object_set_new(o, "log_probability", json_real(mean(t->score, t->scored)));
    if (!t->compared) return;
    json_object_set_new(o, "recorded", json_real(mean(t->recorded, t->compared)));
    json_object_set_new(o, "drift", json_real(mean(t->drift, t->answers)));
    json_object_set_new(o, "drift_bound", json_real(drift_bound(t->answers)));
}

static void print_json(const Session *s, const Eval *v, FILE *to) {
    Task all = total(v);
    const SchedStats st = fleet_stats(&v->fleet);
    json_t *tasks = json_array();
    for (size_t i = 0; i < v->tasks.n; i++) {
        const Task *t = &v->tasks.at[i];
        json_t *o = json_pack("{s:s, s:I, s:I, s:f}", "task", t->name, "right", (json_int_t)t->right, "problems",
                              (json_int_t)t->problems, "exact_match", percent(t->right, t->problems) / 100);
        add_log_probability(o, t);
        json_array_append_new(tasks, o);
    }
    json_t *j =
        json_pack("{s:s, s:s, s:o, s:I, s:I, s:f, s:I, s:I, s:f}", "mode", s->o->mode, "device", s->dev->ops->name,
                  "tasks", tasks, "right", (json_int_t)all.right, "problems", (json_int_t)all.problems, "exact_match",
                  percent(all.right, all.problems) / 100, "prompt_tokens", (json_int_t)st.prompt_tokens,
                  "generated_tokens", (json_int_t)st.generated, "seconds", v->fleet.seconds);
    add_log_probability(j, &all);
    json_dumpf(j, to, JSON_INDENT(2));
    fputc('\n', to);
    json_decref(j);
}

static json_t *valid(const char *text, size_t n) { /* what is not UTF-8 cannot stand in JSON */
    json_t *o = json_stringn(text, n);
    return o ? o : json_string("(not UTF-8)");
}

/* -o: the set's lines again, with "got" and "right". */
static bool write_answers(const Eval *v, const char *path, Err *e) {
    Text t = {0};
    text_put(&t, "", 0);
    for (size_t i = 0; i < v->problems.n; i++) {
        const Problem *p = &v->problems.at[i];
        json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:b}", "task", p->task, "prompt", p->prompt, "answer", p->answer,
                              "got", valid(p->got.at ? p->got.at : "", p->got.n), "right", (int)p->right);
        if (p->n_scored) json_object_set_new(o, "logprob", json_real(p->score));
        char *line = json_dumps(o, JSON_COMPACT);
        text_add(&t, "%s\n", line);
        free(line);
        json_decref(o);
    }
    bool ok = file_write(path, t.at, t.n, e);
    text_free(&t);
    return ok;
}

static bool within_bound(const Eval *v, Err *e) {
    Task all = total(v);
    double drift = mean(all.drift, all.answers), bound = drift_bound(all.answers);
    return drift <= bound ||
           err_set(e,
                   "eval: the answers' log-probabilities drifted from the recorded ones by %.3f, bound %.3f (mean %.6f "
                   "a token, recorded %.6f): this plan does not compute what was recorded",
                   drift, bound, mean(all.got, all.compared), mean(all.recorded, all.compared));
}

bool mode_eval(Session *s, Err *e) {
    Eval v = {0};
    const char *path = s->o->input ? s->o->input : arena_printf(s->arena, "%s/eval.jsonl", s->model_path);
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (s->o->output && !session_output(s, s->o->output, path, e)) return false;
    bool ok = session_tokenizer(s, e) && read_set(s, path, &v, e) && run(s, &v, e);
    if (ok && s->o->output) ok = write_answers(&v, s->o->output, e);
    FILE *to = s->o->output && file_is_stdout(s->o->output) ? stderr : stdout; /* one thing on stdout */
    if (ok && s->o->json) print_json(s, &v, to);
    else if (ok) print_table(s, &v, to);
    if (ok) fleet_profile(&v.fleet);
    ok = ok && within_bound(&v, e) && fleet_whole(&v.fleet, e);
    fleet_close(&v.fleet);
    for (size_t i = 0; i < v.problems.n; i++) text_free(&v.problems.at[i].got);
    return ok;
}
