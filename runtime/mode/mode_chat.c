/* mode_chat.c - -m chat: turns of user and model in the harmony format (harmony.h), the sequence so far kept in the KV cache.
 *
 * On a terminal: line editing, the analysis dimmed, Ctrl-C ends an answer. Otherwise each line of stdin (or of -i FILE) is a
 * turn, and a message that is not an answer is preceded by a line "[analysis]" or "[commentary]", the answer behind one by
 * "[final]". --hide-reasoning leaves the analysis out, on either.
 * What the model thought on the way to an answer is dropped once the answer is there, as in openai's rendering; so a turn runs
 * that answer again, behind what led to it, and the new message. With --keep-reasoning nothing is dropped and nothing is run
 * twice: a turn runs the end of the last message (its stop token became <|end|>) and the new one. */
#include "line.h"
#include "talk.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_CONTEXT = 32768 };

typedef struct Chat Chat;
struct Chat {
    Session *s;
    Talk talk;
    HarmonyTok tok;
    HarmonySystem system;
    Harmony reader;
    StopText stop; /* --stop, in the answer */
    Line line;
    char date[16];
    bool screen, color, labels; /* stdout is a terminal; and may have colours; a message of this turn had a label */
    bool column;        /* the cursor is not at a line's beginning */
    bool thoughts;      /* the sequence holds reasoning that still counts, as no answer came of it yet */
};

/* --- showing ---------------------------------------------------------------------------------------------------------------- */

static void put(Chat *c, const char *s, size_t n) {
    if (!n) return;
    fwrite(s, 1, n, stdout);
    c->column = s[n - 1] != '\n';
}

/* The model has no business moving the cursor: neither C0's control characters nor C1's (U+0080 to U+009F) reach a terminal. */
static void put_text(Chat *c, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool c0 = ((unsigned char)s[i] < 32 && s[i] != '\n' && s[i] != '\t') || s[i] == 127;
        bool c1 = i + 1 < n && s[i] == '\xc2' && (unsigned char)s[i + 1] < 0xa0;
        if (!c->screen || (!c0 && !c1)) put(c, s + i, 1);
        else i += c1;
    }
}

static void begin_message(Chat *c, const HarmonyEvent *v) {
    static const char *const names[] = {"analysis", "commentary", "final"};
    bool answer = v->channel == CHANNEL_FINAL;
    if (c->column) put(c, "\n", 1);
    if (c->color) {
        if (!answer) fputs("\033[2m", stdout);
        if (*v->recipient) printf("[call of %s] ", v->recipient);
        return;
    }
    if (!answer || c->labels) printf("[%s%s%s]\n", names[v->channel], *v->recipient ? " to " : "", v->recipient);
    c->labels |= !answer;
}

/* An answer's text goes through --stop. */
static void put_answer(Chat *c, const HarmonyEvent *v) {
    Text t = {0};
    stop_text(&c->stop, v->text, v->n, &t);
    if (v->ends) stop_text_end(&c->stop, &t);
    put_text(c, t.at, t.n);
    text_free(&t);
}

static void show(Chat *c, HarmonyEvent v) {
    if (v.channel == CHANNEL_ANALYSIS && c->s->o->hide_reasoning) return;
    if (v.begins) begin_message(c, &v);
    if (v.channel == CHANNEL_FINAL) put_answer(c, &v);
    else put_text(c, v.text, v.n);
    if (v.ends && c->color) fputs("\033[0m", stdout);
    if (v.ends && c->column) put(c, "\n", 1);
    fflush(stdout);
}

static bool take(void *ctx, int32_t id) {
    Chat *c = ctx;
    show(c, harmony_feed(&c->reader, id));
    return !ferror(stdout) && !c->stop.found;
}

/* --- a turn ----------------------------------------------------------------------------------------------------------------- */

/* The generated message ends as history has it. Its last id is not in the cache yet. */
static void close_turn(Chat *c, TalkEnd end) {
    HarmonyIds *ids = &c->talk.ids;
    int32_t *last = &ids->at[ids->n - 1], end_id = c->tok.id[H_END];
    if (end == TALK_STOP_ID && *last != c->tok.id[H_CALL]) *last = end_id;
    else if (*last != end_id && *last != c->tok.id[H_CALL]) harmony_put(ids, end_id);
}

