/* options.h - gptoss-exec's command line. Add an option: a field here and a row of options.c's table. */
#ifndef GPTOSS_OPTIONS_H
#define GPTOSS_OPTIONS_H

#include "../ir/base.h"

typedef struct Options Options;
struct Options {
    const char *plan, *mode;
    const char *model, *tokenizer, *input, *output, *truth; /* NULL: not given */
    const char *system, *device, *dump_tensor;
    int64_t steps, batch, lines, chunk; /* -1: not given */
    int64_t gpus, threads, seed, seed_schedule;
    int64_t sample; /* --self-test: workgroups of a launch; 0: all */
    const char *only; /* --self-test: part of a kernel's symbol */
    size_t kv_memory; /* 0: not given */
    double temperature, top_p;
    bool input_ids, profile, json, verbose, swap_embeddings;
    bool inspect, list_devices, version, help, self_test;
};

bool options_parse(Options *o, int argc, char **argv, Err *e);
void options_help(Text *t);

#endif
