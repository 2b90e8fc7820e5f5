/* sched_test.c - the scheduler without a device: pages, admission, windows, slots. A fake model generates ids. */
#include "runtime/sched.h"

#include <stdlib.h>

static int failures;
static char why[4096];

static void result(const char *name, bool ok) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failures++;
}
#define CHECK(x, ...) ((x) ? true : (snprintf(why, sizeof why, __VA_ARGS__), false))

enum { MAX_REQUESTS = 64, MAX_PROMPT = 400, EOS = 7 };
typedef struct World World;
struct World {
    SchedOptions o;
    int64_t window[2], pages[2];
    Request r[MAX_REQUESTS];
    size_t n;
    int32_t ids[MAX_REQUESTS][MAX_PROMPT], out[MAX_REQUESTS][2 * MAX_PROMPT];
    int64_t fed[MAX_REQUESTS]; /* positions seen */
    int64_t peak_window;
};
static const int32_t eos[] = {EOS};

static void world(World *w, int slots, int64_t tokens, int64_t chunk, int64_t window, int64_t full_pages,
                  int64_t window_pages) {
    *w = (World){.window = {0, window}, .pages = {full_pages, window_pages}};
    w->o = (SchedOptions){.slots = slots,
                          .max_tokens = tokens,
                          .chunk = chunk,
                          .max_blocks = 16,
                          .n_kv = 2,
                          .window = w->window,
                          .pages = w->pages,
                          .eos = eos,
                          .n_eos = 1};
}

static void request(World *w, int64_t n, int64_t max_new) {
    size_t i = w->n++;
    for (int64_t k = 0; k < n; k++) w->ids[i][k] = (int32_t)(1000 + k);
    w->r[i] = (Request){.ids = w->ids[i], .n_ids = n, .max_new = max_new, .out = w->out[i]};
}

/* What a request generates depends on itself alone. */
static int32_t model(size_t request, int64_t pos) {
    uint32_t h = (uint32_t)request * 2654435761u ^ (uint32_t)pos * 40503u;
    h ^= h >> 13;
    return h % 37 == 0 ? EOS : 100 + (int32_t)(h % 1000);
}

static bool check_token(World *w, const Sched *s, const SchedStep *t, int64_t i) {
    size_t r = t->request[i];
    int64_t pos = t->pos[i];
    if (!CHECK(pos == w->fed[r], "request %zu: position %lld after %lld", r, (long long)pos, (long long)w->fed[r]))
        return false;
    w->fed[r]++;
    int32_t want = pos < w->r[r].n_ids ? w->r[r].ids[pos] : -1 - t->slot[i];
    if (!CHECK(t->src[i] == want, "request %zu: source %d at %lld", r, t->src[i], (long long)pos)) return false;
    if (!CHECK((pos >= w->r[r].n_ids) == (i < t->n_decode), "generated tokens must come first")) return false;
    for (int k = 0; k < 2; k++) {
        int64_t first = w->window[k] && pos - w->window[k] + 1 > 0 ? pos - w->window[k] + 1 : 0;
        for (int64_t b = first / KV_PAGE; b <= pos / KV_PAGE; b++)
            if (!CHECK(sched_table(s, k, t->slot[i])[b] >= 0,
                       "request %zu reads page %lld of group %d, which it has not", r, (long long)b, k))
                return false;
    }
    return true;
}

/* No page belongs to two slots; pages in tables and free ones make up the pool. */
static bool check_pages(World *w, const Sched *s) {
    for (int k = 0; k < 2; k++) {
        char used[4096] = {0};
        int64_t n = 0;
        for (int slot = 0; slot < w->o.slots; slot++) {
            int64_t mine = 0;
            for (int64_t b = 0; b < w->o.max_blocks; b++) {
                int32_t page = sched_table(s, k, slot)[b];
                if (page < 0) continue;
                if (!CHECK(page < w->pages[k] && !used[page]++, "page %d of group %d is in two tables", page, k))
                    return false;
                n++, mine++;
            }
            if (k && mine > w->peak_window) w->peak_window = mine;
        }
        if (!CHECK(n + sched_free_pages(s, k) == w->pages[k], "group %d: %lld pages used, %lld free, of %lld", k,
                   (long long)n, (long long)sched_free_pages(s, k), (long long)w->pages[k]))
            return false;
    }
    return true;
}

static void commit(Sched *s, const SchedStep *t) {
    int32_t ids[MAX_REQUESTS];
    for (int64_t i = 0; i < t->n_rows; i++) ids[i] = model(t->row_request[i], t->pos[t->rows[i]]);
    sched_commit(s, ids);
}

