/* mode_getp.c - -m getp (and getp_cpu): every request of a file, greedily, to a file of ids. Formats: docs/formats.md. */
#include "fleet.h"
#include "ranks.h"

#include <jansson.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

typedef struct Verdict Verdict; /* of -v */
struct Verdict {
    size_t lines, equal_lines, expected_lines, tokens, equal_tokens;
    Text first; /* where the first difference is */
};

static void write_lines(const Prompts *p, const Requests *r, Text *t) {
    for (size_t i = 0, k = 0; i < p->n; i++) {
        if (k < r->n && r->of[k] == i) {
            for (int64_t j = 0; j < r->at[k].n_out; j++) text_add(t, "%s%" PRId32, j ? " " : "", r->at[k].out[j]);
            k++;
        }
        text_put(t, "\n", 1);
    }
}

/* --- --print ---------------------------------------------------------------------------------------------------------------- */

/* Every request's text, stop tokens left out. Ids that the tokenizer lacks have no text. */
static void write_text(const Session *s, const Prompts *p, const Requests *r, Text *t) {
    for (size_t i = 0, k = 0; i < p->n; i++) {
        TokStream stream = {0};
        const Request *q = k < r->n && r->of[k] == i ? &r->at[k++] : NULL;
        text_add(t, "%s--- request %zu: %" PRId64 " tokens\n", i ? "\n" : "", i + 1, q ? q->n_out : 0);
        for (int64_t j = 0; q && j < q->n_out; j++)
            if (j + 1 < q->n_out || !tok_is_special(s->tok, q->out[j])) tok_stream(&stream, s->tok, q->out[j], t);
        tok_stream_end(&stream, t);
        if (t->at[t->n - 1] != '\n') text_put(t, "\n", 1);
    }
}

static bool print_text(const Session *s, const Prompts *p, const Requests *r, Err *e) {
    Text t = {0};
    text_put(&t, "", 0);
    write_text(s, p, r, &t);
    bool ok = (fwrite(t.at, 1, t.n, stdout) == t.n && !fflush(stdout)) || err_set(e, "stdout: %s", strerror(errno));
    text_free(&t);
    return ok;
}

/* --- -v ------------------------------------------------------------------------------------------------------------------ */

/* The next token of a line, "" at its end. */
static const char *next_token(const char **at, size_t *n) {
    while (**at == ' ' || **at == '\t' || **at == '\r') ++*at;
    const char *from = *at;
    while (**at && !strchr(" \t\r\n", **at)) ++*at;
    *n = (size_t)(*at - from);
    return from;
}

static void compare_line(Verdict *v, size_t line, const char *got, const char *want) {
    bool equal = true;
    for (size_t i = 1;; i++) {
        size_t ng, nw;
        const char *g = next_token(&got, &ng), *w = next_token(&want, &nw);
        if (!ng && !nw) break;
        bool same = ng == nw && !memcmp(g, w, ng);
        v->tokens++;
        v->equal_tokens += same;
        equal = equal && same;
        if (!same && !v->first.at)
            text_add(&v->first, "request %zu, token %zu: got %.*s, expected %.*s", line, i, ng ? (int)ng : 3,
                     ng ? g : "end", nw ? (int)nw : 3, nw ? w : "end");
    }
    v->equal_lines += equal;
}

static const char *after_line(const char *s) {
    const char *end = strchr(s, '\n');
    return end ? end + 1 : s + strlen(s);
}

/* want: the expected lines. */
static bool verify(const Session *s, const char *want, const Text *got, Verdict *v, Err *e) {
    const char *g = got->at;
    for (; *g && *want; g = after_line(g), want = after_line(want)) compare_line(v, ++v->lines, g, want);
    v->expected_lines = v->lines;
    for (; *g; g = after_line(g)) v->lines++;
    for (; *want && s->o->lines < 0; want = after_line(want)) v->expected_lines++; /* -t: only the first lines count */
    if (v->lines != v->expected_lines && !v->first.at)
        text_add(&v->first, "%zu lines, expected %zu", v->lines, v->expected_lines);
    fprintf(stderr, "verify: %zu of %zu requests equal, %zu of %zu tokens\n", v->equal_lines, v->lines, v->equal_tokens, v->tokens);
    return !v->first.at || err_set(e, "%s: the output differs: %s", s->o->truth, v->first.at);
}

/* --- --skip-bad ---------------------------------------------------------------------------------------------------------- */

/* Those that were left out, each with its number in the input. */
static bool none_bad(const Requests *r, const char *output, Err *e) {
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) n += r->at[i].bad != NULL;
    if (!n) return true;
    err_set(e, "%zu of %zu requests were left out, as their logits hold a NaN: their lines in %s are empty:", n, r->n, output);
    for (size_t i = 0; i < r->n; i++)
        if (r->at[i].bad) err_add(e, "\n  request %" PRIu32 ": the first value that is not finite is %s", r->at[i].number + 1, r->at[i].bad);
    return false;
}

static json_t *bad_json(const Requests *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++)
        if (r->at[i].bad)
            json_array_append_new(list, json_pack("{s:I, s:s}", "request", (json_int_t)r->at[i].number + 1, "value", r->at[i].bad));
    return list;
}

/* --- summary ------------------------------------------------------------------------------------------------------------- */

typedef struct Summary Summary;
struct Summary {
    size_t requests, skipped;
    Fleet fleet; /* zeros: nothing was run */
    Ranks ranks;
};

