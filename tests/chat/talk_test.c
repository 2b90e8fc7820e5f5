/* talk_test.c - a sequence that goes on in its slot generates what one that is run from the start does, greedy and drawn;
 * the cache is not run again; interrupting, restarting and running out of room. On ref, a tiny model; pages and windows are crossed. */
#include "runtime/mode/talk.h"

#include <stdlib.h>

#define DIR "out/tests/chat/talk"

static int failures;
static char why[4096];
static void result(const char *name, bool ok) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failures++;
}
#define CHECK(x, ...) ((x) ? true : (snprintf(why, sizeof why, __VA_ARGS__), false))

typedef struct Run Run;
struct Run {
    Options o;
    Session s;
    Talk t;
    int64_t left; /* ids until the reader says stop; -1: never */
    bool interrupt;
};

static bool take(void *ctx, int32_t id) {
    Run *r = ctx;
    (void)id;
    if (r->interrupt && r->left == 1) r->t.interrupted = 1;
    return r->left < 0 || --r->left > 0 || r->interrupt;
}

static bool start(Run *r, double temperature, int64_t steps, int64_t chunk, Err *e) {
    memset(r, 0, sizeof *r);
    r->o = (Options){.plan = DIR "/plan.bin",
                     .mode = "generate",
                     .device = "ref",
                     .steps = steps,
                     .batch = -1,
                     .lines = -1,
                     .chunk = chunk,
                     .gpus = 1,
                     .threads = 1,
                     .temperature = temperature,
                     .top_p = 0.9,
                     .min_p = -1,
                     .top_k = -1,
                     .seed = 7,
                     .max_answer = -1};
    if (!session_open(&r->s, &r->o, e) || !talk_sampling(&r->s, e) || !session_load(&r->s, e)) return false;
    talk_open(&r->t, &r->s);
    r->t.n_stop = 0; /* a random model stops anywhere */
    return true;
}

static void end(Run *r) {
    talk_close(&r->t);
    session_close(&r->s);
}

static void say(Run *r, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        harmony_put(&r->t.ids, (int32_t)((seed >> 33) % 500));
    }
}

static bool go(Run *r, int64_t ids, TalkEnd want, Err *e) {
    TalkEnd got;
    r->left = ids;
    r->t.interrupted = 0;
    return CHECK(talk_run(&r->t, take, r, &got, e), "%s", e->msg) &&
           CHECK(got == want, "ended by %d, not %d", (int)got, (int)want);
}

/* Turns of these lengths, then the same in one run of a second sequence. */
static bool same_as_fresh(double temperature, int64_t chunk) {
    static const int64_t prompt[] = {5, 1, 70, 3, 130}, answer[] = {20, 66, 9, 1, 30};
    Run a, b;
    Err e = {0};
    bool ok = CHECK(start(&a, temperature, 600, chunk, &e), "%s", e.msg);
    for (size_t i = 0; ok && i < LEN(prompt); i++) {
        int64_t cached = a.t.sched ? sched_cached(a.t.sched, 0) : 0, before = (int64_t)a.t.ids.n;
        say(&a, prompt[i], i + 1);
        ok = go(&a, answer[i], TALK_STOPPED, &e) &&
             CHECK(a.t.r.n_out == answer[i], "%lld generated", (long long)a.t.r.n_out) &&
             CHECK(a.t.ran == before + prompt[i] - cached, "turn %zu ran %lld prompt tokens, %lld were new", i,
                   (long long)a.t.ran, (long long)(before + prompt[i] - cached));
        ok = ok && CHECK(start(&b, temperature, 600, chunk, &e), "%s", e.msg);
        if (!ok) break;
        for (size_t k = 0; k < a.t.ids.n - (size_t)answer[i]; k++) harmony_put(&b.t.ids, a.t.ids.at[k]);
        ok = go(&b, answer[i], TALK_STOPPED, &e) &&
             CHECK(a.t.ids.n == b.t.ids.n && !memcmp(a.t.ids.at, b.t.ids.at, a.t.ids.n * sizeof(int32_t)),
                   "turn %zu: the ids differ from a fresh run's", i);
        end(&b);
    }
    end(&a);
    return ok;
}

/* What was generated makes way for something else, as when reasoning is dropped: what follows is a fresh run's. marked: `back`
 * was said before, so that only what follows it is run again, however far the windows have moved on. */
static bool changed(double temperature, int64_t chunk, bool marked) {
    static const int64_t prompt[] = {70, 1, 130, 40, 3}, answer[] = {200, 5, 90, 1, 140};
    Run a, b;
    Err e = {0};
    bool ok = CHECK(start(&a, temperature, 900, chunk, &e), "%s", e.msg);
    int64_t back = 0;
    for (size_t i = 0; ok && i < LEN(prompt); i++) {
        say(&a, prompt[i], i + 1);
        if (marked) a.t.back = (int64_t)a.t.ids.n;
        int64_t n = (int64_t)a.t.ids.n, from = i ? marked ? back : 0 : 0;
        ok = go(&a, answer[i], TALK_STOPPED, &e) &&
             CHECK(i == 0 || !marked || a.t.ran == n - from, "turn %zu ran %lld prompt tokens, expected %lld", i,
                   (long long)a.t.ran, (long long)(n - from)) &&
             CHECK(start(&b, temperature, 900, chunk, &e), "%s", e.msg);
        if (!ok) break;
        for (int64_t k = 0; k < n; k++) harmony_put(&b.t.ids, a.t.ids.at[k]);
        ok = go(&b, answer[i], TALK_STOPPED, &e) &&
             CHECK(a.t.ids.n == b.t.ids.n && !memcmp(a.t.ids.at, b.t.ids.at, a.t.ids.n * sizeof(int32_t)),
                   "turn %zu: the ids differ from a fresh run's", i);
        end(&b);
        a.t.ids.n = (size_t)(back = n); /* all that was generated goes */
        say(&a, 9, 100 + i);
        talk_changed(&a.t, (size_t)n);
    }
    talk_restart(&a.t);
    ok = ok && CHECK(sched_stats(a.t.sched).pages == 0, "pages are left");
    end(&a);
    return ok;
}