/* Each step is committed when `ahead` more are made, or none can be. */
static bool run_ahead(World *w, int ahead, SchedStats *stats) {
    Err e = {0};
    const SchedStep *open[SCHED_STEPS];
    int n = 0;
    Sched *s = sched_new(&w->o, w->r, w->n, &e);
    bool ok = CHECK(s != NULL, "%s", e.msg);
    for (const SchedStep *t; ok && ((t = sched_next(s)) || n);) {
        if (t) {
            open[n++] = t;
            ok = CHECK(t->n <= w->o.max_tokens, "a step of %lld tokens", (long long)t->n) && check_pages(w, s);
            for (int64_t i = 0; ok && i < t->n; i++) ok = check_token(w, s, t, i);
        }
        if (n > ahead || !t) commit(s, open[0]), memmove(open, open + 1, (size_t)--n * sizeof *open);
    }
    for (int k = 0; ok && k < 2; k++) ok = CHECK(sched_free_pages(s, k) == w->pages[k], "group %d lost pages", k);
    for (size_t i = 0; ok && i < w->n; i++) {
        const Request *r = &w->r[i];
        ok = CHECK(r->done && w->fed[i] >= r->n_ids, "request %zu is not done", i);
        for (int64_t k = 0; ok && k < r->n_out; k++)
            ok = CHECK(r->out[k] == model(i, r->n_ids - 1 + k), "request %zu got another's token", i);
        bool stopped = r->n_out && r->out[r->n_out - 1] == EOS;
        ok = ok &&
             CHECK(stopped || r->n_out == r->max_new, "request %zu stopped after %lld tokens", i, (long long)r->n_out);
    }
    if (ok && stats) *stats = sched_stats(s);
    if (ok) ok = CHECK(sched_stats(s).in_flight == 0 && sched_stats(s).pages == 0, "slots or pages are left");
    sched_free(s);
    return ok;
}

static bool run(World *w, SchedStats *stats) { return run_ahead(w, 0, stats); }

static void mixed(World *w) {
    static const int64_t prompt[] = {1, 64, 65, 200, 3, 128, 127, 129, 17, 399, 2, 63};
    for (size_t i = 0; i < LEN(prompt); i++) request(w, prompt[i], prompt[i] % 3 ? 500 - prompt[i] : 1);
}

static void test_shapes(void) {
    static const int64_t shape[][4] = {{1, 1, 1, 1},       {4, 16, 16, 16}, {4, 3, 2, 16}, {3, 64, 64, 128},
                                       {8, 500, 400, 100}, {12, 5, 5, 64},  {2, 7, 100, 1}};
    for (size_t i = 0; i < LEN(shape); i++) {
        World *w = malloc(sizeof *w);
        char name[64];
        world(w, (int)shape[i][0], shape[i][1], shape[i][2], shape[i][3], 30, 9);
        mixed(w);
        snprintf(name, sizeof name, "mixed_%lld_slots_%lld_tokens", (long long)shape[i][0], (long long)shape[i][1]);
        result(name, run(w, NULL));
        free(w);
    }
}

/* A pool of exactly one worst case runs everything, one after another; one page less is an error that says so. */
static void test_admission(void) {
    World *w = malloc(sizeof *w);
    Err e = {0};
    SchedStats st;
    int64_t window = sched_worst_pages(20, 499, 16, false);
    world(w, 4, 16, 16, 20, 8, window);
    for (int i = 0; i < 5; i++) request(w, 300, 200);
    result("one_worst_case",
           run(w, &st) && CHECK(st.peak_in_flight == 1, "%lld were in flight", (long long)st.peak_in_flight));
    world(w, 4, 16, 16, 20, 16, 2 * window);
    for (int i = 0; i < 5; i++) request(w, 300, 200);
    result("two_worst_cases",
           run(w, &st) && CHECK(st.peak_in_flight == 2, "%lld were in flight", (long long)st.peak_in_flight));
    world(w, 4, 16, 16, 20, 7, window);
    request(w, 300, 200);
    Sched *s = sched_new(&w->o, w->r, w->n, &e);
    result("never_fits", CHECK(!s && strstr(e.msg, "may need 8 pages") && strstr(e.msg, "--kv-memory"), "%s",
                               s ? "accepted" : e.msg));
    sched_free(s);
    world(w, 4, 16, 16, 20, 100, 100);
    request(w, 390, 700);
    s = sched_new(&w->o, w->r, w->n, &e);
    result("beyond_table", CHECK(!s && strstr(e.msg, "the plan has room for 1024"), "%s", s ? "accepted" : e.msg));
    sched_free(s);
    free(w);
}

