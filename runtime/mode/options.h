/* options.h - gptoss-exec's command line. Add an option: a field here and a row of options.c's table (ir/cli.h).
 * GPTOSS_MODEL is not --model's variable: the plan's own path comes before it (mode.c). */
#ifndef GPTOSS_OPTIONS_H
#define GPTOSS_OPTIONS_H

#include "ir/cli.h"
#include "ir/sampling.h"

typedef struct Options Options;
struct Options {
    const char *plan, *mode;
    const char *model, *tokenizer, *input, *output, *truth; /* NULL: not given */
    const char *system, *device, *dump_tensor;
    int64_t steps, batch, lines, chunk; /* -1: not given */
    const char *date, *reasoning;
    char *const *words; /* what follows the plan on the command line: the prompt of generate and chat */
    int n_words;
    CliList stops;
    const char *gpus_asked;
    int64_t gpus; /* 0: all */
    int64_t ep;   /* 0: not given */
    int64_t threads, seed, seed_schedule; /* seed, top_k: -1: not given */
    int64_t top_k, max_answer;
    int64_t emu_limit; /* 0: not given */
    int64_t sample; /* --self-test: workgroups of a launch; 0: all */
    int64_t rows;   /* --self-test: of the one step that is tried; 0: several */
    const char *only; /* --self-test: part of a kernel's symbol */
    const char *pp, *tg, *depth, *batches, *format, *trace; /* bench; NULL: not given */
    int64_t repetitions;                                    /* -1: not given */
    bool kernels, paced;
    size_t kv_memory; /* 0: not given */
    double temperature, top_p, min_p; /* -1: not given */
    bool print, hide_reasoning, resume, skip_bad;
    bool races, trust_code;
    bool input_ids, special, keep_reasoning, profile, json, verbose, swap_embeddings;
    bool inspect, list_devices, self_test;
};

extern const Cli options_cli;

/* done: --help or --version was asked for, and printed. */
bool options_parse(Options *o, int argc, char **argv, bool *done, Err *e);
/* Puts what was given of -T, -p, -s, --top-k and --min-p over *s. */
void options_sampling(const Options *o, Sampling *s);

#endif
