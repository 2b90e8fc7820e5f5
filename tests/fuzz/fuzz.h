/* fuzz.h - what the fuzzers share. A fuzzer is fuzz_NAME.c with libFuzzer's entry points, and perhaps NAME.dict; inputs that
 * once failed lie in failed/NAME/. `make fuzz` runs it under libFuzzer with sanitizers; driver.c runs it without. */
#ifndef GPTOSS_FUZZ_H
#define GPTOSS_FUZZ_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ir/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);

/* A regular file that holds the bytes, in memory: our readers open paths. The path is good until the next call with this fd. */
static inline const char *fuzz_file(int *fd, char path[64], const void *bytes, size_t n) {
    if (*fd <= 0) *fd = memfd_create("fuzz", 0);
    if (*fd < 0 || ftruncate(*fd, 0) || pwrite(*fd, bytes, n, 0) != (ssize_t)n) abort();
    snprintf(path, 64, "/proc/self/fd/%d", *fd);
    return path;
}

/* An error must say something. FUZZ_SAY=1 prints it; FUZZ_STOP=WORDS stops at one that says so, which keeps its input. */
static inline void fuzz_said(const Err *e) {
    const char *stop = getenv("FUZZ_STOP");
    if (!e->msg[0] || (stop && strstr(e->msg, stop))) abort();
    if (getenv("FUZZ_SAY")) fprintf(stderr, "%s\n", e->msg);
}

/* Does a sanitizer watch the memory? */
static inline bool fuzz_watched(void) {
#ifdef __has_feature
    return __has_feature(address_sanitizer);
#else
    return false;
#endif
}

/* What the readers print is of no interest. */
static inline void fuzz_hush(void) {
    if (!freopen("/dev/null", "w", stdout)) abort();
}

/* The sum of all bytes: reads them. */
static inline void fuzz_touch(const void *p, size_t n) {
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const unsigned char *)p)[i];
    __asm__ volatile("" : : "r"(sum));
}

#endif
