/* fuzz_eval.c - evaluation sets: read, and where that goes well answered by a small model on ref, graded and written as JSON. */
#include "fuzz.h"
#include "runtime/mode/mode.h"

static const Options options = {.plan = "out/fuzz/seeds/run/strict.bin", .model = "out/fuzz/model", .tokenizer = "out/fuzz/model/tokenizer.json",
                                .device = "ref", .mode = "eval", .gpus = 1, .steps = 20, .batch = 2, .lines = 2, .chunk = -1, .temperature = -1,
                                .top_p = -1, .min_p = -1, .top_k = -1, .max_answer = -1, .seed = -1, .threads = 1, .json = true};
static Session first; /* its plan, model and tokenizer are every input's: fuzz_tok has the reader of tokenizers */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    Err e;
    (void)argc, (void)argv;
    fuzz_hush();
    if (!session_open(&first, &options, &e) || !session_tokenizer(&first, &e)) abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Options o = options;
    Err e = {0};
    Session s;
    o.input = fuzz_file(&fd, path, data, n), o.output = "/dev/null";
    session_beside(&s, &first, 0);
    s.o = &o;
    if (!session_open_beside(&s, &first, &e) || !mode_eval(&s, &e)) fuzz_said(&e);
    session_close(&s);
    return 0;
}