static void drop_reasoning(Chat *c) {
    size_t same = 0;
    if (c->s->o->keep_reasoning) return;
    c->thoughts = !harmony_forget(&c->tok, &c->talk.ids, &same);
    if (!c->thoughts) talk_changed(&c->talk, same);
}

static bool append(Chat *c, const Text *text, Err *e) {
    HarmonyIds *ids = &c->talk.ids;
    return (ids->n || harmony_begin(&c->tok, ids, &c->system, e)) &&
           harmony_user(&c->tok, ids, text->at, text->n, e) && harmony_answer(&c->tok, ids, e);
}

/* The message was not sent. On a terminal the conversation goes on. */
static bool no_room(Chat *c, size_t before, Err *e) {
    int64_t steps = c->s->steps, most = c->s->plan->max_seq;
    err_set(e, "%s %zu tokens, there is room for %" PRId64 "%s: %s", before ? "the conversation would have" : "with the instructions this message has",
            c->talk.ids.n, steps, c->line.terminal ? "; it was not sent" : "",
            steps < most                  ? "a larger -n makes more"
            : before && c->line.terminal ? "/new begins another, a plan compiled with a larger --max-seq has more"
                                         : "a plan compiled with a larger --max-seq has more");
    c->talk.ids.n = before;
    if (!c->line.terminal) return false;
    return fprintf(stderr, "%s\n", e->msg), true;
}

static bool turn(Chat *c, const Text *text, Err *e) {
    TalkEnd end;
    Session *s = c->s;
    size_t before = c->talk.ids.n;
    if (!append(c, text, e)) return false;
    if ((int64_t)c->talk.ids.n > s->steps) return no_room(c, before, e);
    double begin = seconds_now();
    if (!c->thoughts && !s->o->keep_reasoning) c->talk.back = (int64_t)c->talk.ids.n;
    c->labels = false, c->stop = (StopText){.stops = s->generation.stops};
    harmony_open(&c->reader, &c->tok);
    bool ok = c->line.terminal ? talk_run_until_interrupt(&c->talk, take, c, &end, SA_RESTART, e) : talk_run(&c->talk, take, c, &end, e);
    if (!ok) return false;
    show(c, harmony_close(&c->reader));
    text_free(&c->stop.held);
    if (c->column) put(c, "\n", 1);
    if (!cli_stdout(e)) return false;
    close_turn(c, end);
    int64_t cached = sched_cached(c->talk.sched, 0);
    drop_reasoning(c);
    if (end == TALK_FULL)
        fprintf(stderr,
                "(the room of %" PRId64 " tokens is full: /new begins another conversation, a larger -n has more)\n",
                s->steps);
    if (end == TALK_MOST) fprintf(stderr, "(cut off after %" PRId64 " tokens: --max-answer allows more)\n", c->talk.most);
    if (end == TALK_INTERRUPTED) fprintf(stderr, "(interrupted)\n");
    if (s->o->verbose)
        fprintf(stderr,
                "turn: %" PRId64 " prompt tokens run, %" PRId64 " generated, %" PRId64 " in the cache, %.2f s\n",
                c->talk.ran, c->talk.r.n_out, cached, seconds_now() - begin);
    return true;
}

/* --- commands ------------------------------------------------------------------------------------------------------------------ */

static const char help[] = "/new   begin another conversation\n/quit  leave (or Ctrl-D)\n/help  this\n"
                           "A line that ends in \\ goes on in the next; pasted lines stay together. Ctrl-C ends an answer, or gives a line up.\n";

static void unknown_command(const char *word) {
    static const char *const names[] = {"/new", "/quit", "/exit", "/help", NULL};
    Err e;
    err_set(&e, "there is no command %s; /help tells what there is", word);
    cli_suggest(&e, word, names);
    fprintf(stderr, "%s\n", e.msg);
}

/* Is it "/word", blanks around it aside? Only those begin with a slash and have nothing else: "/usr/bin is full" is a message. */
static bool command(Chat *c, const Text *line, bool *quit) {
    char word[64];
    const char *text = line->at + strspn(line->at, " \t");
    size_t n = strcspn(text, " \t"), end = n + strspn(text + n, " \t");
    if (*text != '/' || memchr(text + 1, '/', n - 1) || text + end != line->at + line->n) return false;
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    if (!strcmp(word, "/quit") || !strcmp(word, "/exit")) *quit = true;
    else if (!strcmp(word, "/help")) fputs(help, stderr);
    else if (!strcmp(word, "/new")) talk_restart(&c->talk), c->thoughts = false;
    else unknown_command(word);
    return true;
}