static bool interrupted(void) {
    Run r;
    Err e = {0};
    bool ok = CHECK(start(&r, 0, 300, -1, &e), "%s", e.msg);
    say(&r, 10, 1);
    r.interrupt = true;
    ok = ok && go(&r, 5, TALK_INTERRUPTED, &e) && CHECK(r.t.ids.n == 15, "%zu ids", r.t.ids.n);
    say(&r, 10, 2);
    ok = ok && go(&r, 5, TALK_INTERRUPTED, &e) &&
         CHECK(r.t.ids.n == 30 && sched_cached(r.t.sched, 0) == 29, "%zu ids, %lld cached", r.t.ids.n,
               (long long)sched_cached(r.t.sched, 0));
    end(&r);
    return ok;
}

static bool restarted(void) {
    Run r;
    Err e = {0};
    int32_t first[40];
    bool ok = CHECK(start(&r, 1, 300, -1, &e), "%s", e.msg);
    for (int i = 0; ok && i < 3; i++) {
        say(&r, 20, 5);
        ok = go(&r, 20, TALK_STOPPED, &e);
        if (ok && !i) memcpy(first, r.t.ids.at, sizeof first);
        ok = ok &&
             CHECK(r.t.ids.n == 40 && !memcmp(first, r.t.ids.at, sizeof first), "begun again, it says something else");
        if (ok) talk_restart(&r.t);
    }
    ok = ok && CHECK(sched_stats(r.t.sched).pages == 0, "pages are left");
    end(&r);
    return ok;
}

static bool full(void) {
    Run r;
    Err e = {0};
    bool ok = CHECK(start(&r, 0, 64, -1, &e), "%s", e.msg);
    say(&r, 60, 5);
    ok = ok && go(&r, -1, TALK_FULL, &e) && CHECK(r.t.r.n_out == 5, "%lld generated", (long long)r.t.r.n_out);
    TalkEnd got;
    ok = ok && CHECK(!talk_run(&r.t, take, &r, &got, &e) && strstr(e.msg, "do not fit"), "taken");
    end(&r);
    if (!ok) return false;
    ok = CHECK(start(&r, 0, 64, -1, &e), "%s", e.msg);
    r.t.most = 3;
    say(&r, 10, 5);
    ok = ok && go(&r, -1, TALK_MOST, &e) && CHECK(r.t.r.n_out == 3, "%lld generated", (long long)r.t.r.n_out);
    end(&r);
    return ok;
}

/* What is shown of `text`, which comes in pieces of `piece` bytes. */
static bool stopped(const char *text, const char *const *stops, const char *want) {
    bool ok = true;
    size_t n = strlen(text);
    for (size_t piece = 1; ok && piece <= n; piece++) {
        StopText s = {.stops = stops};
        Text out = {0};
        text_put(&out, "", 0);
        for (size_t i = 0; i < n; i += piece) stop_text(&s, text + i, n - i < piece ? n - i : piece, &out);
        bool found = s.found;
        stop_text_end(&s, &out);
        ok = CHECK(!strcmp(out.at, want) && found == (strcmp(text, want) != 0), "%s in pieces of %zu: \"%s\", expected \"%s\"", text, piece, out.at, want);
        text_free(&out);
    }
    return ok;
}

#define STOPS(...) ((const char *const[]){__VA_ARGS__, NULL})
static bool stop_texts(void) {
    return stopped("EDCBA", STOPS("BAZZ", "A"), "EDCB") &&  /* one stops while another is half matched */
           stopped("EDCBA", STOPS("A", "BAZZ"), "EDCB") && stopped("EDCBAZZ", STOPS("BAZZ", "ZZZ"), "EDC") &&
           stopped("EDCBA", STOPS("BAZZ"), "EDCBA") &&      /* a half match at the end is text */
           stopped("xCBAx", STOPS("A", "BA", "CBAy"), "xC") /* of those that end together the longest */ &&
           stopped("aab", STOPS("ab"), "a") && stopped("aaab", STOPS("aab"), "a") && stopped("abcabd", STOPS("abd"), "abc") &&
           stopped("abcd", STOPS("bcd", "c"), "ab") && stopped("abc", STOPS("abc"), "") && stopped("abc", STOPS("x"), "abc");
}

int main(void) {
    if (system("mkdir -p " DIR " && { out/gptoss-mkmodel tests/models/tiny.json " DIR
               "/model --seed 4 && out/gptoss-compile graphs/toy.lua --arch gfx90a --model " DIR "/model "
               "--precision strict --max-batch 2 --max-tokens 48 -o " DIR "/plan.bin; } >" DIR "/log 2>&1"))
        return printf("FAIL compile: see " DIR "/log\n"), 1;
    result("continued/greedy", same_as_fresh(0, -1));
    result("continued/drawn", same_as_fresh(1.1, -1));
    result("continued/small-chunks", same_as_fresh(1, 7));
    result("changed/greedy", changed(0, -1, true));
    result("changed/drawn", changed(1.1, -1, true));
    result("changed/small-chunks", changed(1, 7, true));
    result("changed/unmarked", changed(1, -1, false));
    result("interrupted", interrupted());
    result("restarted", restarted());
    result("full", full());
    result("stop-texts", stop_texts());
    return failures != 0;
}
