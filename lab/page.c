/* page.c - the page for people: what matters first. Everything in it comes from the JSON page (lab.h). */
#include "lab.h"

#include <math.h>

enum { NAME = 40, SHOWN = 8 /* rows of a list */, KERNELS = 8 /* of a table */ };

static const char *name_of(const json_t *page, int plan) {
    return json_text(json_array_get(json_object_get(page, "plans"), (size_t)plan), "name");
}

static long long whole(const json_t *o, const char *key) {
    return (long long)json_number_value(json_object_get(o, key));
}

/* "1.23M"; "-" for what is not known. */
static const char *si(char to[16], double x) {
    static const char unit[] = " KMGTP";
    int u = 0;
    double v = fabs(x);
    for (; v >= 999.5 && u < 5; u++) v /= 1000;
    if (isnan(x)) snprintf(to, 16, "-");
    else
        snprintf(to, 16,
                 v >= 99.95 || (!u && v == floor(v)) ? "%.0f%.*s"
                 : v >= 9.995                        ? "%.1f%.*s"
                                                     : "%.2f%.*s",
                 v, u > 0, unit + u);
    return to;
}

static const char *percent(char to[16], double x) {
    if (isnan(x)) snprintf(to, 16, "-");
    else snprintf(to, 16, x && x < 0.0995 ? "%.1f%%" : "%.0f%%", 100 * x);
    return to;
}

/* A long kernel name keeps its end, where its shape stands. */
static const char *fit(char to[NAME + 1], const char *s) {
    size_t n = strlen(s);
    if (n <= NAME) snprintf(to, NAME + 1, "%s", s);
    else snprintf(to, NAME + 1, "%.*s..%s", NAME / 2 - 2, s, s + n - NAME / 2);
    return to;
}

/* The section's name once, in front of its first line. */
static void head(Text *t, const char **section) {
    text_add(t, "%-10s", *section);
    *section = "";
}

/* --- result and speed ---------------------------------------------------------------------------------------------------- */

static void add_result(const json_t *page, Text *t) {
    const json_t *result = json_object_get(page, "result"), *why = json_object_get(result, "why");
    static const char *const words[][2] = {{"right", "RIGHT: every kernel and the whole are within tolerance"},
                                           {"wrong", "WRONG"},
                                           {"not built", "NOT BUILT"},
                                           {"not applied", "NOT APPLIED"},
                                           {"not judged", "NOT JUDGED"}};
    bool whole_judged = json_object_get(json_object_get(page, "end_to_end"), "parity") != NULL;
    json_t *w;
    size_t i;
    for (i = 0; i < LEN(words); i++)
        if (!strcmp(json_text(result, "is"), words[i][0]))
            text_add(t, "verdict   %s\n",
                     i || whole_judged ? words[i][1]
                                       : "RIGHT, as far as it was judged: every kernel alone, not the whole");
    json_array_foreach(why, i, w) if (i < SHOWN) text_add(t, "          %s\n", json_string_value(w));
    if (json_array_size(why) > SHOWN) text_add(t, "          and %zu more\n", json_array_size(why) - SHOWN);
    const json_t *reduced = json_object_get(page, "reduced");
    if (json_object_get(reduced, "file"))
        text_add(t, "          smallest graph that still fails: %lld node%s of %lld, %s (gptoss-lab --replay runs it)\n",
                 whole(reduced, "nodes"), whole(reduced, "nodes") == 1 ? "" : "s", whole(reduced, "of"), json_text(reduced, "file"));
    else if (json_object_get(reduced, "why")) text_add(t, "          not reduced: %s\n", json_text(reduced, "why"));
}

static const char *meaning(double low, double high) {
    return isnan(low) ? "too few pairs" : high < 1 ? "faster" : low > 1 ? "SLOWER" : "no difference seen";
}

static void add_ratio(const json_t *r, Text *t) {
    char a[16], b[16];
    double low = json_figure(r, "low"), high = json_figure(r, "high");
    text_add(t, "%-8s %9s -> %9s us a step, ratio %.3f", json_text(r, "name"), si(a, json_figure(r, "a_us")),
             si(b, json_figure(r, "b_us")), json_figure(r, "ratio"));
    if (!isnan(low)) text_add(t, " [%.3f, %.3f]", low, high);
    text_add(t, ": %s%s\n", meaning(low, high),
             json_is_true(json_object_get(r, "narrow")) ? "" : " (interval wider than asked for)");
}

