/* sheet.h - a plan as compiler/report.html draws it: one JSON object in place of the page's mark. gptoss-compile --report html fills it
 * for one plan, beside the graphs as they were before the rules; gptoss-lab for two.
 *
 *   machine    {name, bandwidth, peak}: targets.def; 0: unknown
 *   work       [{name, T, S, slots, depth}]: the steps that costs are given for
 *   sources    {prelude, modules: [{name, text}]}: text without the prelude, which all begin with
 *   graphs     [{name, before, after}]: each {inputs: [[name, type, kind]], nodes, outputs}; "prepare" of a compilation has no before
 *   before     {kernels, sources}: those of the plan on the left, when there is one: sources that are others in it
 * A node is {name, op, out: [[name, type]], in: [name or null], attrs, scope}; outside of bodies for each work cost: [[read, written,
 * flops]] and reads: [[bytes of each input]] ("prepare" runs once and has none); of a plan's graph launches: [[kernel, above, upto]] by
 * tokens; of a fused one rule, kernels, hook and body, a graph. */
#ifndef GPTOSS_SHEET_H
#define GPTOSS_SHEET_H

#include <jansson.h>

#include "plan.h"

typedef struct Sheet Sheet;
struct Sheet {
    const Plan *plan;        /* on the right */
    const Program *before;   /* on the left; NULL: nothing */
    const Plan *before_plan; /* whose graphs these are; NULL: they run nowhere */
    const char *machine;
    double bandwidth, peak; /* bytes and FLOP a second; 0: unknown */
};

void sheet_add(const Sheet *s, json_t *top);          /* all of these keys */
json_t *sheet_kernels(const Plan *p);                 /* [{symbol, template, module, uses, block, reduction, …}]: what a plan knows of them; the caller's */
json_t *sheet_sizes(const Plan *p);                   /* {model, arch, precision, weight_bytes, scratch_bytes, kv_page_bytes, launches, rules}; the caller's */
bool sheet_html(const char *home, const json_t *top, Text *t, Err *e); /* home: cli_home's. The page, with the object in it */

#endif
