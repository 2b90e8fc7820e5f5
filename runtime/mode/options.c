/* options.c - gptoss-exec's command line from one table. */
#include "options.h"
#include "runtime/device/device.h"

#include "plan/plan.h"

#include <errno.h>
#include <stdlib.h>

#define AT(field) offsetof(Options, field)
#define TEXT_OF(x) #x
#define NUMBER(x) TEXT_OF(x)

enum { GENERATE = 1, CHAT = 2, GETP = 4, LOGITS = 8, BENCH = 16, PARITY = 32, EVAL = 64, INSPECT = 128, SELF_TEST = 256 };
static const char *const what[] = {"generate", "chat", "getp", "logits", "bench", "parity", "eval", "--inspect", "--self-test"};

/* .tag: what the option means something for; 0: all. */
static const CliOption rows[] = {
    {.kind = CLI_GROUP, .help = "What to do"},
    {'m', "mode", CLI_TEXT, AT(mode), "MODE",
     "generate   continue a prompt: words, -i FILE or stdin\n"
     "chat       a conversation\n"
     "getp       a file of requests, many at once, to a file of token ids\n"
     "getp_cpu   the same on the reference interpreter\n"
     "logits     the logits of every position of every request\n"
     "bench      how fast: prompts, generation; each kernel alone\n"
     "parity     every value of the device against the reference's\n"
     "eval       a set of problems: how many are answered right"},
    {0, "inspect", CLI_FLAG, AT(inspect), NULL, "print what is in the plan (--json: as JSON)", .env = ""},
    {0, "self-test", CLI_FLAG, AT(self_test), NULL, "run every kernel on the device on random inputs, against its reference", .env = ""},
    {0, "list-devices", CLI_FLAG, AT(list_devices), NULL, "print the devices this program can use here", .env = ""},

    {.kind = CLI_GROUP, .help = "Files"},
    {'w', "model", CLI_TEXT, AT(model), "MODEL",
     "checkpoint: folder or .bin\n"
     "(default: the one the plan was compiled with, else GPTOSS_MODEL)", .env = ""},
    {0, "swap-embeddings", CLI_FLAG, AT(swap_embeddings), NULL, "the .bin holds unembedding before embedding"},
    {'z', "tokenizer", CLI_TEXT, AT(tokenizer), "FILE",
     "tokenizer.json, .tiktoken or tokenizer.bin\n"
     "(default: tokenizer.json in the model's folder)"},
    {'i', "input", CLI_TEXT, AT(input), "FILE",
     "- is stdin. getp, logits: requests (default data/input.txt)\n"
     "parity: requests (default: some of made-up tokens)\n"
     "generate: the prompt; chat: a line a turn (default stdin)\n"
     "eval: problems (default: the model's eval.jsonl)", .tag = ~BENCH},
    {'o', "output", CLI_TEXT, AT(output), "FILE",
     "- is stdout. getp: ids (default data/output.txt); logits: raw floats\n"
     "generate: the text (default stdout); eval: problems and answers",
     .tag = GENERATE | GETP | LOGITS | EVAL},
    {'v', "verify", CLI_TEXT, AT(truth), "FILE", "getp: compare the output with this file, token by token", .tag = GETP},
    {0, "input-ids", CLI_FLAG, AT(input_ids), NULL, "requests are token ids, not text", .tag = GENERATE | GETP | LOGITS | PARITY},
    {0, "special", CLI_FLAG, AT(special), NULL,
     "<|start|> and other special tokens' texts are those tokens in a prompt\n"
     "(otherwise ordinary text)", .tag = GENERATE | GETP | LOGITS | PARITY},

    {.kind = CLI_GROUP, .help = "Requests"},
    {'n', "steps", CLI_INT, AT(steps), "STEPS",
     "forward passes of a request, prompt included\n"
     "(default 1024, chat 32768; at most the plan's)", .least = 1, .tag = GENERATE | CHAT | GETP | BENCH | PARITY | EVAL},
    {'b', "batch", CLI_INT, AT(batch), "BATCH", "requests in flight on a device\n(default: what plan and memory allow; bench: 1)", .least = 1},
    {'t', "lines", CLI_INT, AT(lines), "LINES", "only the first LINES requests", .tag = GETP | LOGITS | PARITY | EVAL},
    {0, "prefill-chunk", CLI_INT, AT(chunk), "N", "prompt tokens of a request in one step (default: the plan's most)", .least = 1},
    {0, "kv-memory", CLI_SIZE, AT(kv_memory), "SIZE", "bytes for the KV cache, e.g. 512M, 16G (default: as needed)"},
    {0, "resume", CLI_FLAG, AT(resume), NULL, "getp: do the rest of a run that was ended (OUT.parts)", .tag = GETP},
    {0, "skip-bad", CLI_FLAG, AT(skip_bad), NULL,
     "getp: leave out requests with a NaN (empty lines, exit status 1)\n"
     "instead of ending at the first", .tag = GETP},
    {0, "print", CLI_FLAG, AT(print), NULL, "getp: each request's text on stdout, in order, once all are done", .tag = GETP},

    {.kind = CLI_GROUP, .help = "Sampling (generate and chat begin with the model's generation_config.json; the others are greedy)"},
    {'T', "temperature", CLI_REAL, AT(temperature), "TEMP", "0: greedy, the likeliest token; 1: as the model says", .most = 1e6},
    {0, "top-k", CLI_INT, AT(top_k), "K", "only the K likeliest tokens (0: all)", .most = INT32_MAX},
    {'p', "top-p", CLI_REAL, AT(top_p), "TOPP", "only the likeliest that make up TOPP of the probability (1: all)", .most = 1},
    {0, "min-p", CLI_REAL, AT(min_p), "MINP", "only those at least MINP times as likely as the likeliest (0: all)", .most = 1},
    {'s', "seed", CLI_INT, AT(seed), "SEED", "the same seed, the same text\n"
      "(default: generate and chat: random, told by --verbose; else 0)\n--self-test: other inputs"},

    {.kind = CLI_GROUP, .help = "Text"},
    {0, "stop", CLI_LIST, AT(stops), "TEXT",
     "generate: end before TEXT; chat: end an answer before TEXT\n"
     "(may be given again; default: the model's stop_strings)", .tag = GENERATE | CHAT},
    {'y', "system", CLI_TEXT, AT(system), "TEXT", "chat: instructions for the model (the developer message)", .tag = CHAT},
    {0, "reasoning", CLI_CHOICE, AT(reasoning), "low|medium|high", "chat: how long the model thinks (default medium)", .tag = CHAT},
    {0, "hide-reasoning", CLI_FLAG, AT(hide_reasoning), NULL, "chat: print the answers only", .tag = CHAT},
    {0, "max-answer", CLI_INT, AT(max_answer), "N",
     "chat: at most N tokens a turn, reasoning included\n"
     "(default: the model's max_new_tokens, else while there is room)", .least = 1, .tag = CHAT},
    {0, "keep-reasoning", CLI_FLAG, AT(keep_reasoning), NULL, "chat: the model sees its reasoning of earlier turns too", .tag = CHAT},
    {0, "date", CLI_TEXT, AT(date), "DATE", "chat: the date the model is told, YYYY-MM-DD (default today)", .tag = CHAT},

    {.kind = CLI_GROUP, .help = "Bench (a LIST: 1,8,32)"},
    {0, "pp", CLI_TEXT, AT(pp), "LIST", "tokens per second of prompts of these lengths\n(default, without --tg: half of -n, at most 512)", .tag = BENCH},
    {0, "tg", CLI_TEXT, AT(tg), "LIST", "tokens per second of so many generated, one by one\n(default, without --pp: the rest of -n, which is 128)", .tag = BENCH},
    {0, "depth", CLI_TEXT, AT(depth), "LIST", "each behind so many tokens in the cache (made up; default 0)", .tag = BENCH},
    {0, "batches", CLI_TEXT, AT(batches), "LIST", "each with so many requests side by side (default -b)", .tag = BENCH},
    {'r', "repetitions", CLI_INT, AT(repetitions), "N", "times each is measured, after one for warmth\n(default 5; emu and ref 1, cold)", .least = 1, .most = 1000, .tag = BENCH},
    {0, "format", CLI_CHOICE, AT(format), "text|csv|json|md", "how results are printed (default text)", .tag = BENCH},
    {0, "kernels", CLI_FLAG, AT(kernels), NULL, "instead: each kernel of those steps alone, against the limits", .tag = BENCH},
    {0, "trace", CLI_TEXT, AT(trace), "FILE", "instead: those steps node by node, as Chrome's and Perfetto's JSON", .tag = BENCH},
    {0, "paced", CLI_FLAG, AT(paced), NULL, "a run of all of it, as a line of JSON, for each line read on stdin", .tag = BENCH},

    {.kind = CLI_GROUP, .help = "Device"},
    {0, "device", CLI_TEXT, AT(device), "NAME",
     "auto, hip, cuda, host, emu or ref\n"
     "(default auto: what the plan was compiled for)"},
    {0, "trust-code", CLI_FLAG, AT(trust_code), NULL,
     "run the plan's code as it is, even if it was not compiled here\n(otherwise it is compiled anew from the plan's sources)"},
    {'g', "gpus", CLI_TEXT, AT(gpus_asked), "GPUS", "getp, eval: devices to use, a number or all (default 1)"},
    {0, "ep", CLI_INT, AT(ep), "N", "the plan must be one for N devices (gptoss-compile --ep)", .least = 1, .most = 1024},
    {0, "threads", CLI_INT, AT(threads), "N", "CPU threads of host, emu and ref (default: all)", .most = 4096},
    {0, "seed-schedule", CLI_INT, AT(seed_schedule), "N", "emu: draw the order of waves from N (0: in order)"},
    {0, "races", CLI_FLAG, AT(races), NULL, "emu: fail where two waves touch a byte and nothing orders them"},
    {0, "emu-limit", CLI_INT, AT(emu_limit), "N", "emu: a kernel is hung after N instructions of a workgroup (2^25)", .least = 1},
    {0, "sample", CLI_INT, AT(sample), "N", "self-test on emu: only N workgroups of each launch (default: all)", .least = 2, .most = DEVICE_MOST_SAMPLE, .tag = SELF_TEST},
    {0, "rows", CLI_INT, AT(rows), "N", "self-test: a step of N tokens or rows only (default: both ends of what\neach kernel is launched for); with --json -f also what emu executed", .least = 1, .tag = SELF_TEST},
    {0, "only", CLI_TEXT, AT(only), "NAME", "self-test: only kernels with NAME in their symbol", .tag = SELF_TEST},

    {.kind = CLI_GROUP, .help = "Reports"},
    {'f', "profile", CLI_FLAG, AT(profile), NULL, "counts or times of each kernel, on stderr"},
    {0, "json", CLI_FLAG, AT(json), NULL, "getp, bench, parity, eval, inspect: the summary as JSON on stdout\n"
     "(on stderr where --print or -o - has stdout); self-test: a line a check",
     .tag = GETP | BENCH | PARITY | EVAL | INSPECT | SELF_TEST},
    {0, "verbose", CLI_FLAG, AT(verbose), NULL, "more on stderr; parity: every stage"},
    {0, "dump-tensor", CLI_TEXT, AT(dump_tensor), "NAME", "parity: write NAME's raw values to NAME.device and NAME.ref", .tag = PARITY},
};

