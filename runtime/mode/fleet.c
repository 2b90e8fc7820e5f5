/* fleet.c - see fleet.h. Threads meet twice: where the weights are, and when all are loaded. */
#include "fleet.h"
#include "interrupt.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>

/* --- loading -------------------------------------------------------------------------------------------------------------- */

/* The session that has the weights; NULL: this member is to read them, as those before it have failed. */
static const Session *wait_for_source(FleetMember *m) {
    Fleet *f = m->fleet;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        int failed = 0;
        while (&f->at[failed] < m && f->at[failed].failed) failed++;
        if (f->source || &f->at[failed] == m) break;
        pthread_cond_wait(&f->changed, &f->lock);
    }
    const Session *source = f->source;
    pthread_mutex_unlock(&f->lock);
    return source;
}

static bool read_weights(FleetMember *m, Err *e) {
    Fleet *f = m->fleet;
    if (!session_load(m->s, e)) return false;
    m->weights = "disk";
    pthread_mutex_lock(&f->lock);
    f->source = m->s;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return true;
}

static void say_host(Fleet *f, const Err *why) {
    pthread_mutex_lock(&f->lock);
    if (!f->said_host) warning("%s: its weights come through host memory", why->msg);
    f->said_host = true;
    pthread_mutex_unlock(&f->lock);
}

/* Each device from the one that has the same of them. */
static bool copy_weights(FleetMember *m, const Session *source, Err *e) {
    bool straight = true;
    for (int64_t i = 0; i < m->s->plan->devices; i++) {
        Device *d = m->s->group[i];
        Err why = {""};
        if (d->ops->reach(d, source->group[i], &why)) continue;
        straight = false;
        say_host(m->fleet, &why);
    }
    if (!session_load_from(m->s, source, e)) return false;
    m->weights = straight ? "peer" : "host";
    return true;
}

static bool members_info(const FleetMember *m, DeviceInfo *to, Err *e) {
    for (int64_t i = 0; i < m->s->plan->devices; i++)
        if (!m->s->dev->ops->info(m->s->group[i], &to[i], e)) return false;
    return true;
}

static bool member_load(FleetMember *m, Err *e) {
    Fleet *f = m->fleet;
    Session *s = m->s;
    if (s != f->first && !session_open_beside(s, f->first, e)) return false;
    if (!members_info(m, m->before, e)) return false;
    const Session *source = wait_for_source(m);
    if (source ? !copy_weights(m, source, e) : !read_weights(m, e)) return false;
    m->sched = session_sched(s, &s->exec, 1, f->requests->at, f->requests->n, true, e);
    return m->sched && members_info(m, m->after, e);
}

/* --- running -------------------------------------------------------------------------------------------------------------- */

/* How much of the work is done, a request that stops early counting for a whole one. */
static double share(const Fleet *f, const SchedStats *st) {
    int64_t all = 0;
    for (size_t i = 0; i < f->requests->n; i++) all += f->requests->at[i].max_new;
    return all ? (double)(st->generated + st->spared) / (double)all : 1;
}

static void draw(Fleet *f) {
    char detail[120];
    double now = seconds_now();
    bool say = f->first->o->verbose && !f->bar.on && now - f->said >= 2;
    if (!progress_due(&f->bar) && !say) return;
    SchedStats st = fleet_stats(f);
    snprintf(detail, sizeof detail, "%" PRId64 " of %zu requests  %.1f tok/s", st.finished, f->requests->n,
             (double)(st.generated + st.prompt_tokens) / (now - f->begin));
    progress_draw(&f->bar, share(f, &st), detail);
    if (!say) return;
    fprintf(stderr, "%s: %s\n", f->work.what, detail);
    f->said = now;
}

static void add_stats(SchedStats *sum, const SchedStats *st) {
    sum->steps += st->steps, sum->prompt_tokens += st->prompt_tokens, sum->generated += st->generated;
    sum->pages += st->pages, sum->peak_pages += st->peak_pages;
    sum->in_flight += st->in_flight, sum->peak_in_flight += st->peak_in_flight;
    sum->finished += st->finished, sum->spared += st->spared;
}

static SchedStats stats_of(const FleetMember *m) {
    SchedStats st = sched_stats(m->sched), sum = m->begun;
    add_stats(&sum, &st);
    sum.peak_in_flight = m->begun.peak_in_flight > st.peak_in_flight ? m->begun.peak_in_flight : st.peak_in_flight;
    sum.peak_pages = m->begun.peak_pages > st.peak_pages ? m->begun.peak_pages : st.peak_pages;
    return sum;
}

