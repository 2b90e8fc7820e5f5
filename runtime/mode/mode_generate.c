/* mode_generate.c - -m generate: one prompt, its continuation as it comes.
 * The prompt: the words behind the plan, else -i FILE, else stdin; one line break at the end of a file is not part of it.
 * Text goes to stdout character by character, with a line break at the end if it has none; with -o FILE exactly as generated,
 * once it is whole. With --input-ids prompt and output are ids. */
#include "talk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct Writer Writer;
struct Writer {
    Session *s;
    TokStream stream;
    StopText stop;
    Text all, fresh; /* fresh: not yet on stdout */
    bool to_stdout;
    int64_t tokens;
};

static bool write_out(Writer *w) {
    bool ok = !w->to_stdout ||
              (fwrite(w->fresh.at ? w->fresh.at : "", 1, w->fresh.n, stdout) == w->fresh.n && !fflush(stdout));
    text_put(&w->all, w->fresh.at, w->fresh.n);
    w->fresh.n = 0;
    return ok;
}

static bool take(void *ctx, int32_t id) {
    Writer *w = ctx;
    Text t = {0};
    if (!w->s->tok) text_add(&t, "%s%" PRId32, w->tokens ? " " : "", id);
    else tok_stream(&w->stream, w->s->tok, id, &t); /* an id that the tokenizer lacks has no text */
    w->tokens++;
    if (t.n) stop_text(&w->stop, t.at, t.n, &w->fresh);
    text_free(&t);
    return write_out(w) && !w->stop.found;
}

static bool finish(Writer *w, bool done, Err *e) {
    Text rest = {0};
    if (w->s->tok) tok_stream_end(&w->stream, &rest);
    if (rest.n) stop_text(&w->stop, rest.at, rest.n, &w->fresh);
    stop_text_end(&w->stop, &w->fresh);
    text_free(&rest);
    bool ends = w->fresh.n ? w->fresh.at[w->fresh.n - 1] == '\n' : w->all.n && w->all.at[w->all.n - 1] == '\n';
    if (w->to_stdout && !ends && (done || w->all.n + w->fresh.n)) text_put(&w->fresh, "\n", 1);
    bool ok = write_out(w) || err_set(e, "stdout: %s", strerror(errno));
    if (ok && done && !w->to_stdout) ok = file_write(w->s->o->output, w->all.at ? w->all.at : "", w->all.n, e);
    text_free(&w->all), text_free(&w->fresh);
    return ok;
}

/* --- the prompt ----------------------------------------------------------------------------------------------------------- */

static bool read_prompt(const Options *o, Text *t, Err *e) {
    const char *path = o->input ? o->input : "-";
    if (o->n_words && o->input)
        return err_set(e, "two prompts: -i %s, and \"%s\" on the command line", o->input, o->words[0]);
    for (int i = 0; i < o->n_words; i++) text_add(t, "%s%s", i ? " " : "", o->words[i]);
    if (o->n_words) return true;
    if (!o->input && isatty(0))
        return err_set(e, "no prompt: gptoss-exec plan.bin -m generate \"text\", or -i FILE, or text on stdin");
    if (!input_read(path, t, e)) return false;
    t->n = text_chomp(t->at, t->n);
    return true;
}

static bool parse_ids(Session *s, const Text *t, struct Prompt *p, Err *e) {
    p->ids = arena_array(s->arena, t->n / 2 + 1, sizeof *p->ids);
    return ids_read(s, t->at, t->n, p->ids, &p->n, e);
}

static bool prompt_ids(Session *s, HarmonyIds *ids, Err *e) {
    Text t = {0};
    struct Prompt p = {0};
    text_put(&t, "", 0);
    bool ok = read_prompt(s->o, &t, e) && (s->o->input_ids ? parse_ids(s, &t, &p, e) : prompt_encode(s, t.at, t.n, s->o->special, &p, e));
    if (ok && !p.n) ok = err_set(e, "the prompt is empty");
    for (size_t i = 0; ok && i < p.n; i++) harmony_put(ids, p.ids[i]);
    text_free(&t);
    return ok;
}

bool mode_generate(Session *s, Err *e) {
    static const char *const ends[] = {"a stop token", "a stop text", "interrupt", "-n", "max_new_tokens"};
    Talk t;
    TalkEnd end;
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (!talk_sampling(s, e) || (!s->o->input_ids && !session_tokenizer(s, e))) return false;
    if (s->o->output && !session_output(s, s->o->output, NULL, e)) return false;
    talk_open(&t, s);
    if (s->o->steps < 0) t.most = s->generation.max_new;
    Writer w = {.s = s, .to_stdout = !s->o->output || file_is_stdout(s->o->output), .stop = {.stops = s->generation.stops}};
    bool ok = prompt_ids(s, &t.ids, e);
    if (ok && (int64_t)t.ids.n > s->steps)
        ok = session_no_room(s, "the prompt", t.ids.n, e);
    ok = ok && session_load(s, e);
    double start = seconds_now();
    ok = ok && talk_run_until_interrupt(&t, take, &w, &end, (int)(SA_RESTART | SA_RESETHAND), e); /* the text is kept; Ctrl-C twice ends the program */
    double seconds = seconds_now() - start;
    Err why;
    if (!finish(&w, ok, ok ? e : &why)) ok = false;
    if (ok && s->o->verbose)
        fprintf(stderr, "generate on %s: %" PRId64 " prompt + %" PRId64 " generated tokens in %.2f s, ended by %s\n",
                s->dev->ops->name, t.ran, t.r.n_out, seconds, ends[end]);
    if (ok) session_profile(s);
    talk_close(&t);
    return ok;
}