/* A window's pages are given back: never more than the reservation, however long the request. */
static void test_window(void) {
    static const int64_t w_c[][2] = {{1, 1}, {16, 1}, {16, 16}, {64, 1}, {65, 64}, {128, 33}, {128, 128}};
    for (size_t i = 0; i < LEN(w_c); i++) {
        World *w = malloc(sizeof *w);
        char name[64];
        int64_t worst = sched_worst_pages(w_c[i][0], 900, w_c[i][1], false);
        world(w, 1, 128, w_c[i][1], w_c[i][0], 16, worst);
        w->o.n_eos = 0;
        request(w, 395, 500);
        snprintf(name, sizeof name, "window_%lld_chunk_%lld", (long long)w_c[i][0], (long long)w_c[i][1]);
        bool ok = CHECK(worst <= (w_c[i][0] + w_c[i][1] + 63) / 64 + 1, "reserves %lld pages", (long long)worst);
        Err e = {0};
        int32_t id = 100;
        Sched *s = sched_new(&w->o, w->r, 1, &e);
        for (const SchedStep *t; ok && (t = sched_next(s)); sched_commit(s, &id)) {
            ok = check_pages(w, s);
            for (int64_t j = 0; ok && j < t->n; j++) ok = check_token(w, s, t, j);
        }
        ok = ok && CHECK(w->fed[0] == 894 && w->peak_window <= worst, "fed %lld, held %lld of %lld pages",
                         (long long)w->fed[0], (long long)w->peak_window, (long long)worst);
        result(name, ok);
        sched_free(s);
        free(w);
    }
}

/* One step ahead: the same ids. Without stop ids, which alone are a surprise, the same steps and pages as well. */
static void test_ahead(void) {
    static const int64_t shape[][4] = {{1, 1, 1, 1}, {4, 16, 16, 16}, {3, 64, 64, 128}, {12, 5, 5, 64}, {2, 7, 100, 1}};
    for (size_t i = 0; i < 2 * LEN(shape); i++) {
        World *w = malloc(sizeof *w);
        SchedStats st[2];
        char name[64];
        bool ok = true, stops = i % 2;
        for (int ahead = 0; ok && ahead < 2; ahead++) {
            world(w, (int)shape[i / 2][0], shape[i / 2][1], shape[i / 2][2], shape[i / 2][3], 30, 9);
            if (!stops) w->o.n_eos = 0;
            mixed(w);
            ok = run_ahead(w, ahead, &st[ahead]);
        }
        ok = ok && CHECK(st[0].generated == st[1].generated && st[0].prompt_tokens == st[1].prompt_tokens,
                         "%lld tokens generated, %lld ahead", (long long)st[0].generated, (long long)st[1].generated);
        if (!stops)
            ok = ok && CHECK(!memcmp(&st[0], &st[1], sizeof *st), "other steps or pages ahead: %lld, %lld",
                             (long long)st[0].steps, (long long)st[1].steps);
        snprintf(name, sizeof name, "ahead_%lld_slots_%s", (long long)shape[i / 2][0], stops ? "stops" : "no_stops");
        result(name, ok);
        free(w);
    }
}

/* A kept request that ends while a token more is under way goes on where it ended. */
static void test_ahead_kept(void) {
    World *w = malloc(sizeof *w);
    Err e = {0};
    world(w, 1, 8, 8, 16, 8, 8);
    w->o.n_eos = 0;
    request(w, 10, 300);
    w->r[0].keep = true, w->r[0].reserve = 400;
    Sched *s = sched_new(&w->o, w->r, 1, &e);
    const SchedStep *a = sched_next(s), *b = sched_next(s), *c;
    commit(s, a), c = sched_next(s), commit(s, b);
    sched_finish(s, 0);
    bool ok = CHECK(b->n_rows == 1 && c->n_rows == 1 && w->r[0].n_out == 1, "%lld ids", (long long)w->r[0].n_out);
    commit(s, c);
    ok = ok && CHECK(w->r[0].n_out == 1 && sched_cached(s, 0) == 10 && !sched_next(s), "%lld ids, %lld cached",
                     (long long)w->r[0].n_out, (long long)sched_cached(s, 0));
    w->r[0].n_ids = 14, w->r[0].n_out = 0, w->r[0].max_new = 3;
    ok = ok && CHECK(sched_continue(s, 0, &e), "%s", e.msg);
    a = sched_next(s);
    result("ahead_kept", ok && CHECK(a && a->n == 4 && a->pos[0] == 10, "goes on elsewhere"));
    sched_free(s);
    free(w);
}

