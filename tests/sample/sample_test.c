/* sample_test.c - op sample's reference: its generator against Random123's vectors, its weights against expl, its draws against
 * the exact distribution (chi-square), its filters against sets worked out here by another way, and what a draw depends on. */
#include "ir/ref.h"
#include "ir/sampling.h"

#include <stdlib.h>

enum { MAX_V = 64, DRAWS = 20000 };

static int failures;
static char why[4096];
static bool result(const char *name, bool ok) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failures++;
    return ok;
}
#define CHECK(x, ...) ((x) ? true : (snprintf(why, sizeof why, __VA_ARGS__), false))

static uint64_t state = 42;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

/* n rows of v logits with these records -> ids. */
static bool sample(const float *x, int64_t n, int64_t v, const Sampling *p, int32_t *ids, Err *e) {
    Arena *a = arena_new();
    Graph *g = graph_new(a, "sample");
    Type tx = {DT_F32, 2, {dim_sym(SYM_S), dim_const(v)}},
         tp = {DT_I32, 2, {dim_sym(SYM_S), dim_const(SAMPLING_WORDS)}};
    Value *in[] = {graph_input(g, "logits", tx), graph_input(g, "sampling", tp)};
    Node *node = graph_add(g, OP_sample, in, 2, NULL, 0, "ids", (Loc){0}, e);
    int32_t *words = malloc((size_t)n * SAMPLING_WORDS * sizeof *words);
    for (int64_t i = 0; i < n; i++) sampling_write(&p[i], words + i * SAMPLING_WORDS);
    Sizes s = {{[SYM_S] = n}};
    Tensor ti[] = {tensor_of(&tx, &s, (void *)(uintptr_t)x), tensor_of(&tp, &s, words)},
           to = tensor_of(&node->out[0]->type, &s, ids);
    bool ok = ref_node(node, ti, &to, &s, 1, e);
    free(words);
    arena_free(a);
    return ok;
}

/* counts[v]: how often v is drawn at positions 0 … DRAWS-1. */
static bool histogram(const float *x, int v, Sampling p, int64_t *counts) {
    static float rows[DRAWS / 100][MAX_V];
    Sampling each[LEN(rows)];
    int32_t ids[LEN(rows)];
    Err e = {0};
    memset(counts, 0, (size_t)v * sizeof *counts);
    for (int round = 0; round < 100; round++) {
        float *flat = &rows[0][0];
        for (size_t i = 0; i < LEN(rows); i++) {
            memcpy(flat + i * (size_t)v, x, (size_t)v * sizeof *x);
            each[i] = p, each[i].position = (uint32_t)((size_t)round * LEN(rows) + i);
        }
        if (!CHECK(sample(flat, LEN(rows), v, each, ids, &e), "%s", e.msg)) return false;
        for (size_t i = 0; i < LEN(rows); i++) {
            if (!CHECK(ids[i] >= 0 && ids[i] < v, "drew %d", ids[i])) return false;
            counts[ids[i]]++;
        }
    }
    return true;
}

/* Against probabilities w / sum w; those of 0 must not occur. 99.99% points of chi-square, Wilson-Hilferty. */
static bool fits(const int64_t *counts, const double *w, int v) {
    double sum = 0, chi = 0;
    int df = -1;
    for (int i = 0; i < v; i++) sum += w[i];
    for (int i = 0; i < v; i++) {
        double want = DRAWS * w[i] / sum;
        if (!CHECK(w[i] > 0 || !counts[i], "token %d, which the filter leaves out, was drawn %lld times", i,
                   (long long)counts[i]))
            return false;
        if (w[i] > 0) chi += ((double)counts[i] - want) * ((double)counts[i] - want) / want, df++;
    }
    if (df < 1) return true;
    double k = 2.0 / (9 * df), z = (cbrt(chi / df) - (1 - k)) / sqrt(k);
    return CHECK(z < 3.72, "chi-square %.1f at %d degrees of freedom (z %.2f)", chi, df, z);
}

/* The filters by another way than ref.c's: repeated maxima, real probabilities. */
static void filtered(const float *x, int v, const Sampling *p, double *w) {
    double sum = 0, kept = 0, most = -1e300, prefix = 0;
    int order[MAX_V];
    bool used[MAX_V] = {false};
    for (int i = 0; i < v; i++) most = x[i] > most ? x[i] : most;
    for (int k = 0; k < v; k++) {
        int best = -1;
        for (int i = 0; i < v; i++)
            if (!used[i] && (best < 0 || x[i] > x[best])) best = i;
        used[order[k] = best] = true;
    }
    int n = p->top_k > 0 && p->top_k < v ? p->top_k : v, keep = 0;
    for (int k = 0; k < n; k++) sum += exp((x[order[k]] - most) / p->temperature);
    while (keep < n && (!keep || prefix < p->top_p * sum - 1e-9 * sum))
        prefix += exp((x[order[keep++]] - most) / p->temperature);
    for (int i = 0; i < v; i++) w[i] = 0;
    for (int k = 0; k < keep; k++) {
        double e = exp((x[order[k]] - most) / p->temperature);
        if (e >= p->min_p * (1 - 1e-9)) w[order[k]] = e, kept += e;
    }
    (void)kept;
}

