/* rtc_blob.c - a job's results as bytes: what a worker hands back and what the cache keeps. See rtc_internal.h. */
#include "rtc_internal.h"

typedef struct Head Head;
struct Head {
    char magic[8];
    uint32_t format, n_kernels;
    uint64_t code, lines, log, err; /* bytes of each part, in this order; the kernels come last */
    uint64_t sum;            /* of everything after the head, and of the head with this field 0 */
};
static const char magic[8] = "GPTRTC\r\n";

static uint64_t sum_of(Head h, const char *body, size_t n) {
    h.sum = hash64(body, n);
    return hash64(&h, sizeof h);
}

void rtc_encode(Text *t, const RtcJob *job, const char *err) {
    Text body = {0};
    const char *log = job->log ? job->log : "", *lines = job->lines ? job->lines : "";
    Head h = {.format = RTC_FORMAT, .n_kernels = (uint32_t)job->n_kernels};
    memcpy(h.magic, magic, sizeof magic);
    h.code = job->code_size, h.lines = strlen(lines), h.log = strlen(log), h.err = strlen(err);
    text_put(&body, "", 0);
    if (h.code) text_put(&body, job->code, job->code_size);
    text_put(&body, lines, h.lines);
    text_put(&body, log, h.log);
    text_put(&body, err, h.err);
    if (h.n_kernels) text_put(&body, job->kernels, h.n_kernels * sizeof *job->kernels);
    h.sum = sum_of(h, body.at, body.n);
    text_put(t, &h, sizeof h);
    text_put(t, body.at, body.n);
    text_free(&body);
}

bool rtc_decode(Arena *a, const char *bytes, size_t n, RtcJob *job, const char **err) {
    Head h;
    if (n < sizeof h) return false;
    memcpy(&h, bytes, sizeof h);
    const char *body = bytes + sizeof h;
    size_t left = n - sizeof h, kernels = (size_t)h.n_kernels * sizeof *job->kernels; /* 32 bits times a small size: no overflow */
    if (memcmp(h.magic, magic, sizeof magic) || h.format != RTC_FORMAT || sum_of(h, body, left) != h.sum) return false;
    const uint64_t parts[] = {h.code, h.lines, h.log, h.err, kernels};
    uint64_t at[LEN(parts)], end = 0;
    for (size_t i = 0; i < LEN(parts); end += parts[i++]) {
        if (parts[i] > left - end) return false;
        at[i] = end;
    }
    if (end != left) return false;
    job->code_size = h.code;
    job->code = h.code ? memcpy(arena_alloc(a, h.code), body, h.code) : NULL;
    job->lines = h.lines ? arena_strndup(a, body + at[1], h.lines) : NULL;
    job->log = arena_strndup(a, body + at[2], h.log);
    *err = arena_strndup(a, body + at[3], h.err);
    job->n_kernels = (int)h.n_kernels;
    job->kernels = arena_array(a, h.n_kernels, sizeof *job->kernels);
    if (kernels) memcpy(job->kernels, body + at[4], kernels);
    for (uint32_t i = 0; i < h.n_kernels; i++)
        if (!memchr(job->kernels[i].symbol, 0, sizeof job->kernels[i].symbol)) return false;
    return true;
}
