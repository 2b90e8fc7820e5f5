/* tuning.h - choices that were measured, kept in a file (docs/formats.md, Tuning): constants that a template's head declares with `tune`,
 * rules that are left out, and for how many rows each alternative of a rule's recipe is taken. gptoss-lab --tune measures and writes it; a compilation with --tuning FILE takes what fits.
 *
 * A choice fits a kernel that has the same template (its bytes), constants, composed ops, target, precision and compiler. One that
 * was measured on a device beats one that emu counted; of two the later in the file. Equal files give equal plans. */
#ifndef GPTOSS_TUNING_H
#define GPTOSS_TUNING_H

#include <jansson.h>

#include "plan/plan.h"
#include "template.h"

/* What a choice is for, beside target, precision and compiler. */
typedef struct TuneKey TuneKey;
struct TuneKey {
    const char *kernel, *version; /* the template's file, and the hash of its text */
    const char *ops, *shape;      /* "rmsnorm cast linear", "K=64 N=128 HAS_B=1 …" */
};

enum { TUNE_ALWAYS = 1 << 24 }; /* a recipe's bound that no step reaches */

typedef struct Tunable Tunable; /* a kernel of the plan that has something to choose */
struct Tunable {
    const char *symbol;
    const TuneKey *key;
    const Template *t;
    const Binding *b;
};

typedef struct Tuning Tuning;
struct Tuning {
    Arena *a;
    const char *path;
    json_t *entries; /* of this target, precision and compiler, in the file's order */
    json_t *fusions; /* the entry that was taken for the rules; NULL: none */
    struct {
        Tunable *at;
        size_t n, cap;
    } seen; /* in the order of the plan's kernels */
};

/* An empty one; with a path that file's choices. A line that is none is an error at it. */
bool tuning_open(Tuning *t, Arena *a, const char *path, const char *arch, const char *precision, const char *compiler, Err *e);
void tuning_close(Tuning *t);

/* The entry kept for the kernel; NULL: none. */
json_t *tuning_entry(const Tuning *t, const TuneKey *key);
/* What it chooses for the constant; false: nothing. */
bool tuning_value(const json_t *entry, const char *name, int64_t *value);
/* The entry for a set of rules (hash of those that are on) and a model's shape. */
json_t *tuning_fusions(const Tuning *t, const char *version, const char *shape);

void tuning_see(Tuning *t, const char *symbol, const Binding *b);
/* For people: "STAGES=8: 0.93 of the default's time on NVIDIA H200"; in the arena. */
const char *tuning_says(Arena *a, const json_t *entry);

/* Into the plan: each kernel, and the fusions, that something was kept for. */
void tuning_note(const Tuning *t, Plan *p);

/* --report json's: {kernel, version, ops, shape, values, candidates, kept}; a new object. */
json_t *tuning_json(const Tuning *t, const Tunable *of);

#endif