static void test_distribution(void) {
    static const struct {
        const char *name;
        Sampling p;
    } row[] = {
        {"chi2/plain", {.temperature = 1, .top_p = 1, .seed = 1}},
        {"chi2/cold", {.temperature = 0.5f, .top_p = 1, .seed = 2}},
        {"chi2/hot", {.temperature = 3, .top_p = 1, .seed = 3}},
        {"chi2/top-k", {.temperature = 1, .top_k = 5, .top_p = 1, .seed = 4}},
        {"chi2/top-p", {.temperature = 1, .top_p = 0.8f, .seed = 5}},
        {"chi2/min-p", {.temperature = 1, .top_p = 1, .min_p = 0.1f, .seed = 6}},
        {"chi2/k-and-p", {.temperature = 2, .top_k = 12, .top_p = 0.6f, .seed = 7}},
        {"chi2/all", {.temperature = 1.3f, .top_k = 15, .top_p = 0.95f, .min_p = 0.05f, .seed = 1ull << 40}},
        {"chi2/top-k-of-all", {.temperature = 1, .top_k = 20, .top_p = 1, .seed = 9}},
        {"chi2/top-k-beyond", {.temperature = 1, .top_k = 4000, .top_p = 1, .seed = 9, .request = 3}},
    };
    float x[20];
    for (int i = 0; i < 20; i++) x[i] = (float)(6 * uniform() - 3);
    x[7] = x[3], x[11] = x[3]; /* ties */
    for (size_t i = 0; i < LEN(row); i++) {
        int64_t counts[MAX_V];
        double w[MAX_V];
        filtered(x, 20, &row[i].p, w);
        result(row[i].name, histogram(x, 20, row[i].p, counts) && fits(counts, w, 20));
    }
}

static bool only(const float *x, int v, Sampling p,
                 const char *set) { /* set: '1' for each token that must be drawn, the others never */
    int64_t counts[MAX_V];
    if (!histogram(x, v, p, counts)) return false;
    for (int i = 0; i < v; i++)
        if (!CHECK((counts[i] > 0) == (set[i] == '1'), "token %d: drawn %lld times", i, (long long)counts[i]))
            return false;
    return true;
}

static void test_support(void) {
    const float ties[] = {1, 1, 1, 1, 1, 1, 1, 1}, steps[] = {0, 1, 2, 3, 4, 5}, far[] = {0, 100, -100, 100, 99.9f},
                zero[] = {-0.0f, 0, -0.0f, 0};
    const float inf[] = {-INFINITY, 2, INFINITY, 3, INFINITY}, none[] = {-INFINITY, -INFINITY, -INFINITY};
    const Sampling k3 = {.temperature = 1, .top_k = 3, .top_p = 1}, half = {.temperature = 1, .top_p = 0.5f},
                   p0 = {.temperature = 5, .top_p = 0}, m1 = {.temperature = 1, .top_p = 1, .min_p = 1};
    const Sampling plain = {.temperature = 1, .top_p = 1}, k1 = {.temperature = 50, .top_k = 1, .top_p = 1},
                   cold = {.temperature = 1e-30f, .top_p = 1};
    result("support/top-k-ties-lower-index", only(ties, 8, k3, "11100000"));
    result("support/top-p-ties-lower-index", only(ties, 8, half, "11110000"));
    result("support/top-p-0", only(steps, 6, p0, "000001"));
    result("support/min-p-1", only(far, 5, m1, "01010"));
    result("support/top-k-1", only(steps, 6, k1, "000001"));
    result("support/no-chance", only(far, 5, plain, "01011"));
    result("support/zeros-are-equal", only(zero, 4, (Sampling){.temperature = 1, .top_k = 3, .top_p = 1}, "1110"));
    result("support/infinite", only(inf, 5, plain, "00101"));
    result("support/all-minus-infinite", only(none, 3, plain, "111"));
    result("support/almost-greedy", only(steps, 6, cold, "000001"));
}