/* What cost.c reckons, where no device says more. */
static void add_predicted(const json_t *page, Text *t) {
    const json_t *tests = json_object_get(page, "tests"), *test;
    char a[16], b[16];
    size_t i;
    json_array_foreach((json_t *)tests, i, test) {
        double from = json_figure(json_object_get(test, "a"), "step_us"), to = json_figure(json_object_get(test, "b"), "step_us");
        if (isnan(from) || isnan(to)) continue;
        text_add(t, "          predicted %s: %s -> %s us a step, ratio %.3f%s\n", json_text(test, "test"), si(a, from), si(b, to), to / from,
                 i ? "" : " (least time of each kernel, and each launch: near a bound from below)");
    }
}

static void add_speed(const json_t *page, Text *t) {
    const json_t *speed = json_object_get(page, "speed"), *tests = json_object_get(speed, "tests");
    const char *section = "speed";
    json_t *r;
    size_t i;
    if (json_object_get(speed, "not_measured"))
        text_add(t, "speed     not measured: %s\n", json_text(speed, "not_measured")), add_predicted(page, t);
    if (json_object_get(speed, "error")) head(t, &section), text_add(t, "%s\n", json_text(speed, "error"));
    json_array_foreach(tests, i, r) head(t, &section), add_ratio(r, t);
    if (json_array_size(tests))
        text_add(t, "          on %s, %lld pairs A B A B; ratio B/A of the time, 95%% interval of the median\n",
                 json_text(speed, "device"), whole(json_array_get(tests, 0), "pairs"));
}

/* --- rules, graphs, sources ---------------------------------------------------------------------------------------------- */

static void add_rules(const json_t *page, Text *t) {
    static const char *const lists[][2] = {
        {"fired", ""}, {"missed", ""}, {"lost", "to"}, {"refused", ""}, {"took", "by"}};
    const json_t *rules = json_object_get(page, "rules");
    const char *section = "rules";
    json_t *r;
    size_t i;
    for (size_t l = 0; l < LEN(lists); l++) json_array_foreach(json_object_get(rules, lists[l][0]), i, r) {
            head(t, &section);
            text_add(t, "%-7s %s", lists[l][0], json_text(r, "rule"));
            if (l == 1) text_add(t, ": nearest in %s: %s\n", json_text(r, "graph"), json_text(r, "why"));
            else
                text_add(t, ": %lld place%s, first %s %s: %s\n", whole(r, "places"), whole(r, "places") == 1 ? "" : "s",
                         json_text(r, "graph"), json_text(r, "node"), json_text(r, "why"));
        }
    if (json_array_size(json_object_get(rules, "missed")) + json_array_size(json_object_get(rules, "lost")) + json_array_size(json_object_get(rules, "refused")))
        text_add(t, "          what to do then: docs/fusions.md, Reading the outcome\n");
    json_array_foreach(json_object_get(json_array_get(json_object_get(page, "plans"), 1), "warnings"), i, r)
        head(t, &section),
        text_add(t, "warning %s\n", json_string_value(r));
}

static void add_nodes(const json_t *g, const char *key, char sign, Text *t) {
    const json_t *list = json_object_get(g, key);
    json_t *n;
    size_t i;
    json_array_foreach(list, i, n) if (i < SHOWN)
        text_add(t, "          %c %lld x %s\n", sign, whole(n, "count"), json_text(n, "node"));
    if (json_array_size(list) > SHOWN)
        text_add(t, "          %c %zu more kinds of node\n", sign, json_array_size(list) - SHOWN);
}

static void add_graphs(const json_t *page, Text *t) {
    const char *section = "graphs";
    json_t *g;
    size_t i;
    json_array_foreach(json_object_get(page, "graphs"), i, g) {
        const json_t *n = json_object_get(g, "nodes"), *l = json_object_get(g, "launches");
        if (!json_array_size(json_object_get(g, "removed")) && !json_array_size(json_object_get(g, "added"))) continue;
        head(t, &section);
        text_add(
            t, "%s: %lld -> %lld nodes, %lld -> %lld launches\n", json_text(g, "graph"),
            (long long)json_integer_value(json_array_get(n, 0)), (long long)json_integer_value(json_array_get(n, 1)),
            (long long)json_integer_value(json_array_get(l, 0)), (long long)json_integer_value(json_array_get(l, 1)));
        add_nodes(g, "removed", '-', t), add_nodes(g, "added", '+', t);
    }
    if (*section && json_object_get(page, "graphs")) text_add(t, "graphs    the same\n");
}

