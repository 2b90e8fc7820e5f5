/* mode.h - what the modes of gptoss-exec share: opening everything, reading requests, running steps.
 * Add a mode: a mode_*.c with its function, a line here and a row in programs/exec.c. */
#ifndef GPTOSS_MODE_H
#define GPTOSS_MODE_H

#include "runtime/exec.h"
#include "options.h"
#include "runtime/sched.h"
#include "text/tok.h"

typedef struct Flight Flight; /* a step that was launched, and not yet returned by session_next */
struct Flight {
    const SchedStep *step;
    int32_t *ids; /* [max_batch] come by exec_wait of the flight's mark */
    bool failed;  /* not launched, for this reason, which waits for its turn */
    Err why;
};

/* What runs on one device, or on a group of them (--ep). With -g each of those has a session (fleet.h); plan, model and tokenizer are the first's. */
typedef struct Session Session;
/* Called when the graph "step" was launched on t, before its rows are sampled; all ids before it are known. */
typedef bool AfterStep(Session *s, Sched *sched, const SchedStep *t, void *ctx, Err *e);
struct Session {
    const Options *o;
    Arena *arena;
    Plan *plan;
    Model *model;
    const char *model_path;
    Tok *tok; /* opened when text must be read */
    int index;    /* of its devices among the groups of those of their kind */
    int groups;   /* that -g makes, of plan->devices devices each */
    Err *lost;    /* [index] why the groups before it could not be opened */
    bool borrows; /* plan, model and tokenizer are another session's */
    Queue *queue; /* that its schedulers take from; NULL: each has its own */
    Device *dev;     /* the first of the group, which is read and written */
    Device **group;  /* [plan->devices]; those that were opened, the others NULL */
    Exec *exec;
    int step, sample, logits; /* graphs; -1 when the plan has none */
    int ids_buf, logits_buf;  /* outputs of the two heads */
    int64_t steps;            /* -n, or its default */
    int slots;                /* -b, or its default */
    int64_t chunk;
    struct Limits *limits; /* --kernels: compiled before the device was opened */
    double load_seconds;
    int ahead; /* steps launched before the ids of the one before are known: 1 where work is asynchronous, else 0 */
    bool skip_bad; /* a request whose logits hold a NaN is left out (Request.bad), and the others go on */
    bool again;    /* session_next failed so that all that was begun must begin anew: session_again */
    Flight flight[EXEC_MARKS]; /* step i of the scheduler: i % EXEC_MARKS */
    int64_t launched, returned;
    AfterStep *after; /* NULL: nothing; fleet_run's */
    void *after_ctx;
    Sampling *rows;             /* [max_batch] of the rows being sampled */
    Sampling sampling;          /* of every request, but for request and position; temperature 0 unless asked for */
    ModelGeneration generation; /* of generate and chat (talk_sampling); the other modes leave it as it is: nothing */
};

/* A mode: does its work and reports, or says why not. */
typedef bool Mode(Session *s, Err *e);
Mode mode_getp, mode_logits, mode_parity, mode_bench, mode_eval, mode_generate, mode_chat;

void warning(const char *fmt, ...) PRINTF(1, 2);

/* Opens plan, device and model, and checks options against the plan. Weights come with session_load, once input is read. */
bool session_open(Session *s, const Options *o, Err *e);
bool session_load(Session *s, Err *e);
/* A session of another group of devices of the kind of first's; they are not opened yet: with session_open_beside, on the thread that will
 * feed it. Whatever comes of that, session_close follows, and before that of the first. */
void session_beside(Session *s, const Session *first, int index);
bool session_open_beside(Session *s, const Session *first, Err *e);
bool session_load_from(Session *s, const Session *from, Err *e); /* its weights, copied from a session that has them */
/* Before the work: can path be written, and is it neither the input (NULL: none) nor a file of the model? */
bool session_output(const Session *s, const char *path, const char *input, Err *e);
Device *session_device(const Session *s, const char *name, Err *e); /* the group's first */
void session_close(Session *s);

