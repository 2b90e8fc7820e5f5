/* mode_bench.c - -m bench: tokens per second of prefill and decode, on made-up prompts; stop ids do not stop.
 * -b requests (default 1) of prompts half as long as -n, at most 512, then the rest generated. Not a test: nothing is asserted. */
#include "mode.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct Timing Timing;
struct Timing {
    int64_t tokens, steps;
    double seconds;
};

static Requests made_up(Session *s) {
    int64_t steps = s->o->steps > 0 ? s->o->steps : s->steps < 128 ? s->steps : 128;
    int64_t prompt = steps / 2 > 512 ? 512 : steps / 2 > 0 ? steps / 2 : 1;
    uint64_t state = 1;
    Requests r = {(size_t)s->slots, arena_array(s->arena, (size_t)s->slots, sizeof *r.at), NULL};
    for (size_t i = 0; i < r.n; i++) {
        int32_t *ids = arena_array(s->arena, (size_t)prompt, sizeof *ids);
        for (int64_t k = 0; k < prompt; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            ids[k] = (int32_t)((state >> 33) % (uint64_t)s->plan->config.vocab);
        }
        r.at[i] = (Request){.ids = ids, .n_ids = prompt, .max_new = steps - prompt + 1};
        r.at[i].out = arena_array(s->arena, (size_t)r.at[i].max_new, sizeof *r.at[i].out);
    }
    return r;
}

static void report(const Session *s, const Timing *prefill, const Timing *decode) {
    double p = prefill->seconds > 0 ? (double)prefill->tokens / prefill->seconds : 0,
           d = decode->seconds > 0 ? (double)decode->tokens / decode->seconds : 0;
    if (s->o->json)
        printf("{\"mode\": \"bench\", \"device\": \"%s\", \"batch\": %d, \"prefill_tokens\": %" PRId64
               ", \"prefill_per_second\": %.3f, "
               "\"decode_tokens\": %" PRId64 ", \"decode_per_second\": %.3f}\n",
               s->dev->ops->name, s->slots, prefill->tokens, p, decode->tokens, d);
    else
        printf("bench on %s, batch %d\nprefill %8" PRId64 " tokens %6" PRId64
               " steps %9.3f s %12.1f tok/s\ndecode  %8" PRId64 " tokens %6" PRId64 " steps %9.3f s %12.1f tok/s\n",
               s->dev->ops->name, s->slots, prefill->tokens, prefill->steps, prefill->seconds, p, decode->tokens,
               decode->steps, decode->seconds, d);
}

bool mode_bench(Session *s, Err *e) {
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (s->o->batch < 0) s->slots = 1;
    if (!session_load(s, e)) return false;
    Requests r = made_up(s);
    Timing time[2] = {{0}}; /* steps with prompt tokens; steps of generated tokens only */
    const int32_t *ids;
    Sched *sched = session_sched(s, &s->exec, 1, r.at, r.n, false, e);
    bool ok = sched != NULL;
    double begin = seconds_now();
    for (const SchedStep *t; ok && (ok = session_next(s, sched, r.at, &t, &ids, e)) && t;) {
        Timing *at = &time[t->n_decode == t->n];
        at->seconds += seconds_now() - begin, at->tokens += t->n, at->steps++;
        begin = seconds_now();
        sched_commit(sched, ids);
    }
    if (ok) report(s, &time[0], &time[1]), session_profile(s);
    sched_free(sched);
    return ok;
}