static void add_sources(const json_t *page, Text *t) {
    const json_t *list = json_object_get(page, "sources");
    const char *section = "sources";
    json_t *s;
    size_t i;
    json_array_foreach(list, i, s) if (i < SHOWN) head(t, &section),
        text_add(t, "%-7s %s: -%lld +%lld lines\n", json_text(s, "state"), json_text(s, "name"),
                 whole(s, "lines_removed"), whole(s, "lines_added"));
    if (json_array_size(list) > SHOWN) text_add(t, "          and %zu more\n", json_array_size(list) - SHOWN);
    if (list && *section) text_add(t, "sources   the same\n");
}

/* --- verdicts ------------------------------------------------------------------------------------------------------------ */

static bool was_tried(const json_t *page, const json_t *kernel) {
    const json_t *fired = json_object_get(json_object_get(page, "rules"), "fired");
    json_t *r;
    size_t i;
    json_array_foreach(fired, i, r) if (!strcmp(json_text(r, "rule"), json_text(kernel, "rule"))) return true;
    return !json_array_size(fired);
}

/* What is wrong, and the kernels of the rules on trial; what else is new and right, in one line. */
static void add_alone(const json_t *page, Text *t) {
    const json_t *alone = json_object_get(page, "alone");
    const char *section = "alone";
    char name[NAME + 1];
    json_t *k;
    size_t i, shown = 0, new = 0;
    if (!json_object_get(alone, "kernels")) return;
    json_array_foreach(json_object_get(alone, "kernels"), i, k) {
        bool ok = json_is_true(json_object_get(k, "ok"));
        if ((ok && !was_tried(page, k)) || shown == SHOWN) {
            new ++;
            continue;
        }
        head(t, &section), shown++;
        text_add(t, "%-5s %-*s %-14s %3lld checks, nmse %.2g of %.2g%s%s\n", ok ? "ok" : "WRONG", NAME,
                 fit(name, json_text(k, "kernel")), json_text(k, "rule"), whole(k, "checks"), json_figure(k, "nmse"),
                 json_figure(k, "tolerance"), ok ? "" : ": ", ok ? "" : json_text(k, "says"));
    }
    head(t, &section);
    if (new) text_add(t, "%zu more new kernels%s; ", new, shown == SHOWN ? "" : ", all right");
    if (json_is_true(json_object_get(alone, "new_only")))
        text_add(t, "the other kernels are too long for the emulator");
    else text_add(t, "%lld checks of the other kernels are right", whole(alone, "other_checks"));
    if (json_object_get(alone, "unfinished")) text_add(t, ", the rest was %s", json_text(alone, "unfinished"));
    if (whole(alone, "left_out"))
        text_add(t, "; %lld checks were left out, too long for this device", whole(alone, "left_out"));
    if (whole(alone, "sample"))
        text_add(t, " (of new kernels %lld workgroups a launch were run)", whole(alone, "sample"));
    bool emu = !strcmp(json_text(alone, "device"), "emu");
    text_add(t, " (on %s%s)\n", json_text(alone, "device"),
             emu && whole(alone, "ways") > 1 ? ", races watched, waves in three orders" : "");
}

static void add_row_figures(const json_t *o, const char *label, Text *t) {
    if (o)
        text_add(t, "          %-22s nmse %-9.2g (worst %.2g)  kl %-9.2g (worst %.2g)  top-1 agrees in %lld of %lld\n",
                 label, json_figure(o, "nmse"), json_figure(o, "nmse_worst"), json_figure(o, "kl"),
                 json_figure(o, "kl_worst"), whole(o, "top1_agree"), whole(o, "rows"));
}

static void add_tokens(const json_t *o, const char *label, Text *t) {
    if (o)
        text_add(t, "          %-22s %lld of %lld prompts continued alike, %lld of %lld tokens before they part\n",
                 label, whole(o, "alike"), whole(o, "prompts"), whole(o, "before_parting"), whole(o, "tokens"));
}

