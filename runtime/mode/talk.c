/* talk.c - see talk.h. */
#include "talk.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* --- defaults ----------------------------------------------------------------------------------------------------------- */

bool talk_sampling(Session *s, Err *e) {
    ModelGeneration *g = &s->generation;
    if (!model_generation(s->model, g, e)) return false;
    if (g->ignored) warning("%s/generation_config.json: not implemented and ignored: %s", s->model_path, g->ignored);
    if (s->o->stops.n) g->stops = s->o->stops.at;
    s->sampling = (Sampling){.temperature = (float)g->temperature,
                             .top_k = g->top_k,
                             .top_p = (float)g->top_p,
                             .min_p = (float)g->min_p,
                             .seed = (uint32_t)random_seed()}; /* the seed is short, so that it can be typed */
    bool old =
        plan_buf(s->plan, "sampling") < 0; /* a graph that only knows greedy: not an error unless -T asks for more */
    if (old) s->sampling.temperature = 0;
    options_sampling(s->o, &s->sampling);
    if (s->o->verbose && s->sampling.temperature > 0) fprintf(stderr, "drawn with -s %" PRIu64 "\n", s->sampling.seed);
    return session_draws(s, e);
}

/* --- the sequence --------------------------------------------------------------------------------------------------------- */

void talk_stop_at(Talk *t, int32_t id) {
    if (id < 0 || t->n_stop == (int)LEN(t->stop)) return;
    t->stop[t->n_stop++] = id;
}

void talk_open(Talk *t, Session *s) {
    const ModelConfig *c = model_config(s->model);
    *t = (Talk){.s = s};
    for (int i = 0; i < c->n_eos; i++) talk_stop_at(t, c->eos[i]);
    static const int32_t o200k[] = {200002, 199999, 200012};
    static const char *const names[] = {"<|return|>", "<|endoftext|>", "<|call|>"};
    for (size_t i = 0; i < LEN(o200k); i++) {
        talk_stop_at(t, o200k[i]);
        if (s->tok) talk_stop_at(t, tok_special(s->tok, names[i]));
    }
    t->r = (Request){
        .keep = true, .reserve = s->steps, .out = arena_array(s->arena, (size_t)s->steps + 1, sizeof *t->r.out)};
    s->slots = 1;
}

void talk_close(Talk *t) {
    sched_free(t->sched);
    free(t->ids.at);
}

static bool is_stop(const Talk *t, int32_t id) {
    for (int i = 0; i < t->n_stop; i++)
        if (t->stop[i] == id) return true;
    return false;
}

static bool begin(Talk *t, Err *e) {
    Session *s = t->s;
    int64_t vocab = s->plan->config.vocab;
    for (size_t i = t->sched ? (size_t)sched_cached(t->sched, 0) : 0; i < t->ids.n; i++)
        if (t->ids.at[i] < 0 || t->ids.at[i] >= vocab)
            return err_set(e, "token id %" PRId32 " is not in the model's vocabulary of %" PRId64 "%s", t->ids.at[i],
                           vocab, s->tok ? ": the tokenizer does not fit the model" : "");
    t->r.ids = t->ids.at, t->r.n_ids = (int64_t)t->ids.n, t->r.n_out = 0, t->r.back = t->back;
    t->r.max_new = s->steps - t->r.n_ids + 1;
    if (t->r.max_new < 1) return err_set(e, "%zu tokens do not fit into -n %" PRId64, t->ids.n, s->steps);
    if (t->most && t->most < t->r.max_new) t->r.max_new = t->most;
    if (!t->sched) return (t->sched = session_sched(s, &s->exec, 1, &t->r, 1, false, e)) != NULL;
    return !t->r.done || sched_continue(t->sched, 0, e);
}