/* The step behind one gives back a page that it reads; seen again from it, the page is there. */
static void test_rewind(void) {
    World *w = malloc(sizeof *w);
    Err e = {0};
    world(w, 1, 64, 64, 16, 8, 8);
    w->o.n_eos = 0;
    request(w, 60, 100);
    Sched *s = sched_new(&w->o, w->r, 1, &e);
    const SchedStep *t = sched_next(s);
    const int32_t *entry = sched_table(s, 1, 0), page = entry[0];
    bool ok = true;
    for (const SchedStep *next; ok && (next = sched_next(s)) && *entry >= 0; t = next) {
        commit(s, t);
        ok = CHECK(next->pos[0] < 64 + 15, "page 0 is still there at %d", next->pos[0]);
    }
    ok = ok && CHECK(*entry == -1 && sched_rewind(s) == t && *entry == page && t->n_tables == 1, "page 0 is not back");
    result("rewind", ok);
    sched_free(s);
    free(w);
}

/* A kept request goes back: the pages that the windows there reach into are kept, no more than was reserved, and none is lost. */
static bool back(int64_t window, int64_t chunk, int64_t answer, bool marked) {
    World *w = malloc(sizeof *w);
    Err e = {0};
    int32_t id = 100;
    int64_t worst = sched_worst_pages(window, 900, chunk, true);
    world(w, 1, 128, chunk, window, 16, worst);
    w->o.n_eos = 0;
    request(w, 150, answer);
    Request *r = &w->r[0];
    r->keep = true, r->reserve = 900, r->back = marked ? 150 : 0;
    Sched *s = sched_new(&w->o, w->r, 1, &e);
    bool ok = CHECK(s != NULL, "%s", e.msg);
    for (int turn = 0; ok && turn < 4; turn++) {
        for (const SchedStep *t; ok && (t = sched_next(s)); sched_commit(s, &id)) {
            ok = check_pages(w, s);
            for (int64_t j = 0; ok && j < t->n; j++) ok = check_token(w, s, t, j);
        }
        int64_t at = r->n_ids, cached = sched_cached(s, 0);
        ok = ok && CHECK(cached == at + answer - 1, "%lld cached", (long long)cached);
        sched_back(s, 0, cached); /* no step back */
        ok = ok && CHECK(sched_cached(s, 0) == cached, "went back without being asked");
        sched_back(s, 0, at);
        w->fed[0] = sched_cached(s, 0);
        ok = ok && check_pages(w, s) &&
             CHECK(w->fed[0] == at || (!marked && !w->fed[0]), "back at %lld, expected %lld", (long long)w->fed[0],
                   (long long)at);
        r->n_ids = at + 40, r->n_out = 0, r->back = marked ? r->n_ids : 0;
        for (int64_t k = at; k < r->n_ids; k++) w->ids[0][k] = (int32_t)(1000 + k);
        ok = ok && CHECK(sched_continue(s, 0, &e), "%s", e.msg);
    }
    ok = ok && CHECK(w->peak_window <= worst, "held %lld of %lld pages", (long long)w->peak_window, (long long)worst);
    sched_free(s);
    free(w);
    return ok;
}

static void test_back(void) {
    static const int64_t shape[][3] = {{16, 16, 1},  {16, 16, 10},   {16, 5, 300},   {64, 64, 300},
                                       {65, 1, 200}, {128, 33, 300}, {128, 128, 64}, {1, 7, 200}};
    for (size_t i = 0; i < LEN(shape); i++)
        for (int marked = 0; marked < 2; marked++) {
            char name[64];
            bool ok = back(shape[i][0], shape[i][1], shape[i][2], marked);
            snprintf(name, sizeof name, "back_%lld_%lld%s", (long long)shape[i][0], (long long)shape[i][2],
                     marked ? "_marked" : "");
            result(name, ok);
        }
}

static void test_edges(void) {
    World *w = malloc(sizeof *w);
    SchedStats st;
    world(w, 2, 8, 8, 16, 4, 4);
    result("no_requests", run(w, &st) && CHECK(!st.steps, "%lld steps", (long long)st.steps));
    world(w, 2, 8, 8, 16, 8, 8);
    for (int i = 0; i < 5; i++) request(w, 1 + i * 9, 0);
    result("prompt_only", run(w, &st) && CHECK(st.generated == 0 && st.prompt_tokens == 95, "%lld tokens",
                                               (long long)st.prompt_tokens));
    world(w, 8, 4, 4, 16, 64, 64);
    for (int i = 0; i < 20; i++) request(w, 2, 30);
    result("more_slots_than_tokens", run(w, NULL));
    free(w);
}

int main(void) {
    test_shapes();
    test_admission();
    test_window();
    test_ahead();
    test_ahead_kept();
    test_rewind();
    test_back();
    test_edges();
    return failures != 0;
}
