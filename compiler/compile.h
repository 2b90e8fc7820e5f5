/* compile.h - one compilation: what was asked, what the passes work on. See pipeline.c for the passes. */
#ifndef GPTOSS_COMPILE_H
#define GPTOSS_COMPILE_H

#include "ir/cli.h"
#include "fuse.h"
#include "lower.h"
#include "target.h"
#include "tuning.h"

typedef struct Options Options; /* gptoss-compile's command line */
struct Options {
    const char *graph, *arch, *output, *model, *precision, *override, *dump, *emit, *report, *measured, *tuning;
    bool kv16, kv32, dot, explain, no_cache, swap_embeddings, tune;
    int64_t max_batch, max_tokens, max_seq, workers, ep; /* ep: devices that the experts are dealt out over; 1: one */
    CliList fusions, templates, no_fusion;
};

typedef struct Compile Compile;
struct Compile {
    Arena *a;
    Options o;
    const Target *target;
    const char *home;    /* the folder that holds lua/ and templates/ */
    Prelude prelude;
    Model *model;
    Front *front;
    RuleList rules;
    FuseOffList off; /* --no-fusion, and rules that this target has no kernel for */
    TemplateList templates;
    Tuning tuning;
    Program *program;
    const Program *before; /* the graphs as they were before the rules, for the report's page; else NULL */
    FuseLog log;
    Plan plan;
    bool lowered; /* the plan holds its sources */
    RtcJob *jobs; /* one per module of the plan */
    const char *compiler; /* "hipRTC 5.2 (…)"; NULL when there is none: the plan carries source only */
    double seconds_jit;
};

static inline bool is_host(const Compile *c) { return c->target->compiler == RTC_HOST; }

Maker compile_maker(Compile *c); /* borrows what c has */

/* The templates of templates/ and --templates that are for the host (.c), or for GPUs (.hip). */
bool compile_templates(const Compile *c, bool host, TemplateList *list, Err *e);

/* Runs every pass; afterwards c->plan is complete. Nothing is written but --dump (stdout) and progress (stderr). */
bool compile_run(Compile *c, Err *e);

/* --report text|json|html and --explain on stdout. */
void report_text(const Compile *c, Text *t);
void report_json(const Compile *c, Text *t); /* with --explain: among the rest */
bool report_html(const Compile *c, Text *t, Err *e); /* page.c */
void report_explain(const Compile *c, Text *t);

#endif