static void add_end_to_end(const json_t *page, Text *t) {
    const json_t *o = json_object_get(page, "end_to_end"), *p = json_object_get(o, "parity");
    char label[64];
    if (!o) return;
    text_add(t, "%-10s", "whole");
    if (json_object_get(o, "not_judged")) text_add(t, "not judged: %s\n", json_text(o, "not_judged"));
    else if (p)
        text_add(t, "parity on %s%s: %lld values in %lld steps, %lld out of tolerance\n", json_text(p, "device"),
                 json_object_get(page, "random_model") ? ", random weights" : "", whole(p, "stages"), whole(p, "steps"),
                 whole(p, "bad"));
    else text_add(t, "no parity%s%s\n", json_object_get(o, "no_ref") ? ": " : "", json_text(o, "no_ref"));
    const char *a = name_of(page, 0), *b = name_of(page, 1);
    snprintf(label, sizeof label, "%s : ref", a), add_row_figures(json_object_get(o, "without_ref"), label, t);
    snprintf(label, sizeof label, "%s : ref", b), add_row_figures(json_object_get(o, "with_ref"), label, t);
    snprintf(label, sizeof label, "%s : %s", b, a), add_row_figures(json_object_get(o, "with_without"), label, t);
    snprintf(label, sizeof label, "tokens %s : %s", b, a),
        add_tokens(json_object_get(o, "tokens_with_without"), label, t);
    snprintf(label, sizeof label, "tokens %s : ref", b), add_tokens(json_object_get(o, "tokens_with_ref"), label, t);
}

/* --- kernels side by side ------------------------------------------------------------------------------------------------ */

static void add_use(const json_t *u, const char *sign, const char *name, Text *t) {
    char buf[9][16], regs[24], shown[NAME + 1];
    if (!u) return;
    bool sum = !json_object_get(u, "vgprs");
    bool known = whole(u, "vgprs") > 0; /* a CPU's kernels have no such figures */
    snprintf(regs, sizeof regs, known ? "%lld+%lld" : "-", whole(u, "vgprs"), whole(u, "sgprs"));
    text_add(t, "%s %-*s %4lld %8s %6s %5s %7s %6s %7s %7s %7s %8s %s", sign, NAME, fit(shown, name),
             whole(u, "launches"), sum ? "" : regs, sum ? "" : si(buf[0], known ? (double)whole(u, "lds") : NAN),
             sum ? "" : percent(buf[1], json_figure(u, "occupancy")), si(buf[2], json_figure(u, "instructions")),
             percent(buf[3], json_figure(u, "mfma_share")), si(buf[4], json_figure(u, "bytes_asked")),
             si(buf[5], json_figure(u, "least_bytes")), si(buf[6], json_figure(u, "flops")),
             si(buf[7], json_figure(u, "predicted_us")), json_text(u, "bound"));
    if (json_object_get(u, "work_at")) text_add(t, " (its node's work: at %s)", json_text(u, "work_at"));
    if (!isnan(json_figure(u, "launch_us"))) text_add(t, "+ %s to launch", si(buf[8], json_figure(u, "launch_us")));
    if (whole(u, "spills")) text_add(t, " %lld SPILLS", whole(u, "spills"));
    text_add(t, "\n");
}

static bool changed(const json_t *k) { return !json_equal(json_object_get(k, "a"), json_object_get(k, "b")); }

static double weight(const json_t *k) {
    double a = json_figure(json_object_get(k, "a"), "predicted_us"),
           b = json_figure(json_object_get(k, "b"), "predicted_us");
    return fmax(isnan(a) ? 0 : a, isnan(b) ? 0 : b);
}

/* Do fewer than KERNELS changed ones take longer? */
static bool among_longest(const json_t *kernels, size_t which) {
    json_t *k;
    size_t i, longer = 0;
    double own = weight(json_array_get(kernels, which));
    json_array_foreach(kernels, i, k) if (i != which && changed(k)) longer +=
        weight(k) > own || (weight(k) == own && i < which);
    return longer < KERNELS;
}

static void add_test(const json_t *test, Text *t) {
    char title[NAME + 1];
    json_t *k;
    size_t i, same = 0, more = 0;
    const json_t *kernels = json_object_get(test, "kernels");
    snprintf(title, sizeof title, "%s: %lld token%s, depth %lld", json_text(test, "test"), whole(test, "tokens"),
             whole(test, "tokens") == 1 ? "" : "s", whole(test, "depth"));
    text_add(t, "\n%-*s %4s %8s %6s %5s %7s %6s %7s %7s %7s %8s %s\n", NAME + 2, title, "runs", "v+sgprs", "lds", "occ",
             "instr", "mfma", "asked", "least B", "FLOPs", "pred us", "bound");
    json_array_foreach(kernels, i, k) {
        if (!changed(k)) same++;
        else if (!among_longest(kernels, i)) more++;
        else
            add_use(json_object_get(k, "a"), "-", json_text(k, "kernel"), t),
                add_use(json_object_get(k, "b"), "+", json_text(k, "kernel"), t);
    }
    if (more) text_add(t, "  %zu shorter kernel%s changed too (--format json has all)\n", more, more == 1 ? "" : "s");
    if (same) text_add(t, "= %zu kernel%s unchanged\n", same, same == 1 ? "" : "s");
    add_use(json_object_get(test, "a"), "-", "step", t);
    add_use(json_object_get(test, "b"), "+", "step", t);
}