bool talk_run(Talk *t, bool (*read)(void *ctx, int32_t id), void *ctx, TalkEnd *end, Err *e) {
    const SchedStep *step;
    const int32_t *ids;
    if (!begin(t, e)) return false;
    int64_t before = sched_stats(t->sched).prompt_tokens;
    *end = TALK_FULL; /* max_new, whatever it came from */
    for (;;) {
        if (!session_next(t->s, t->sched, &t->r, &step, &ids, e)) return false;
        if (!step) break;
        bool over = t->r.done;
        sched_commit(t->sched, ids);
        if (over) continue; /* a step too many, made before the end was known */
        if (step->n_rows && is_stop(t, *ids)) *end = TALK_STOP_ID;
        else if (step->n_rows && !read(ctx, *ids)) *end = TALK_STOPPED;
        else if (t->interrupted) *end = TALK_INTERRUPTED;
        if (*end != TALK_FULL) sched_finish(t->sched, 0);
    }
    if (*end == TALK_FULL && t->r.n_out == t->most) *end = TALK_MOST;
    for (int64_t i = 0; i < t->r.n_out; i++) harmony_put(&t->ids, t->r.out[i]);
    t->ran = sched_stats(t->sched).prompt_tokens - before;
    return true;
}

static volatile sig_atomic_t *interrupted; /* the talk's, while it runs: a handler has no other way to it */
/* It is looked at between steps. Whoever asks again and again wants to be rid of a step that does not end. */
static void on_interrupt(int sig) {
    static const char note[] = "\n(the step that runs has not ended; Ctrl-C once more ends the program)\n";
    ++*interrupted;
    if (*interrupted == 2) (void)!write(2, note, sizeof note - 1);
    if (*interrupted < 3) return;
    signal(sig, SIG_DFL);
    raise(sig);
}

bool talk_run_until_interrupt(Talk *t, bool (*read)(void *ctx, int32_t id), void *ctx, TalkEnd *end, int flags,
                              Err *e) {
    struct sigaction old, now = {.sa_handler = on_interrupt, .sa_flags = flags};
    t->interrupted = 0;
    interrupted = &t->interrupted;
    sigaction(SIGINT, &now, &old);
    bool ok = talk_run(t, read, ctx, end, e);
    sigaction(SIGINT, &old, NULL);
    return ok;
}

void talk_restart(Talk *t) {
    t->ids.n = 0, t->back = 0;
    if (t->sched) sched_restart(t->sched, 0);
}

/* Behind `back` pages may be missing, at it they are all there. */
void talk_changed(Talk *t, size_t same) {
    if (t->sched && (int64_t)same < sched_cached(t->sched, 0))
        sched_back(t->sched, 0, (int64_t)same < t->back ? (int64_t)same : t->back);
}

/* --- stop texts ------------------------------------------------------------------------------------------------------------ */

/* Where the stop text begins that ends first, of several the longest; held.n: none is whole. So it does not matter in what pieces
 * the text comes. */
static size_t first_stop(const StopText *s) {
    for (size_t end = 1, longest = 0; s->stops && end <= s->held.n; end++) {
        for (const char *const *stop = s->stops; *stop; stop++) {
            size_t n = strlen(*stop);
            if (n <= end && n > longest && !memcmp(s->held.at + end - n, *stop, n)) longest = n;
        }
        if (longest) return end - longest;
    }
    return s->held.n;
}

/* How much can be shown when none is whole: all but a tail that one may begin with. */
static size_t shown(const StopText *s) {
    for (size_t at = 0; s->stops && at < s->held.n; at++)
        for (const char *const *stop = s->stops; *stop; stop++)
            if (s->held.n - at < strlen(*stop) && !memcmp(s->held.at + at, *stop, s->held.n - at)) return at;
    return s->held.n;
}

void stop_text(StopText *s, const char *text, size_t n, Text *out) {
    if (s->found) return;
    text_put(&s->held, text, n);
    size_t k = first_stop(s);
    s->found = k < s->held.n;
    if (!s->found) k = shown(s);
    text_put(out, s->held.at, k);
    memmove(s->held.at, s->held.at + k, s->held.n - k + 1);
    s->held.n -= k;
}

void stop_text_end(StopText *s, Text *out) {
    if (!s->found) text_put(out, s->held.at ? s->held.at : "", s->held.n);
    text_free(&s->held);
}
