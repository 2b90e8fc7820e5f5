/* fuzz_ledger.c - the lab's ledger, printed as a table and as JSON. */
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
    LabOptions o = {.ledger_file = fuzz_file(&fd, path, data, n)};
    if (!ledger_print(&o, &e)) fuzz_said(&e);
    o.format = "json";
    if (!ledger_print(&o, &e)) fuzz_said(&e);
    return 0;
}
