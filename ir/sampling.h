/* sampling.h - how a row of logits is drawn: the record that the executor writes for each sampled row (input "sampling",
 * i32[S,8]) and the arithmetic of op sample (ops.def), which templates/sample.hip repeats operation by operation.
 * No value here depends on contraction of a product and a sum: whoever compiles it gets the same bits. */
#ifndef GPTOSS_SAMPLING_H
#define GPTOSS_SAMPLING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { SAMPLING_WORDS = 8, SAMPLING_MAX_VOCAB = 1 << 22 /* sums of weights stay below 2^63 */ };

typedef struct Sampling Sampling;
struct Sampling {
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: all */
    float top_p;       /* 1: all */
    float min_p;       /* of the likeliest token's probability; 0: all */
    uint64_t seed;
    uint32_t request;  /* the line of the input */
    uint32_t position; /* of the token to be drawn in its sequence */
};

static inline void sampling_write(const Sampling *s, int32_t *words) {
    const uint32_t tail[4] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32), s->request, s->position};
    memcpy(words, &s->temperature, 4), memcpy(words + 1, &s->top_k, 4);
    memcpy(words + 2, &s->top_p, 4), memcpy(words + 3, &s->min_p, 4), memcpy(words + 4, tail, sizeof tail);
}

static inline Sampling sampling_read(const int32_t *words) {
    Sampling s;
    uint32_t tail[4];
    memcpy(&s.temperature, words, 4), memcpy(&s.top_k, words + 1, 4);
    memcpy(&s.top_p, words + 2, 4), memcpy(&s.min_p, words + 3, 4), memcpy(tail, words + 4, sizeof tail);
    s.seed = (uint64_t)tail[1] << 32 | tail[0], s.request = tail[2], s.position = tail[3];
    return s;
}

static inline bool sampling_valid(const Sampling *s) {
    return s->temperature >= 0 && s->temperature <= 1e6f && s->top_k >= 0 && s->top_p >= 0 && s->top_p <= 1 &&
           s->min_p >= 0 && s->min_p <= 1;
}

/* Philox4x32-10 (Salmon et al., SC 2011): ten rounds, constants of Random123. */
static inline void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t p = 0xD2511F53ull * a, q = 0xCD9E8D57ull * c;
        a = (uint32_t)(q >> 32) ^ b ^ k0, b = (uint32_t)q;
        c = (uint32_t)(p >> 32) ^ d ^ k1, d = (uint32_t)p;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

static inline uint64_t sampling_random(const Sampling *s) {
    const uint32_t counter[4] = {s->position, s->request, 0, 0},
                   key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
    uint32_t out[4];
    philox(counter, key, out);
    return (uint64_t)out[1] << 32 | out[0];
}

/* floor(2^40 exp((x - most) / temperature)), exp within 2^-50 of the true one. As 2^t = 2^n 2^f: t is a quotient, f exact,
 * 2^f the Taylor series of exp(f ln 2) by fma, so there is one way only to compute it. x <= most, no NaN. */
static inline uint64_t sampling_weight(float x, float most, float temperature) {
    /* 1 / k!, k = 17 … 0: the next term is below 2^-63 */
    static const double term[] = {0x1.952c77030ad4ap-49,
                                  0x1.ae7f3e733b81fp-45,
                                  0x1.ae7f3e733b81fp-41,
                                  0x1.93974a8c07c9dp-37,
                                  0x1.6124613a86d09p-33,
                                  0x1.1eed8eff8d898p-29,
                                  0x1.ae64567f544e4p-26,
                                  0x1.27e4fb7789f5cp-22,
                                  0x1.71de3a556c734p-19,
                                  0x1.a01a01a01a01ap-16,
                                  0x1.a01a01a01a01ap-13,
                                  0x1.6c16c16c16c17p-10,
                                  0x1.1111111111111p-7,
                                  0x1.5555555555555p-5,
                                  0x1.5555555555555p-3,
                                  0.5,
                                  1,
                                  1};
    if (x == most) return 1ull << 40;
    const double ln2 = 0x1.62e42fefa39efp-1, t = ((double)x - (double)most) / ((double)temperature * ln2);
    if (!(t > -41)) return 0;
    const double n = floor(t), y = (t - n) * ln2;
    double sum = term[0];
    for (int k = 1; k < 18; k++) sum = fma(sum, y, term[k]);
    const uint64_t bits = (uint64_t)(1023 + 40 + (int)n) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return (uint64_t)(sum * power);
}

static inline uint64_t sampling_enough(uint64_t total, float top_p) {
    const uint64_t p = (uint64_t)((double)top_p * 0x1p32),
                   enough = (total >> 32) * p + (((total & 0xffffffffu) * p + 0xffffffffu) >> 32);
    return enough ? enough : 1;
}

static inline uint64_t sampling_likely(float min_p) { return (uint64_t)ceil((double)min_p * 0x1p40); }

/* floor(u total / 2^64) */
static inline uint64_t sampling_scale(uint64_t u, uint64_t total) {
    const uint64_t uh = u >> 32, ul = u & 0xffffffffu, th = total >> 32, tl = total & 0xffffffffu;
    const uint64_t low = ul * tl, mid = uh * tl + (low >> 32), other = ul * th + (mid & 0xffffffffu);
    return uh * th + (mid >> 32) + (other >> 32);
}

#endif
