/* fuzz_replay.c - gptoss-lab's cases (--replay): read, checked, and their files written into a folder of its own. The programs that it
 * would then run are not beside the fuzzer, which is said as an error; what they read has fuzzers of its own. */
#include "fuzz.h"
#include "lab/lab.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    fuzz_hush();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Err e = {0};
    bool right;
    LabOptions o = {.replay = fuzz_file(&fd, path, data, n), .limit = 1};
    if (!lab_replay(&o, &right, &e)) fuzz_said(&e);
    return 0;
}
