/* lab.h - what one rule does: two plans, one without it and one with it, held against each other.
 *
 * All that is found goes into one JSON object, the page; page.c and html.c print it for people, the ledger keeps its figures. Each part of
 * the lab fills its own keys and reads those of the parts before it:
 *   plans, rules            build.c   how both were made; what fired, missed, lost
 *   graphs, sources         diff.c    what is in one and not in the other
 *   alone, end_to_end       verdict.c whether it is right
 *   speed                   speed.c   A B A B on a device
 *   tests                   cost.c    each kernel of a step: what it takes, what it must do, what it did on emu
 *   reduced                 reduce.c  the smallest graph that still fails
 *   result                  lab.c     right or not, and why
 * tune.c tries other constants and fusions, and keeps the best.
 * bisect.c does it for every rule, one at a time. predict.c reckons how fast a plan would be on a machine that is not here.
 * Plans are made and run by the sibling programs (child.h). Nothing here knows a rule by name. */
#ifndef GPTOSS_LAB_H
#define GPTOSS_LAB_H

#include <jansson.h>

#include "child.h"
#include "ir/cli.h"
#include "plan/plan.h"

typedef struct LabOptions LabOptions;
struct LabOptions {
    const char *first, *second; /* a graph, or two plans */
    const char *arch, *model, *precision, *device, *prompts, *format, *ledger_file, *keep, *replay, *batches, *measured, *counts, *tuning, *override, *only;
    CliList rules, templates, no_fusion;
    bool kv16, kv32, ledger, bisect, predict, tune, no_speed, no_ref, no_judge;
    int64_t max_batch, max_tokens, max_seq, jobs; /* 0: the compiler's */
    int64_t pp, tg, depth, n_prompts, steps, pairs;
    double within, seconds, limit; /* of an interval; of measuring; of what a child does */
};

typedef struct LabPlan LabPlan;
struct LabPlan {
    const char *name, *path;
    Plan *plan;     /* NULL: it could not be built */
    json_t *report; /* what gptoss-compile says of it; NULL of a plan that was given */
    const char *error;
};

typedef struct Lab Lab;
struct Lab {
    Arena *a;
    const LabOptions *o;
    const char *work;  /* a folder of our own */
    const char *model; /* what plans are run on; NULL: nothing (page key end_to_end says why) */
    const char *no_model;
    LabPlan plan[2]; /* without and with */
    json_t *page;
    struct {
        const char **at;
        size_t n, cap;
    } wrong; /* why the result is not right */
};

/* Compares, prints, and writes into the ledger. False with e set: it could not be done at all. *right: the exit status. */
bool lab_run(const LabOptions *o, bool *right, Err *e);
bool lab_replay(const LabOptions *o, bool *right, Err *e);
bool lab_bisect(const LabOptions *o, bool *right, Err *e);
bool lab_tune(const LabOptions *o, Err *e);
bool lab_predict(const LabOptions *o, Err *e);

bool lab_open(Lab *lab, const LabOptions *o, Err *e); /* a folder to work in */
void lab_close(Lab *lab);
bool lab_device(Lab *lab, const char *arch,
                Err *e); /* page key device: the real one that runs such plans; absent: there is none */
void lab_wrong(Lab *lab, const char *fmt, ...) PRINTF(2, 3);
json_t *lab_json_file(const char *path, Err *e); /* a regular file's JSON; NULL on error */

/* build.c */
void build_args(Lab *lab, Args *to, const char *graph,
                const char *output);                 /* all but the rules and templates under test */
void build_add_rules(Lab *lab, Args *to, bool with); /* those, or, of shipped ones, their absence */
bool build_plan(Lab *lab, const Args *args, const char *path, LabPlan *to, Err *e); /* to->error: the compiler's */
bool build_both(Lab *lab, Err *e);
bool build_model(Lab *lab,
                 Err *e); /* lab->model: the user's, else a random one of the plan's shape when that is small */
void build_rules(Lab *lab);

/* diff.c */
void diff_graphs(Lab *lab);
void diff_sources(Lab *lab);
bool diff_kernel(const Lab *lab, const char *symbol);     /* is the kernel's text another in the second plan, or in one only? */
bool diff_none(const Lab *lab);                           /* neither graphs nor sources differ */
const char *diff_without_layers(Arena *a, const char *s); /* "layer12.attn" as "layer*.attn" */

/* verdict.c */
enum { SAMPLE = 16 }; /* workgroups of a launch, where all would take long on emu */
bool verdict_alone(Lab *lab, Err *e);
bool verdict_end_to_end(Lab *lab, Err *e);
bool verdict_parity(Lab *lab, Err *e); /* -m parity of the plan with the rule, where that can be run */
typedef struct CheckOptions CheckOptions;
struct CheckOptions {
    const char *only; /* part of a kernel's symbol; NULL: all */
    int64_t schedule; /* of waves, on emu; 0: in order */
    int sample;       /* workgroups of a launch, on emu; 0: all */
    int64_t rows;     /* a step of so many only, each line with what was executed (counts); 0: several */
    bool races;       /* on emu: fail where two waves touch a byte and nothing orders them */
};
/* In which ways a kernel is run alone: once, but on emu also where races are watched, and with its waves in other orders. */
const CheckOptions *verdict_ways(const Lab *lab, size_t *n);
/* Checks of one plan, each a line of --self-test --json; NULL with e set when it could not be run. *how: how it ended, ""
 * when well. */
json_t *verdict_checks(Lab *lab, const char *plan, const CheckOptions *o, const char **how, Err *e);
const char *verdict_device(const Lab *lab); /* on which numbers are looked at */

/* cost.c */
bool cost_tests(Lab *lab, Err *e);
/* On emu: the least time of a prefill and of a decode step by what was counted. */
bool cost_counted(Lab *lab, const LabPlan *p, double seconds[2], Err *e);
bool cost_runs(Lab *lab, const LabPlan *p, const char *symbol); /* does one of these steps launch the kernel? */

/* speed.c */
bool speed_run(Lab *lab, bool kernels, Err *e); /* kernels: each alone too */
/* Of the second plan's time over the first one's, by turns on the device: the geometric mean over tests. counts: only of the kernels
 * that it takes, all else left out; NULL: whole steps. NAN: no test runs any. */
bool speed_ratio(Lab *lab, bool (*counts)(void *ctx, const char *kernel), void *ctx, double *ratio, Err *e);
/* Sorts x. Its median, and the interval in which that of what x was drawn from lies in 95 of 100 cases; false, and NAN: too few. */
bool speed_median(double *x, size_t n, double *mid, double *low, double *high);

/* reduce.c */
bool reduce_run(Lab *lab, Err *e);

/* page.c */
void page_text(const json_t *page, Text *t);

/* html.c */
bool html_page(const Lab *lab, Text *t, Err *e);

/* ledger.c */
void lab_note_run(Lab *lab); /* page keys date, machine, first, second, tried */
bool ledger_append(const Lab *lab, Err *e);
bool ledger_print(const LabOptions *o, Err *e);

/* json of jansson, in short; a path of keys is not there: NULL, 0, NAN or "" */
static inline const char *json_text(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}
const json_t *counts_of(const json_t *list, const char *kernel); /* cost.c: of the emulator's profile, the kernel's line; NULL: it ran none */
double json_figure(const json_t *o, const char *key); /* NAN when there is none */
json_t *json_figure_new(double x);                    /* null for what JSON has no number for */

#endif
