/* lab.c - a run of the lab: its parts in order, and the result. See lab.h. */
#include "lab.h"

#include "ir/json.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

double json_figure(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

json_t *json_figure_new(double x) { return isfinite(x) ? json_real(x) : json_null(); }

void lab_wrong(Lab *lab, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < lab->wrong.n; i++)
        if (!strcmp(lab->wrong.at[i], line)) return;
    PUSH(lab->a, lab->wrong, arena_strdup(lab->a, line));
}

/* --- a folder to work in ------------------------------------------------------------------------------------------------- */

static bool make_work(Lab *lab, Err *e) {
    const char *tmp = getenv("TMPDIR");
    if (lab->o->keep) {
        lab->work = lab->o->keep;
        if (mkdir(lab->work, 0777) && errno != EEXIST) return err_set(e, "--keep %s: %s", lab->work, strerror(errno));
        for (int i = 0; i < 2; i++)
            if (mkdir(arena_printf(lab->a, "%s/%s", lab->work, i ? "with" : "without"), 0777) && errno != EEXIST)
                return err_set(e, "--keep %s: %s", lab->work, strerror(errno));
        return true;
    }
    char *made = arena_printf(lab->a, "%s/gptoss-lab-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    lab->work = mkdtemp(made);
    return lab->work || err_set(e, "%s: %s", made, strerror(errno));
}

static void remove_folder(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        Arena *a = arena_new();
        const char *at = arena_printf(a, "%s/%s", path, f->d_name);
        if (unlink(at)) remove_folder(at);
        arena_free(a);
    }
    if (d) closedir(d);
    rmdir(path);
}

json_t *lab_json_file(const char *path, Err *e) {
    size_t n;
    Arena *a = arena_new();
    const char *text = file_read_text(a, path, &n, e);
    json_t *j = text ? json_parse(text, n, 0, JSON_MOST, e) : NULL;
    if (text && !j) err_wrap(e, "%s", path);
    arena_free(a);
    return j;
}

bool lab_open(Lab *lab, const LabOptions *o, Err *e) {
    *lab = (Lab){.a = arena_new(), .o = o, .page = json_object()};
    unsetenv("GPTOSS_COMPILE_TUNE"); /* the compiler would start this program */
    if (o->tuning || o->tune) unsetenv("GPTOSS_COMPILE_TUNING"); /* what is tried is on one side only */
    return make_work(lab, e);
}

void lab_close(Lab *lab) {
    for (int i = 0; i < 2; i++) plan_close(lab->plan[i].plan), json_decref(lab->plan[i].report);
    if (lab->work && !lab->o->keep) remove_folder(lab->work);
    json_decref(lab->page);
    arena_free(lab->a);
}

/* --- the machine --------------------------------------------------------------------------------------------------------- */

/* "hip   AMD GPUs …: 2 here" */
static bool is_here(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        const char *end = at + strcspn(at, "\n"), *colon = end;
        while (colon > at && *colon != ':') colon--;
        if (!strncmp(at, name, n) && at[n] == ' ') return atoi(colon + 1) > 0;
    }
    return false;
}

bool lab_device(Lab *lab, const char *arch, Err *e) {
    const char *asked = lab->o->device;
    const char *own = !strncmp(arch, "gfx", 3) ? "hip" : !strncmp(arch, "sm_", 3) ? "cuda" : "host";
    Args args = {0};
    Said s;
    args_add(lab->a, &args, "gptoss-exec");
    args_add(lab->a, &args, "--list-devices");
    if (asked && strcmp(asked, "auto")) own = asked;
    if (!child_run(lab->a, &args, lab->o->limit, &s, e)) return false;
    bool emulated = !strcmp(own, "emu") || !strcmp(own, "ref"), here = is_here(s.out.at, own);
    said_free(&s);
    if (asked && strcmp(asked, "auto") && !here) return err_set(e, "--device %s: there is none here", own);
    if (here && !emulated) json_object_set_new(lab->page, "device", json_string(own));
    return true;
}

