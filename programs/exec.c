/* gptoss-exec. Options: options.c. A mode is a row here, its name in options.c, and its mode_*.c. */
#include "runtime/device/code.h"
#include "runtime/mode/mode.h"
#include "runtime/mode/selftest.h"

#include <stdlib.h>

static const struct {
    const char *name;
    Mode *run;
} modes[] = {
    {"getp", mode_getp},
    {"getp_cpu", mode_getp}, /* open_device takes ref */
    {"logits", mode_logits},
    {"parity", mode_parity},
    {"bench", mode_bench},
    {"eval", mode_eval},
    {"generate", mode_generate},
    {"chat", mode_chat},
};

static bool run_mode(const Options *o, Err *e) {
    size_t i = 0;
    while (i < LEN(modes) && strcmp(modes[i].name, o->mode)) i++;
    if (i == LEN(modes)) die("exec: no mode %s", o->mode);
    Session s;
    bool ok = session_open(&s, o, e) && modes[i].run(&s, e);
    session_close(&s);
    return ok;
}

static bool inspect(const Options *o, Err *e) {
    Text t = {0};
    Plan *p = plan_open(o->plan, e);
    if (!p) return err_wrap(e, "plan");
    if (o->json) plan_inspect_json(p, &t);
    else plan_inspect(p, &t);
    bool ok = file_write("-", t.at, t.n, e);
    text_free(&t);
    plan_close(p);
    return ok;
}

static bool self_test(const Options *o, Err *e) {
    DeviceOptions d = {.threads = (int)o->threads, .seed = (uint64_t)o->seed_schedule, .sample = (uint32_t)o->sample, .limit = (uint64_t)o->emu_limit, .races = o->races};
    SelftestOptions t = {.tokens = 19, .seed = o->seed >= 0 ? (uint64_t)o->seed : 1, .threads = (int)o->threads, .sample = o->sample > 0, .only = o->only, .rows = o->rows, .json = o->json, .counts = o->profile};
    Plan *p = plan_open(o->plan, e);
    if (!p) return err_wrap(e, "plan");
    Device *dev = code_vouch(p, o->device, o->trust_code, e) ? device_open(o->device, 0, p, &d, e) : NULL;
    bool ok = dev != NULL;
    if (ok && o->sample && !dev->ops->whole) ok = err_set(e, "--sample: device %s runs all workgroups; emu alone can run a sample", dev->ops->name);
    ok = ok && selftest_run(p, dev, &t, e);
    device_close(dev);
    plan_close(p);
    return ok;
}

static bool list_devices(Err *e) {
    Text t = {0};
    device_list(&t);
    bool ok = file_write("-", t.at, t.n, e);
    text_free(&t);
    return ok;
}

static bool run(const Options *o, Err *e) {
    if (o->list_devices) return list_devices(e);
    if (o->self_test) return self_test(o, e);
    return o->inspect ? inspect(o, e) : run_mode(o, e);
}

int main(int argc, char **argv) {
    Err e = {0};
    Options o;
    bool done = false;
    if (!options_parse(&o, argc, argv, &done, &e)) return cli_usage_error(&options_cli, &e);
    Arena *a = arena_new();
    device_keep(rtc_cache_ours(a));
    bool ok = done || run(&o, &e);
    device_keep(NULL);
    arena_free(a);
    return cli_end(&options_cli, ok, &e);
}
