/* fuzz_prompts.c - getp's requests and generate's ids: the first byte says whether they are text (special tokens or not) or ids, the
 * rest is the file. */
#include "fuzz.h"
#include "runtime/mode/mode.h"

enum { VOCAB = 300 };
static Tok *tok; /* every input's: fuzz_tok has the reader of tokenizers */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Plan plan = {.config.vocab = VOCAB, .max_seq = 64, .max_batch = 2};
    Options o = {.tokenizer = "out/fuzz/model/tokenizer.json", .lines = -1, .steps = -1};
    Session s = {.o = &o, .plan = &plan, .arena = arena_new(), .steps = 64, .tok = tok};
    Prompts p;
    Err e = {0};
    int how = n ? data[0] % 3 : 0;
    o.input_ids = how == 0, o.special = how == 1, o.lines = n > 1 && data[1] == '2' ? 1 : -1;
    if (prompts_read(&s, fuzz_file(&fd, path, data + (n > 0), n - (n > 0)), &p, &e)) {
        for (size_t i = 0; i < p.n; i++) {
            fuzz_touch(p.at[i].ids, p.at[i].n * sizeof *p.at[i].ids);
            for (size_t k = 0; k < p.at[i].n; k++)
                if (p.at[i].ids[k] < 0 || p.at[i].ids[k] >= VOCAB) abort();
        }
        Requests r = requests_make(&s, &p, "it is left out");
        for (size_t i = 0; i < r.n; i++)
            if (r.at[i].n_ids < 1 || r.at[i].max_new < 1 || r.at[i].n_ids + r.at[i].max_new > 65) abort();
    } else fuzz_said(&e);
    tok = s.tok;
    arena_free(s.arena);
    return 0;
}