const Cli options_cli = {
    .program = "gptoss-exec",
    .synopsis = "plan.bin -m MODE [options] [--] [prompt]",
    .words = "a prompt",
    .about = "Runs a plan that gptoss-compile made.\n",
    .examples = "  gptoss-exec plan.bin -m generate \"The capital of France is\"\n"
                "  gptoss-exec plan.bin -m generate -T 0.8 -p 0.95 -n 200 -i prompt.txt\n"
                "  gptoss-exec plan.bin -m chat -y \"Answer in one sentence.\" --reasoning low\n"
                "  gptoss-exec plan.bin -m getp -i data/input.txt -o data/output.txt --print\n"
                "  gptoss-exec plan.bin -m getp -i in.txt -o out.txt -v expected.txt -b 32\n",
    .env = "GPTOSS_",
    .version = ", plan version " NUMBER(PLAN_VERSION),
    .options = rows,
    .n = LEN(rows),
};

void options_sampling(const Options *o, Sampling *s) {
    if (o->temperature >= 0) s->temperature = (float)o->temperature;
    if (o->top_p >= 0) s->top_p = (float)o->top_p;
    if (o->min_p >= 0) s->min_p = (float)o->min_p;
    if (o->top_k >= 0) s->top_k = (int32_t)o->top_k;
    if (o->seed >= 0) s->seed = (uint64_t)o->seed;
}