bool session_draws(const Session *s, Err *e); /* can the plan do what s->sampling asks? */
/* Opens s->tok: -z, else tokenizer.json in the model's folder. */
bool session_tokenizer(Session *s, Err *e);

typedef struct Prompts Prompts;
struct Prompts {
    size_t n;
    struct Prompt {
        int32_t *ids;
        size_t n;
    } * at;
};
bool input_read(const char *path, Text *t, Err *e); /* a whole file of text; -: stdin */
/* Ids between blanks and line breaks, into ids, which has room for n / 2 + 1. Anything else is an error. */
bool ids_read(const Session *s, const char *text, size_t n, int32_t *ids, size_t *count, Err *e);
/* A text's ids, in the arena; special: the text of a special token is that token. An id that the model lacks is an error. */
bool prompt_encode(Session *s, const char *text, size_t n, bool special, struct Prompt *p, Err *e);
/* The input file's requests as ids (docs/formats.md). Errors name file and line. */
bool prompts_read(Session *s, const char *path, Prompts *p, Err *e);

/* Requests in the arena; of[i]: the prompt they come from. */
typedef struct Requests Requests;
struct Requests {
    size_t n;
    Request *at;
    size_t *of;
};
/* Up to -n steps each. Prompts that are empty or longer are left out with a warning, which says what becomes of them (fate). */
Requests requests_make(Session *s, const Prompts *p, const char *fate);
bool requests_left(const Session *s, const Prompts *p, const Requests *r, Err *e); /* false: that left none of them */
/* The prompts and nothing behind them: as long as the plan allows. */
bool requests_prompts(Session *s, const Prompts *p, Requests *r, Err *e);
bool session_no_room(const Session *s, const char *who, size_t tokens,
                     Err *e); /* "WHO has TOKENS tokens …", and what would help; false */

/* Bytes that the KV pools may take; 0: as much as is wanted. */
bool session_kv_budget(Session *s, size_t *budget, Err *e);
/* A scheduler for these requests on pools of so many pages [n_kv], in s->slots slots. */
Sched *session_sched_in(Session *s, const int64_t *pages, Request *r, size_t n, bool stop_at_eos, Err *e);
/* Sizes and allocates the KV pools of every exec for these requests, and makes their scheduler. */
Sched *session_sched(Session *s, Exec *const *execs, int n_execs, Request *r, size_t n, bool stop_at_eos, Err *e);
/* Tells an exec which pages and tables changed, and the step's inputs. */
void session_inputs(Exec *x, const Sched *sched, const SchedStep *t);
/* Those, then the graph "step". r: the scheduler's requests. */
bool session_step(Session *s, Sched *sched, const SchedStep *t, Request *r, Err *e);
/* All that step and sample head of it are told, but nothing is launched. */
void session_tell(Session *s, const Sched *sched, const SchedStep *t, const Request *r);
/* The scheduler's next step, run and sampled, to be committed with these ids [n_rows] before the next call; the one behind it
 * may be under way already. *t NULL: all requests are done. A NaN is an error that names request and first bad value, or, with
 * s->skip_bad, makes the request bad; what fails in a step is said after the steps before it were returned. r: the scheduler's
 * requests. */
bool session_next(Session *s, Sched *sched, Request *r, const SchedStep **t, const int32_t **ids, Err *e);
void session_again(Session *s); /* a new scheduler follows: nothing is in flight */
/* Adds to e which value of the oldest step that is not committed, or of n rows of it in graph `head`, is the first that is not
 * finite. Returns false. */
bool session_name_nonfinite(Session *s, Sched *sched, const Request *r, int head, const int32_t *rows,
                            const int32_t *slots, int64_t n, Err *e);
/* Are the weights still those that were loaded? Behind what a device that reads them in their files has computed, before it counts. */
bool session_unchanged(const Session *s, Err *e);
void session_profile(Session *s); /* -f: to stderr */

#endif