/* A turn's text: lines up to one without a backslash at its end. False at the end of input, on Ctrl-C and when it cannot be read. */
static bool read_turn(Chat *c, Text *t) {
    t->n = 0;
    bool more = line_read(&c->line, "> ", t), any = more;
    while (more && t->n && t->at[t->n - 1] == '\\') {
        t->at[t->n - 1] = '\n';
        more = line_read(&c->line, "… ", t);
    }
    return any && !c->line.interrupted && !c->line.why;
}

static bool is_blank(const Text *t) { return strspn(t->at, " \t") == t->n; }

static bool turns(Chat *c, Err *e) {
    bool ok = true, quit = false;
    Text text = {0};
    for (int i = 0; i < c->s->o->n_words; i++) text_add(&text, "%s%s", i ? " " : "", c->s->o->words[i]);
    if (text.n) ok = turn(c, &text, e);
    while (ok && !quit && (read_turn(c, &text) || c->line.interrupted)) {
        if (c->line.interrupted) fprintf(stderr, "(Ctrl-D or /quit leaves)\n");
        else if (!is_blank(&text) && !command(c, &text, &quit)) ok = turn(c, &text, e);
    }
    text_free(&text);
    if (ok && c->line.why) return err_set(e, "%s: cannot be read: %s", c->s->o->input ? c->s->o->input : "stdin", strerror(c->line.why));
    if (c->line.terminal && !quit) putchar('\n');
    return ok;
}

/* --- the mode ------------------------------------------------------------------------------------------------------------------- */

/* A day that there is, written so. */
static bool is_date(const char *text) {
    struct tm day = {0};
    char again[16];
    const char *end = strptime(text, "%Y-%m-%d", &day);
    if (!end || *end || timegm(&day) == -1) return false; /* timegm makes March 3rd of February 31st */
    return strlen(text) == 10 && strftime(again, sizeof again, "%Y-%m-%d", &day) && !strcmp(text, again);
}

static bool check(Chat *c, Err *e) {
    const Options *o = c->s->o;
    time_t now = time(NULL);
    struct tm day;
    if (o->input_ids) return err_set(e, "--input-ids: chat is text");
    if (o->date && !is_date(o->date)) return err_set(e, "--date %s: it is a date, YYYY-MM-DD", o->date);
    strftime(c->date, sizeof c->date, "%Y-%m-%d", localtime_r(&now, &day));
    c->system =
        (HarmonySystem){.reasoning = o->reasoning, .date = o->date ? o->date : c->date, .instructions = o->system};
    return true;
}

static void open_talk(Chat *c) {
    Session *s = c->s;
    if (s->o->steps < 0) s->steps = s->plan->max_seq < DEFAULT_CONTEXT ? s->plan->max_seq : DEFAULT_CONTEXT;
    talk_open(&c->talk, s);
    c->talk.most = s->o->max_answer > 0 ? s->o->max_answer : s->generation.max_new;
    talk_stop_at(&c->talk, c->tok.id[H_RETURN]), talk_stop_at(&c->talk, c->tok.id[H_CALL]);
}

bool mode_chat(Session *s, Err *e) {
    Chat c = {.s = s};
    const char *path = s->o->input ? s->o->input : "-";
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (!check(&c, e) || !talk_sampling(s, e) || !session_tokenizer(s, e) || !harmony_tok(&c.tok, s->tok, e))
        return false;
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f) return err_set(e, "%s: %s", path, strerror(errno));
    bool ok = session_load(s, e);
    if (ok) {
        open_talk(&c);
        line_open(&c.line, f);
        c.screen = isatty(1);
        const char *term = getenv("TERM");
        c.color = c.screen && !getenv("NO_COLOR") && !(term && !strcmp(term, "dumb"));
        if (c.line.terminal)
            fprintf(stderr, "%s on %s, %" PRId64 " tokens of context. /help tells the commands.\n", s->plan->model_name,
                    s->dev->ops->name, s->steps);
        ok = turns(&c, e);
        line_close(&c.line);
        harmony_free(&c.reader);
        talk_close(&c.talk);
        if (ok) session_profile(s);
    }
    if (f != stdin) fclose(f);
    return ok;
}
