/* fuzz_bin.c - a llama2.c-style .bin checkpoint: 60 bytes of header, and a file of exactly the size that it implies. The file is
 * made as long as the header asks, up to 4 MiB, so that plausible headers are read on. */
#include "fuzz.h"
#include "model/model.h"

static size_t wanted(const int32_t *h) {
    double v = h[0], hd = h[1], e = h[2], i = h[4], l = h[5], d = h[6], q = h[7], k = h[8];
    double n = 2 * v * hd + 2 * l * hd + hd + l * (q + 2 * k) * d * (hd + 1) + l * hd * (q * d + 1) + l * q +
               l * e * (hd + 1) + l * e * 2 * i * (hd + 1) + l * e * hd * (i + 1);
    return n > 0 && n < 1 << 20 ? 60 + 4 * (size_t)n : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    int32_t head[15] = {0};
    Err e = {0};
    fuzz_file(&fd, path, data, n);
    memcpy(head, data, n < sizeof head ? n : sizeof head);
    size_t size = n >= 60 ? wanted(head) : 0;
    if (size && ftruncate(fd, (off_t)size)) abort();
    Model *m = model_open(path, n % 2, &e);
    if (!m) return fuzz_said(&e), 0;
    float inv_freq[64], concentration, row[64];
    model_rope_inv_freq(model_config(m), inv_freq, &concentration);
    if (!model_check(m, &e) || !model_read(m, "norm", DT_F32, false, 0, 32, row, 128, &e)) fuzz_said(&e);
    model_close(m);
    return 0;
}
