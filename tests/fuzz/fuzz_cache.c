/* fuzz_cache.c - entries of the JIT's cache. The checksum is made right first: a file that lies has a right one too. */
#include "fuzz.h"
#include "rtc/rtc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    enum { HEAD = 48, SUM = 40 }; /* rtc_blob.c's Head */
    Arena *a = arena_new();
    RtcJob job = {0};
    const char *err = "";
    char *bytes = arena_alloc(a, n + 1);
    memcpy(bytes, data, n);
    if (n >= HEAD) {
        uint64_t sum = hash64(bytes + HEAD, n - HEAD);
        memcpy(bytes + SUM, &sum, 8);
        sum = hash64(bytes, HEAD);
        memcpy(bytes + SUM, &sum, 8);
    }
    if (rtc_decode(a, bytes, n, &job, &err)) {
        fuzz_touch(job.code, job.code_size), fuzz_touch(job.log, strlen(job.log)), fuzz_touch(err, strlen(err));
        for (int i = 0; i < job.n_kernels; i++) fuzz_touch(job.kernels[i].symbol, strlen(job.kernels[i].symbol));
    }
    arena_free(a);
    return 0;
}