static bool is_alike(const json_t *r) { return json_figure(r, "low") <= 1 && json_figure(r, "high") >= 1; }

static void add_kernel_speed(const json_t *page, Text *t) {
    const json_t *list = json_object_get(json_object_get(page, "speed"), "kernels");
    char name[NAME + 1], a[16], b[16];
    json_t *r;
    size_t i, alike = 0, noise = 0;
    if (!json_array_size(list)) return;
    text_add(t, "\n%-*s %9s %9s  ratio\n", NAME + 2, "kernels on the device, us in a step", name_of(page, 0),
             name_of(page, 1));
    json_array_foreach(list, i, r) {
        const char *what = json_text(r, "name"), *kernel = strchr(what, ' ');
        bool all = kernel && !strcmp(kernel, " all");
        if (!all && (is_alike(r) || json_is_true(json_object_get(r, "same_code")))) {
            *(is_alike(r) ? &alike : &noise) += 1;
            continue;
        }
        text_add(t, "  %-*s %9s %9s", NAME, fit(name, what), si(a, json_figure(r, "a_us")),
                 si(b, json_figure(r, "b_us")));
        if (!isnan(json_figure(r, "ratio"))) text_add(t, "  %.3f", json_figure(r, "ratio"));
        if (!isnan(json_figure(r, "low"))) text_add(t, " [%.3f, %.3f]", json_figure(r, "low"), json_figure(r, "high"));
        text_add(t, "\n");
    }
    if (alike) text_add(t, "= %zu kernel%s with no difference seen\n", alike, alike == 1 ? "" : "s");
    if (noise)
        text_add(t, "= %zu more differ%s, though the code is the same and runs as often: that is the device's noise (--format json has %s)\n", noise,
                 noise == 1 ? "s" : "", noise == 1 ? "it" : "them");
}

static void add_legend(const json_t *page, Text *t) {
    if (!json_array_size(json_object_get(page, "tests"))) return;
    if (json_object_get(page, "counts_sample"))
        text_add(t, "counted: %lld workgroups of each launch on emu, on made-up values, and reckoned up to all; attention, which depends on depth, is not\n",
                 whole(page, "counts_sample"));
    if (json_object_get(page, "not_counted")) text_add(t, "not counted on emu: %s\n", json_text(page, "not_counted"));
    text_add(t,
             "-: %s, +: %s; asked: bytes its loads and stores ask for; least B: each input and output once; pred: at "
             "least so long, for its bound\n",
             name_of(page, 0), name_of(page, 1));
    const json_t *step = json_object_get(json_array_get(json_object_get(page, "tests"), 0), "b");
    double each = json_figure(step, "launch_us") / json_figure(step, "launches");
    if (!isnan(each)) text_add(t, "to launch: %.1f us each (measured on an H200, for others assumed)\n", each);
}

void page_text(const json_t *page, Text *t) {
    const json_t *tried = json_object_get(page, "tried");
    json_t *test;
    size_t i;
    if (*json_text(page, "second")) text_add(t, "%s and %s", json_text(page, "first"), json_text(page, "second"));
    else text_add(t, "%s without and with", json_text(page, "first"));
    for (i = 0; i < json_array_size(tried); i++)
        text_add(t, "%s %s", i ? "," : "", json_string_value(json_array_get(tried, i)));
    text_add(t, ": %s, %s, %s\n\n", json_text(page, "model"), json_text(page, "arch"), json_text(page, "precision"));
    add_result(page, t), add_speed(page, t), add_rules(page, t), add_graphs(page, t), add_sources(page, t);
    add_alone(page, t), add_end_to_end(page, t);
    json_array_foreach(json_object_get(page, "tests"), i, test) add_test(test, t);
    add_legend(page, t);
    add_kernel_speed(page, t);
}