void lab_note_run(Lab *lab) {
    char host[256] = "", date[32];
    time_t now = time(NULL);
    struct tm tm;
    gethostname(host, sizeof host - 1);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    json_t *rules = json_array();
    for (size_t i = 0; i < lab->o->rules.n; i++) json_array_append_new(rules, json_string(lab->o->rules.at[i]));
    for (size_t i = 0; i < lab->o->templates.n; i++) json_array_append_new(rules, json_string(lab->o->templates.at[i]));
    const char *files[] = {lab->o->override, lab->o->tuning};
    for (size_t i = 0; i < LEN(files); i++)
        if (files[i]) json_array_append_new(rules, json_string(files[i]));
    json_object_update_new(lab->page, json_pack("{s:s, s:s, s:s, s:s?, s:o}", "date", date, "machine", host, "first",
                                                lab->o->first, "second", lab->o->second, "tried", rules));
}

/* --- the run ------------------------------------------------------------------------------------------------------------- */

/* The word for it: "wrong" is for what was judged. */
static const char *verdict(const Lab *lab) {
    bool fired = json_array_size(json_object_get(json_object_get(lab->page, "rules"), "fired"));
    if (!lab->plan[1].plan) return "not built";
    if (!lab->wrong.n) return "right";
    if (lab->wrong.n > 1) return "wrong";
    if (!lab->o->second && !fired && (lab->o->rules.n || diff_none(lab))) return "not applied";
    return verdict_device(lab) && !lab->o->no_judge ? "wrong" : "not judged";
}

static void note_result(Lab *lab) {
    json_t *why = json_array();
    for (size_t i = 0; i < lab->wrong.n; i++) json_array_append_new(why, json_string(lab->wrong.at[i]));
    json_object_set_new(lab->page, "result",
                        json_pack("{s:b, s:s, s:o}", "right", !lab->wrong.n, "is", verdict(lab), "why", why));
}

static void say(const Lab *lab, const char *what) {
    (void)lab;
    if (isatty(2)) fprintf(stderr, "gptoss-lab: %s\n", what);
}

static bool judge_both(Lab *lab, Err *e) {
    say(lab, "each kernel alone");
    if (!verdict_alone(lab, e)) return false;
    say(lab, "end to end");
    if (!verdict_end_to_end(lab, e)) return false;
    say(lab, "speed");
    if (!speed_run(lab, true, e)) return false;
    say(lab, "counts");
    return cost_tests(lab, e);
}

static bool compare(Lab *lab, Err *e) {
    if (!build_both(lab, e)) return false;
    lab_note_run(lab);
    build_rules(lab);
    if (!lab->plan[1].plan) return true;
    diff_graphs(lab);
    diff_sources(lab);
    bool nothing = !lab->o->second && diff_none(lab);
    if (nothing && !lab->wrong.n) lab_wrong(lab, "nothing was changed: no template, edited source or choice was taken");
    return lab_device(lab, lab->plan[0].plan->arch, e) && (nothing || (build_model(lab, e) && judge_both(lab, e)));
}

static bool print_page(const Lab *lab, Err *e) {
    Text t = {0};
    bool ok = true;
    if (lab->o->format && !strcmp(lab->o->format, "json")) {
        char *s = json_dumps(lab->page, JSON_INDENT(1));
        if (!s) die("lab: cannot make JSON");
        text_add(&t, "%s\n", s);
        free(s);
    } else if (lab->o->format && !strcmp(lab->o->format, "html")) ok = html_page(lab, &t, e);
    else page_text(lab->page, &t);
    ok = ok && file_write("-", t.at, t.n, e);
    text_free(&t);
    return ok;
}

bool lab_run(const LabOptions *o, bool *right, Err *e) {
    Lab lab;
    bool ok = lab_open(&lab, o, e) && compare(&lab, e);
    *right = ok && !lab.wrong.n;
    if (ok && lab.wrong.n && !o->second && !o->override && !o->tuning) ok = reduce_run(&lab, e);
    if (ok) note_result(&lab);
    ok = ok && !child_ended(e) && print_page(&lab, e) && ledger_append(&lab, e);
    lab_close(&lab);
    return ok;
}
