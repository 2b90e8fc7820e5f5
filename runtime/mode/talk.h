/* talk.h - what generate and chat share: one sequence that grows, sampled with the model's defaults, its KV cache kept. */
#ifndef GPTOSS_TALK_H
#define GPTOSS_TALK_H

#include <signal.h>

#include "text/harmony.h"
#include "mode.h"

/* s->generation and s->sampling: generation_config.json beside the model (absent: temperature 1), then what was given on the
 * command line; without -s a seed that nobody chose. */
bool talk_sampling(Session *s, Err *e);

typedef enum TalkEnd { TALK_STOP_ID, TALK_STOPPED /* by the reader */, TALK_INTERRUPTED, TALK_FULL, TALK_MOST } TalkEnd;

typedef struct Talk Talk;
struct Talk {
    Session *s;
    Sched *sched;
    Request r;
    HarmonyIds ids; /* the whole sequence: what is in the cache, then what is to be run */
    int32_t stop[MODEL_MAX_EOS + 8];
    int n_stop;
    int64_t most; /* ids that a run may generate; 0: as many as there is room for */
    int64_t ran;  /* prompt tokens that the last talk_run ran */
    int64_t
        back; /* set before a run: where what follows may be changed afterwards without running what is before again */
    volatile sig_atomic_t interrupted;
};

void talk_open(Talk *t, Session *s); /* s->tok is open, or NULL for ids only */
void talk_close(Talk *t);
void talk_stop_at(Talk *t, int32_t id); /* negative: nothing */

/* Runs what of t->ids is not in the cache and generates; each id but a stop id goes to `read`, which says false to end behind it.
 * Everything generated, a stop id included, is then at the end of t->ids; its last id is not in the cache. */
bool talk_run(Talk *t, bool (*read)(void *ctx, int32_t id), void *ctx, TalkEnd *end, Err *e);
/* The same; Ctrl-C ends it (TALK_INTERRUPTED), or thrice the program, where a step does not end. flags: sigaction's. */
bool talk_run_until_interrupt(Talk *t, bool (*read)(void *ctx, int32_t id), void *ctx, TalkEnd *end, int flags, Err *e);
void talk_restart(Talk *t); /* forgets the sequence */
/* Between runs: only the first `same` of t->ids are still what was run; the next run does the others (talk.back). */
void talk_changed(Talk *t, size_t same);

/* Text on its way out: holds back what may be the beginning of a stop text. */
typedef struct StopText StopText;
struct StopText {
    const char *const *stops; /* NULL-terminated; NULL: none */
    Text held;
    bool found;
};
/* Takes text; appends to out what can be shown. Behind a stop text nothing is. */
void stop_text(StopText *s, const char *text, size_t n, Text *out);
void stop_text_end(StopText *s, Text *out); /* no more comes: what is held was none */

#endif
