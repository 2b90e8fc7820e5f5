/* fuzz_said.c - what comgr's process says of a code object, as it comes from it or from the cache: a byte says whether
 * the Err before is left out, two how long the code is. */
#include "fuzz.h"
#include "runtime/emu/comgr_said.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const uint8_t image[4 * 65535];
    ComgrCode code = {"object", 6, image, 0, 0};
    if (n < 3) return 0;
    code.hi = 4u * data[1] + 1024u * data[2];
    Arena *a = arena_new();
    Text said = {0};
    ComgrText t;
    Err e = {0};
    const Err none = {0};
    if (*data) text_put(&said, &none, sizeof none); /* no error */
    text_put(&said, data + 3, n - 3);
    if (comgr_said(a, &said, &code, &t, &e)) {
        for (size_t i = 0; i < t.n_kernels; i++) {
            const ComgrKernel *k = &t.kernels[i];
            fuzz_touch(k->symbol, strlen(k->symbol)), fuzz_touch(k->pub.name, strlen(k->pub.name)), fuzz_touch(k->args, k->n_args * sizeof *k->args);
        }
        for (size_t i = 0; i < t.n_lines; i++) fuzz_touch(t.lines[i].text, strlen(t.lines[i].text));
    } else fuzz_said(&e);
    text_free(&said);
    arena_free(a);
    return 0;
}