static void test_keys(void) {
    enum { V = 50, N = 40 };
    static float x[N * V];
    Sampling p[N], other[N];
    int32_t ids[N], again[N], one[N], seeds[N], requests[N];
    Err e = {0};
    for (int i = 0; i < N * V; i++) x[i] = (float)(4 * uniform());
    for (int i = 0; i < N; i++)
        p[i] = (Sampling){.temperature = 1,
                          .top_p = i % 3 ? 0.9f : 1,
                          .top_k = i % 2 * 30,
                          .seed = 11,
                          .request = 5,
                          .position = (uint32_t)i};
    bool ok = sample(x, N, V, p, ids, &e) && sample(x, N, V, p, again, &e);
    for (int i = 0; ok && i < N; i++) ok = sample(x + i * V, 1, V, p + i, one + i, &e);
    result("key/repeats", CHECK(ok && !memcmp(ids, again, sizeof ids), "two runs differ %s", e.msg));
    result("key/batch", CHECK(!memcmp(ids, one, sizeof ids), "a row alone draws another token"));
    for (int i = 0; i < N; i++) other[i] = p[i], other[i].seed = 11 + (1ull << 32);
    ok = sample(x, N, V, other, seeds, &e);
    for (int i = 0; i < N; i++) other[i] = p[i], other[i].request = 6;
    ok = ok && sample(x, N, V, other, requests, &e);
    int same_seed = 0, same_request = 0;
    for (int i = 0; i < N; i++) same_seed += ids[i] == seeds[i], same_request += ids[i] == requests[i];
    result("key/seed", CHECK(ok && same_seed < N / 4, "another seed: %d of %d equal", same_seed, N));
    result("key/request", CHECK(ok && same_request < N / 4, "another request: %d of %d equal", same_request, N));
}

static void test_greedy_and_errors(void) {
    const float x[] = {1, 3, 3, 2, NAN, 1, 1, 1, -0.0f, 0, -1, 0};
    const Sampling warm = {.temperature = 1, .top_p = 1}, cold = {.top_p = 1};
    const Sampling p[] = {cold, warm, cold};
    int32_t ids[3];
    Err e = {0};
    result("greedy", CHECK(sample(x, 3, 4, p, ids, &e) && ids[0] == 1 && ids[1] == -1 && ids[2] == 0, "%d %d %d %s",
                           ids[0], ids[1], ids[2], e.msg));
    const Sampling bad[] = {{.temperature = -1, .top_p = 1},
                            {.temperature = NAN, .top_p = 1},
                            {.temperature = 1, .top_p = 2},
                            {.temperature = 1, .top_p = 1, .top_k = -3},
                            {.temperature = 1, .top_p = 1, .min_p = 1.5f}};
    bool ok = true;
    for (size_t i = 0; i < LEN(bad); i++)
        ok = ok && CHECK(!sample(x, 1, 4, &bad[i], ids, &e) && strstr(e.msg, "row 0"), "record %zu was taken", i);
    result("refused", ok);
}

static void test_arithmetic(void) {
    static const uint32_t in[3][6] = {
        {0}, {~0u, ~0u, ~0u, ~0u, ~0u, ~0u}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0}};
    static const uint32_t out[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    bool ok = true;
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        philox(in[i], in[i] + 4, got);
        ok = ok && CHECK(!memcmp(got, out[i], sizeof got), "vector %d: %08x %08x %08x %08x", i, got[0], got[1], got[2],
                         got[3]);
    }
    result("philox/random123", ok);
    ok = true;
    for (int i = 0; ok && i < 200000; i++) {
        float most = (float)(40 * uniform() - 20), x = most - (float)(30 * uniform() * uniform()),
              t = (float)(0.2 + 3 * uniform());
        long double want = 0x1p40L * expl(((long double)x - most) / t), got = (long double)sampling_weight(x, most, t);
        ok = CHECK(fabsl(got - floorl(want)) <= 1, "weight of %a below %a at %a: %.0Lf, not %.3Lf", x, most, t, got,
                   want);
    }
    result("weight/expl", ok);
    ok = sampling_scale(~0ull, 1ull << 62) == (1ull << 62) - 1 && sampling_scale(0, 99) == 0 &&
         sampling_scale(1ull << 63, 7) == 3;
    for (int i = 0; ok && i < 1000; i++) {
        uint64_t u = (uint64_t)(uniform() * 0x1p64), t = (uint64_t)(uniform() * 0x1p62);
        ok = sampling_scale(u, t) == (uint64_t)((__extension__(unsigned __int128) u * t) >> 64);
    }
    result("scale", CHECK(ok, "wrong"));
    result("enough", CHECK(sampling_enough(100, 0.5f) == 50 && sampling_enough(101, 0.5f) == 51 &&
                               sampling_enough(1ull << 60, 0.25f) == 1ull << 58 && sampling_enough(5, 0) == 1,
                           "wrong"));
}

int main(void) {
    test_arithmetic();
    test_distribution();
    test_support();
    test_keys();
    test_greedy_and_errors();
    return failures != 0;
}