/* A step is done. Who finds the lock taken goes on: the next step will tell. */
static void show(FleetMember *m) {
    if (pthread_mutex_trylock(&m->fleet->lock)) return;
    m->stats = stats_of(m);
    draw(m->fleet);
    pthread_mutex_unlock(&m->fleet->lock);
}

static void tell(Fleet *f, size_t request) {
    if (!f->work.finished || !f->requests->at[request].done || f->told[request]) return;
    f->told[request] = true;
    pthread_mutex_lock(&f->lock);
    f->work.finished(f->work.ctx, request);
    pthread_mutex_unlock(&f->lock);
}

/* A step of which all is known has gone by. */
static void tell_finished(Fleet *f, const SchedStep *t) {
    for (int64_t i = 0; i < t->n_rows; i++) tell(f, t->row_request[i]);
}

/* Step by step as before, from the prompts of what is not done. */
static bool begin_anew(FleetMember *m, Err *e) {
    Requests *r = m->fleet->requests;
    for (size_t i = 0; i < r->n; i++)
        if (sched_took(m->sched, i)) tell(m->fleet, i);
    sched_abandon(m->sched);
    m->begun = stats_of(m);
    m->begun.in_flight = m->begun.pages = 0;
    sched_free(m->sched);
    session_again(m->s);
    return (m->sched = session_sched_in(m->s, m->s->exec->pages, r->at, r->n, true, e)) != NULL;
}

static bool stopped(const Fleet *f) {
    if (!f->work.stops || !interrupt_came()) return false;
    queue_stop(f->queue);
    return true;
}

static bool member_run(FleetMember *m, Err *e) {
    Fleet *f = m->fleet;
    const SchedStep *t = NULL;
    const int32_t *ids;
    m->s->after = f->work.after, m->s->after_ctx = f->work.ctx;
    if (f->work.after) m->s->ahead = 0;
    do {
        bool ok;
        while ((ok = !stopped(f)) && (ok = session_next(m->s, m->sched, f->requests->at, &t, &ids, e)) && t) {
            sched_commit(m->sched, ids);
            tell_finished(f, t);
            show(m);
        }
        if (stopped(f)) return true;
        if (!ok && (!m->s->again || !begin_anew(m, e))) return false;
        m->busy = seconds_now() - f->begin;
    } while (sched_wait(m->sched));
    return true;
}