static const char *const modes[] = {"generate", "chat", "getp", "getp_cpu", "logits", "bench", "parity", "eval", NULL};

/* What is to be done, as a bit; 0, with e set: a mode that there is not. */
static unsigned task(const Options *o, Err *e) {
    if (o->inspect) return INSPECT;
    if (o->self_test) return SELF_TEST;
    for (unsigned i = 0; i < 7; i++)
        if (!strcmp(o->mode, what[i]) || (1u << i == GETP && !strcmp(o->mode, "getp_cpu"))) return 1u << i;
    err_set(e, "no mode \"%s\"; there are generate, chat, getp, getp_cpu, logits, bench, parity, eval", o->mode);
    cli_suggest(e, o->mode, modes);
    return 0;
}

static void warn_of_unused(const CliParsed *parsed, unsigned now) {
    for (size_t i = 0; i < LEN(rows); i++) {
        if (!parsed->given[i] || !rows[i].tag || rows[i].tag & now) continue;
        Text t = {0};
        for (unsigned k = 0; k < LEN(what); k++)
            if (rows[i].tag & 1u << k) text_add(&t, "%s%s", t.n ? ", " : "", what[k]);
        fprintf(stderr, "gptoss-exec: warning: --%s does nothing here: it is for %s\n", rows[i].name, t.at);
        text_free(&t);
    }
}

