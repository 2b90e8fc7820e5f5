/* fuzz_run.c - plans that someone made by hand, with a right checksum: those that the verifier takes are run on ref or on emu in one
 * of the ways that gptoss-exec has. fuzz_plan reads many more of them. The model lies in out/fuzz/model (seeds). */
#include "plan_changes.h"
#include "runtime/mode/mode.h"
#include "runtime/mode/selftest.h"

enum { WAYS = 16 /* the emulator is slow */, INSTRUCTIONS = 20000 };

static const char prompts[] = "2\n1 2 3 4 5 6 7 8 9 10\n250\n", one[] = "1\n7 8\n"; /* the emulator takes its time */

static Options options(const char *plan, const char *device, const char *mode, const char *input) {
    return (Options){.plan = plan, .device = device, .mode = mode, .model = "out/fuzz/model", .input = input, .output = "/dev/null",
                     .input_ids = true, .gpus = 1, .steps = 12, .batch = 2, .lines = -1, .chunk = -1, .temperature = -1, .top_p = -1,
                     .min_p = -1, .top_k = -1, .max_answer = -1, .seed = 3, .repetitions = 1, .threads = 1, .emu_limit = INSTRUCTIONS,
                     .reasoning = "medium", .pp = "3", .tg = "2"};
}

static void run_mode(const char *plan, const char *device, const char *mode, Mode *run, double temperature, const char *trace) {
    static int fd;
    char input[64];
    bool slow = !strcmp(device, "emu");
    fuzz_file(&fd, input, slow ? one : prompts, slow ? sizeof one - 1 : sizeof prompts - 1);
    Options o = options(plan, device, mode, input);
    if (slow) o.steps = 3;
    Session s;
    Err e = {0};
    o.temperature = temperature, o.trace = trace;
    if (!session_open(&s, &o, &e) || !run(&s, &e)) fuzz_said(&e);
    session_close(&s);
}

static void self_test(const Plan *p, uint64_t hash) {
    static const char *const only[] = {"linear_", "attention", "sample", "group", "rmsnorm", "mlp", "embed", "tokens"};
    Err e = {0};
    const DeviceOptions d = {.threads = 1, .limit = INSTRUCTIONS};
    const SelftestOptions t = {.tokens = 3, .seed = 1, .threads = 1, .only = only[hash % LEN(only)], .json = true};
    Device *dev = device_open("emu", 0, p, &d, &e);
    if (!dev || !selftest_run(p, dev, &t, &e)) fuzz_said(&e);
    device_close(dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Err e = {0};
    Plan *p = plan_open(fuzz_file(&fd, path, data, n), &e);
    if (!p) return fuzz_said(&e), 0;
    uint64_t hash = hash64(data, n);
    switch (hash % WAYS) {
    case 0: run_mode(path, "emu", "getp", mode_getp, -1, NULL); break;
    case 1: run_mode(path, "emu", "parity", mode_parity, -1, NULL); break;
    case 2: self_test(p, hash / WAYS); break;
    case 3:
    case 4: run_mode(path, "ref", "logits", mode_logits, -1, NULL); break;
    case 5:
    case 6: run_mode(path, "ref", "getp", mode_getp, 0.7, NULL); break;
    case 7: run_mode(path, "ref", "bench", mode_bench, -1, hash / WAYS % 2 ? "/dev/null" : NULL); break; /* how long, or node by node */
    default: run_mode(path, "ref", "getp", mode_getp, -1, NULL); break;
    }
    plan_close(p);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    fuzz_hush();
    return 0;
}