/* Of this process, user and system, all threads. */
static double cpu_seconds(void) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Nobody begins before all have come, loaded or failed: what is copied stands still, and the queue is shared fairly. */
static void meet(Fleet *f) {
    pthread_mutex_lock(&f->lock);
    if (++f->arrived == f->n) {
        progress_begin(&f->bar, f->work.what);
        if (f->work.stops) interrupt_watch();
        f->begin = f->said = f->bar.begin, f->load_seconds = f->begin - f->started;
        f->cpu_seconds = -cpu_seconds();
        pthread_cond_broadcast(&f->changed);
    }
    while (f->arrived < f->n) pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* "hip 3", or of a group "hip 6-7". */
static const char *device_of(const FleetMember *m, char *name, size_t n) {
    const Session *s = m->fleet->first;
    int each = (int)s->plan->devices, first = (int)(m - m->fleet->at) * each;
    if (each == 1) snprintf(name, n, "%.20s %d", s->dev->ops->name, first);
    else snprintf(name, n, "%.20s %d-%d", s->dev->ops->name, first, first + each - 1);
    return name;
}

static void fail(FleetMember *m) {
    Fleet *f = m->fleet;
    char name[48];
    pthread_mutex_lock(&f->lock);
    m->failed = true;
    if (!f->n_failed++) f->first_failed = m;
    if (f->n > 1 && !m->sched) warning("device %s is left out: %s", device_of(m, name, sizeof name), m->why.msg);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void give_back(FleetMember *m) {
    char name[48];
    size_t back = sched_abandon(m->sched);
    if (m->fleet->n > 1)
        warning("device %s is left out, and %zu of its requests go to others: %s", device_of(m, name, sizeof name), back, m->why.msg);
}

static void *work(void *arg) {
    FleetMember *m = arg;
    bool ok = member_load(m, &m->why);
    if (!ok) fail(m);
    if (!ok && m->sched) give_back(m);
    meet(m->fleet);
    if (!ok) return NULL;
    if (!member_run(m, &m->why)) {
        m->busy = seconds_now() - m->fleet->begin;
        fail(m);
        if (m->sched) give_back(m);
    }
    pthread_mutex_lock(&m->fleet->lock);
    if (m->sched) m->stats = stats_of(m);
    pthread_mutex_unlock(&m->fleet->lock);
    return NULL;
}

/* --- all of them ------------------------------------------------------------------------------------------------------------ */

/* What takes most steps is begun first: tokens come one by one, a prompt in chunks. */
static void order(Fleet *f) {
    const Requests *r = f->requests;
    int64_t *steps = arena_array(f->first->arena, r->n + 1, sizeof *steps);
    for (size_t i = 0; i < r->n; i++) steps[i] = r->at[i].max_new + r->at[i].n_ids / f->first->chunk;
    queue_heaviest_first(f->queue, steps, (size_t)(f->n - f->first->index), (size_t)f->first->slots);
}

/* One that never gets to work. */
static void lose(FleetMember *m, const char *why) {
    err_set(&m->why, "%s", why);
    fail(m);
    pthread_mutex_lock(&m->fleet->lock);
    m->fleet->arrived++;
    pthread_mutex_unlock(&m->fleet->lock);
}

static void start(FleetMember *m) {
    m->started = !pthread_create(&m->thread, NULL, work, m);
    if (!m->started) lose(m, "no thread could be started for it");
}

bool fleet_run(Fleet *f, Session *s, Requests *r, const FleetWork *w, Err *e) {
    *f = (Fleet){.first = s, .requests = r, .work = *w, .n = s->groups, .queue = queue_new(r->n), .started = seconds_now()};
    f->told = arena_array(s->arena, r->n + 1, sizeof *f->told);
    f->at = arena_array(s->arena, (size_t)f->n, sizeof *f->at);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    order(f);
    s->queue = f->queue;
    for (int i = 0; i < f->n; i++) {
        FleetMember *m = &f->at[i];
        *m = (FleetMember){.fleet = f, .s = i == s->index ? s : &m->own};
        m->before = arena_array(s->arena, (size_t)s->plan->devices, sizeof *m->before);
        m->after = arena_array(s->arena, (size_t)s->plan->devices, sizeof *m->after);
        if (m->s != s) session_beside(m->s, s, i);
    }
    for (int i = 0; i < s->index; i++) lose(&f->at[i], s->lost[i].msg);
    for (int i = s->index + 1; i < f->n; i++) start(&f->at[i]);
    work(&f->at[s->index]);
    for (int i = 0; i < f->n; i++)
        if (f->at[i].started) pthread_join(f->at[i].thread, NULL);
    f->seconds = seconds_now() - f->begin, f->cpu_seconds += cpu_seconds();
    progress_end(&f->bar);
    const char *signal = w->stops ? interrupt_came() : NULL;
    if (w->stops) interrupt_leave();
    if (f->n_failed == f->n) return *e = f->first_failed->why, false;
    for (size_t i = 0; signal && i < r->n; i++)
        if (!r->at[i].done) return err_set(e, "ended by %s", signal);
    return true;
}

void fleet_close(Fleet *f) {
    if (!f->first) return;
    for (int i = 0; i < f->n; i++) sched_free(f->at[i].sched);
    for (int i = 0; i < f->n; i++)
        if (f->at[i].s != f->first) session_close(f->at[i].s);
    queue_free(f->queue);
    f->first->queue = NULL;
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

/* --- results ------------------------------------------------------------------------------------------------------------------ */

bool fleet_whole(const Fleet *f, Err *e) {
    char name[48];
    if (!f->n_failed) return true;
    err_set(e, "%d of %d %s failed; the others did all the work, and the results are whole:", f->n_failed, f->n,
            f->first->plan->devices > 1 ? "groups of devices" : "devices");
    for (int i = 0; i < f->n; i++)
        if (f->at[i].failed) err_add(e, "\n  %s: %.400s", device_of(&f->at[i], name, sizeof name), f->at[i].why.msg);
    return false;
}

SchedStats fleet_stats(const Fleet *f) {
    SchedStats sum = {0};
    for (int i = 0; i < f->n; i++) add_stats(&sum, &f->at[i].stats);
    return sum;
}

double fleet_tail(const Fleet *f) {
    double least = f->seconds;
    for (int i = 0; i < f->n; i++)
        if (f->at[i].busy < least) least = f->at[i].busy;
    return f->seconds - least;
}

static double part(const Fleet *f, const FleetMember *m) {
    int64_t all = fleet_stats(f).generated;
    return all ? (double)m->stats.generated / (double)all : 0;
}

static void print_memory(const FleetMember *m, int64_t i) {
    const DeviceInfo *before = &m->before[i], *after = &m->after[i];
    if (after->memory_total)
        fprintf(stderr, "; of %.2f GiB free before %.2f, with weights (from %s) and KV cache %.2f", (double)after->memory_total / 0x1p30,
                (double)before->memory_free / 0x1p30, m->weights, (double)after->memory_free / 0x1p30);
}

void fleet_print(const Fleet *f) {
    char name[48];
    int64_t each = f->first ? f->first->plan->devices : 1;
    for (int i = 0; (f->n > 1 || each > 1) && i < f->n; i++) {
        const FleetMember *m = &f->at[i];
        fprintf(stderr, "  %s %s: %" PRId64 " requests, %.1f%% of the generated tokens, in %" PRId64 " steps",
                device_of(m, name, sizeof name), m->before->name, m->stats.finished, 100 * part(f, m), m->stats.steps);
        if (each == 1) print_memory(m, 0);
        fprintf(stderr, "%s\n", m->failed ? "; it failed" : "");
        for (int64_t k = 0; each > 1 && k < each && m->after[k].memory_total; k++) {
            fprintf(stderr, "    %s %" PRId64 " %s", f->first->dev->ops->name, i * each + k, m->after[k].name);
            print_memory(m, k);
            fprintf(stderr, "\n");
        }
    }
    if (f->n > 1) fprintf(stderr, "  all busy but for the last %.2f s; host: %.2f s of CPU\n", fleet_tail(f), f->cpu_seconds);
}

void fleet_profile(const Fleet *f) {
    char name[48];
    for (int i = 0; i < f->n; i++) {
        if (!f->at[i].s->dev) continue;
        if (f->n > 1 && f->first->o->profile) fprintf(stderr, "device %s:\n", device_of(&f->at[i], name, sizeof name));
        session_profile(f->at[i].s);
    }
}

static json_t *profile_json(Device *d) {
    Text t = {0};
    d->ops->profile(d, &t, true);
    json_t *j = t.at ? json_loads(t.at, 0, NULL) : NULL;
    text_free(&t);
    return j ? j : json_null();
}

static json_t *memory_json(const FleetMember *m, int64_t i) {
    return json_pack("{s:s, s:I, s:I, s:I}", "name", m->before[i].name, "memory", (json_int_t)m->before[i].memory_total, "free_before",
                     (json_int_t)m->before[i].memory_free, "free_loaded", (json_int_t)m->after[i].memory_free);
}

/* Of a plan for several devices: each. */
static json_t *group_json(const Fleet *f, const FleetMember *m) {
    json_t *list = json_array();
    for (int64_t i = 0; i < f->first->plan->devices; i++) {
        json_t *j = memory_json(m, i);
        Device *d = m->s->group ? m->s->group[i] : NULL;
        if (f->first->o->profile && d && d->ops->profile) json_object_set_new(j, "profile", profile_json(d));
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *member_json(const Fleet *f, const FleetMember *m) {
    char name[48];
    const Session *s = m->s;
    json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s?}", "device",
                          device_of(m, name, sizeof name), "requests", (json_int_t)m->stats.finished,
                          "prompt_tokens", (json_int_t)m->stats.prompt_tokens, "generated_tokens",
                          (json_int_t)m->stats.generated, "steps", (json_int_t)m->stats.steps, "share", part(f, m),
                          "busy_seconds", m->busy, "load_seconds", s->load_seconds, "weights", m->weights);
    json_object_update_new(j, memory_json(m, 0));
    if (s->plan->devices > 1) json_object_set_new(j, "group", group_json(f, m));
    if (m->failed) json_object_set_new(j, "error", json_string(m->why.msg));
    if (f->first->o->profile && s->dev && s->dev->ops->profile) json_object_set_new(j, "profile", profile_json(s->dev));
    return j;
}

json_t *fleet_json(const Fleet *f) {
    json_t *list = json_array();
    for (int i = 0; i < f->n; i++) json_array_append_new(list, member_json(f, &f->at[i]));
    return list;
}