/* A result that would overwrite what was named to make it from; what was not named is session_output's. */
static bool check_output(const Options *o, Err *e) {
    const char *const from[][2] = {{"the plan", o->plan}, {"-i", o->input}, {"-v", o->truth}, {"-z", o->tokenizer}};
    for (size_t i = 0; o->output && i < LEN(from); i++)
        if (from[i][1] && file_same(o->output, from[i][1]))
            return err_set(e, "-o %s is %s too: give it another name", o->output, from[i][0]);
    return true;
}

static bool read_gpus(Options *o, Err *e) {
    char *end;
    o->gpus = 1;
    if (!o->gpus_asked) return true;
    if (!strcmp(o->gpus_asked, "all")) return o->gpus = 0, true;
    errno = 0;
    o->gpus = strtoll(o->gpus_asked, &end, 10);
    if (end != o->gpus_asked && !*end && !errno && o->gpus >= 1 && o->gpus <= INT32_MAX) return true;
    return err_set(e, "-g %s: it is a number of devices, 1 or more, or all", o->gpus_asked);
}

static bool check(const Options *o, const CliParsed *parsed, Err *e) {
    if (o->list_devices) return true;
    if (!o->plan) return err_set(e, "no plan given");
    if (!o->mode && !o->inspect && !o->self_test) return err_set(e, "nothing to do: give -m MODE or --inspect");
    if (o->inspect + o->self_test + (o->mode != NULL) > 1) return err_set(e, "one at a time: -m, --inspect, --self-test");
    unsigned now = task(o, e);
    if (!now) return false;
    if (o->n_words && !(now & (GENERATE | CHAT))) return err_set(e, "two plans given: %s and %s", o->plan, o->words[0]);
    warn_of_unused(parsed, now);
    return check_output(o, e);
}

static bool was_given(const CliParsed *parsed, size_t at) {
    for (size_t i = 0; i < LEN(rows); i++)
        if (rows[i].kind != CLI_GROUP && rows[i].at == at) return parsed->given[i];
    return false;
}

bool options_parse(Options *o, int argc, char **argv, bool *done, Err *e) {
    CliParsed parsed;
    *o = (Options){.device = "auto", .steps = -1, .batch = -1, .lines = -1, .chunk = -1,
                   .temperature = -1, .top_p = -1, .min_p = -1, .top_k = -1, .max_answer = -1, .seed = -1, .repetitions = -1, .reasoning = "medium"};
    if (!cli_parse(&options_cli, o, argc, argv, &parsed, e)) return false;
    if ((*done = parsed.done)) return true;
    /* What the environment says gives way to what the command line asks for. */
    if ((o->inspect || o->self_test) && !was_given(&parsed, AT(mode))) o->mode = NULL;
    if (parsed.words > 1 && !was_given(&parsed, AT(input))) o->input = NULL;
    o->plan = argv[0];
    o->words = argv + (parsed.words > 0);
    o->n_words = parsed.words - (parsed.words > 0);
    return read_gpus(o, e) && check(o, &parsed, e);
}