static void summary_text(const Session *s, const Summary *m) {
    const SchedStats st = fleet_stats(&m->fleet);
    double t = m->fleet.seconds > 0 ? m->fleet.seconds : 1e-9;
    if (m->ranks.n > 1) fprintf(stderr, "rank %d of %d: ", m->ranks.rank, m->ranks.n);
    fprintf(stderr,
            "%s on %s: %zu requests (%zu skipped), %" PRId64 " prompt + %" PRId64 " generated tokens in %" PRId64
            " steps, %.2f s (load %.2f s): "
            "%.1f generated tok/s, %.1f tok/s in all; at most %" PRId64 " in flight, %" PRId64 " KV pages\n",
            s->o->mode, s->dev->ops->name, m->requests, m->skipped, st.prompt_tokens, st.generated, st.steps, m->fleet.seconds,
            m->fleet.load_seconds, (double)st.generated / t, (double)(st.generated + st.prompt_tokens) / t,
            st.peak_in_flight, st.peak_pages);
    fleet_print(&m->fleet);
}

static void summary_json(const Session *s, const Requests *r, const Summary *m, const Verdict *v, FILE *to) {
    const SchedStats st = fleet_stats(&m->fleet);
    double t = m->fleet.seconds > 0 ? m->fleet.seconds : 1e-9;
    json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "mode", s->o->mode, "device",
                          s->dev->ops->name, "requests", (json_int_t)m->requests, "skipped", (json_int_t)m->skipped,
                          "prompt_tokens", (json_int_t)st.prompt_tokens, "generated_tokens", (json_int_t)st.generated, "steps",
                          (json_int_t)st.steps, "seconds", m->fleet.seconds, "load_seconds", m->fleet.load_seconds,
                          "tail_seconds", fleet_tail(&m->fleet), "cpu_seconds", m->fleet.cpu_seconds, "generated_per_second", (double)st.generated / t, "peak_in_flight", (json_int_t)st.peak_in_flight,
                          "peak_pages", (json_int_t)st.peak_pages);
    if (s->o->truth)
        json_object_set_new(j, "verify",
                            json_pack("{s:I, s:I, s:I, s:I, s:s?}", "requests", (json_int_t)v->lines, "equal_requests",
                                      (json_int_t)v->equal_lines, "tokens", (json_int_t)v->tokens, "equal_tokens",
                                      (json_int_t)v->equal_tokens, "first_difference", v->first.at));
    if (s->skip_bad) json_object_set_new(j, "bad", bad_json(r));
    json_object_set_new(j, "devices", fleet_json(&m->fleet));
    if (m->ranks.n > 1) json_object_set_new(j, "rank", json_integer(m->ranks.rank)), json_object_set_new(j, "ranks", json_integer(m->ranks.n));
    json_dumpf(j, to, JSON_INDENT(2));
    fputc('\n', to);
    json_decref(j);
}

/* This rank's requests, then what the others did. Without Slurm all are this one's. */
static bool run(Session *s, const char *output, const Prompts *p, Requests *r, Summary *m, Err *e) {
    *m = (Summary){.requests = p->n, .skipped = p->n - r->n};
    Ranks *k = &m->ranks;
    if (!ranks_open(k, s, output, p, r, e)) return false;
    if (k->n > 1) m->requests = k->mine.n, m->skipped = 0;
    bool ok = !k->mine.n || fleet_run(&m->fleet, s, &k->mine, &(FleetWork){s->o->mode, NULL, ranks_finished, k, true}, e);
    return ranks_end(k, ok, e);
}

static bool write_results(Session *s, const char *output, const char *truth, const Prompts *p, const Requests *r, Summary *m, Err *e) {
    Text t = {0};
    Verdict v = {0};
    text_put(&t, "", 0);
    write_lines(p, r, &t);
    bool ok = file_write(output, t.at, t.n, e);
    if (ok) ranks_remove(&m->ranks);
    else ranks_kept(&m->ranks, e);
    if (ok && s->o->print) ok = print_text(s, p, r, e);
    summary_text(s, m);
    if (ok && truth) ok = verify(s, truth, &t, &v, e);
    if (s->o->json) summary_json(s, r, m, &v, !file_is_stdout(output) && !s->o->print ? stdout : stderr);
    text_free(&t);
    text_free(&v.first);
    return ok && none_bad(r, output, e);
}

bool mode_getp(Session *s, Err *e) {
    const char *input = s->o->input ? s->o->input : "data/input.txt",
               *output = s->o->output ? s->o->output : "data/output.txt";
    Prompts p;
    Summary m;
    size_t truth_size = 0;
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (s->o->print && file_is_stdout(output)) return err_set(e, "--print and -o - both write to stdout: give -o FILE");
    const char *truth = s->o->truth ? file_read_text(s->arena, s->o->truth, &truth_size, e) : NULL;
    if (s->o->truth && !truth) return err_wrap(e, "-v");
    if (truth && strlen(truth) != truth_size) return err_set(e, "-v %s: a NUL byte among the ids", s->o->truth);
    if (truth && file_same(s->o->truth, output)) return err_set(e, "-v %s is where the output goes: give -o another name", s->o->truth);
    if (!session_output(s, output, input, e) || !prompts_read(s, input, &p, e)) return false;
    if (s->o->print && !session_tokenizer(s, e)) return false;
    s->skip_bad = s->o->skip_bad;
    Requests r = requests_make(s, &p, "nothing is generated");
    bool ran = run(s, output, &p, &r, &m, e), ok = ran;
    if (ok && m.ranks.rank) summary_text(s, &m); /* rank 0 has the results */
    else if (ok) ok = write_results(s, output, truth, &p, &r, &m, e) && requests_left(s, &p, &r, e); /* theirs are written, empty as they are */
    if (ran && !s->o->json) fleet_profile(&m.fleet);
    ok = ok && fleet_whole(&m.fleet, e);
    fleet_close(&m.fleet);
    return ok;
}
