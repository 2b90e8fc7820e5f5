/* harmony.c - see harmony.h. */
#include "harmony.h"

#include <stdlib.h>

enum { HEADER_MAX = 96 }; /* bytes: a longer role, channel or type is no header */

static const char *const names[H_IDS] = {"<|start|>",     "<|end|>",    "<|message|>", "<|channel|>",
                                         "<|constrain|>", "<|return|>", "<|call|>"};

bool harmony_tok(HarmonyTok *h, const Tok *tok, Err *e) {
    Text missing = {0};
    h->tok = tok;
    for (int i = 0; i < H_IDS; i++)
        if ((h->id[i] = tok_special(tok, names[i])) < 0 && i != H_CONSTRAIN && i != H_CALL)
            text_add(&missing, " %s", names[i]);
    bool ok = !missing.n || err_set(e,
                                    "the tokenizer has no harmony tokens, which -m chat is made of: missing are%s. -z "
                                    "gives another tokenizer; -m generate needs none of them",
                                    missing.at);
    text_free(&missing);
    return ok;
}

/* --- rendering ---------------------------------------------------------------------------------------------------------- */

void harmony_put(HarmonyIds *to, int32_t id) {
    if (to->n == to->cap) {
        to->cap = to->cap ? 2 * to->cap : 256;
        to->at = realloc(to->at, to->cap * sizeof *to->at);
        if (!to->at) out_of_memory(to->cap * sizeof *to->at, "a conversation's tokens");
    }
    to->at[to->n++] = id;
}

bool harmony_text(const HarmonyTok *h, HarmonyIds *to, const char *text, size_t n, Err *e) {
    int32_t *ids = NULL;
    size_t count = 0;
    bool ok = !n || tok_encode(h->tok, text, n, false, &ids, &count, e);
    for (size_t i = 0; ok && i < count; i++) harmony_put(to, ids[i]);
    free(ids);
    return ok;
}

static bool message(const HarmonyTok *h, HarmonyIds *to, const char *role, const char *text, size_t n, Err *e) {
    harmony_put(to, h->id[H_START]);
    if (!harmony_text(h, to, role, strlen(role), e)) return false;
    harmony_put(to, h->id[H_MESSAGE]);
    if (!harmony_text(h, to, text, n, e)) return false;
    harmony_put(to, h->id[H_END]);
    return true;
}

/* The words are openai-harmony's: the models were trained on them. */
bool harmony_begin(const HarmonyTok *h, HarmonyIds *to, const HarmonySystem *s, Err *e) {
    Text t = {0};
    text_add(&t,
             "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: "
             "%s\n\nReasoning: %s\n\n"
             "# Valid channels: analysis, commentary, final. Channel must be included for every message.",
             s->date, s->reasoning);
    bool ok = message(h, to, "system", t.at, t.n, e);
    if (ok && s->instructions && *s->instructions) {
        t.n = 0;
        text_add(&t, "# Instructions\n\n%s", s->instructions);
        ok = message(h, to, "developer", t.at, t.n, e);
    }
    text_free(&t);
    return ok;
}

bool harmony_user(const HarmonyTok *h, HarmonyIds *to, const char *text, size_t n, Err *e) {
    return message(h, to, "user", text, n, e);
}

bool harmony_answer(const HarmonyTok *h, HarmonyIds *to, Err *e) {
    harmony_put(to, h->id[H_START]);
    return harmony_text(h, to, "assistant", 9, e);
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static void clear(Text *t) {
    text_put(t, "", 0);
    t->n = 0, t->at[0] = 0;
}

void harmony_open(Harmony *h, const HarmonyTok *t) {
    h->t = t, h->state = HS_ROLE, h->channel = CHANNEL_FINAL, h->open = false, h->own_role = true;
    h->stream = (TokStream){0}, h->recipient[0] = 0;
    clear(&h->header), clear(&h->text);
}

void harmony_free(Harmony *h) { text_free(&h->header), text_free(&h->text); }

static bool starts(const char *s, const char *with) { return !strncmp(s, with, strlen(with)); }

/* " to=functions.f" anywhere in a header. */
static void find_recipient(Harmony *h, const char *header) {
    const char *to = strstr(header, "to=");
    if (!to || (to > header && to[-1] != ' ')) return;
    size_t n = strcspn(to + 3, " \t\n<");
    snprintf(h->recipient, sizeof h->recipient, "%.*s", (int)(n < sizeof h->recipient ? n : sizeof h->recipient - 1),
             to + 3);
}

/* An unknown channel is shown like an answer rather than hidden. */
static HarmonyChannel channel_of(const char *name) {
    name += strspn(name, " \t\n");
    return starts(name, "analysis") ? CHANNEL_ANALYSIS : starts(name, "comment") ? CHANNEL_COMMENTARY : CHANNEL_FINAL;
}

/* The event of a call: h->text, which the caller has filled. */
static HarmonyEvent event(Harmony *h, bool ends) {
    HarmonyEvent v = {.channel = h->channel, .text = h->text.at, .n = h->text.n};
    memcpy(v.recipient, h->recipient, sizeof v.recipient);
    v.begins = v.n && !h->open;
    h->open |= v.begins;
    v.ends = ends && h->open;
    if (ends) h->open = false;
    return v;
}

/* Where the text of a header begins that turns out to have some: behind the channel's name. */
static size_t header_text(const Harmony *h) {
    static const char *const channels[] = {"analysis", "commentary", "final"};
    const char *s = h->header.at;
    size_t n = 0, blank = strspn(s, " ");
    for (size_t i = 0; h->state == HS_CHANNEL && i < LEN(channels); i++)
        if (starts(s + blank, channels[i])) n = blank + strlen(channels[i]);
    return n + (n ? strspn(s + n, " \n") : 0);
}

/* A header that lacks its <|message|>: the text of a message. */
static void header_is_text(Harmony *h) {
    size_t from = header_text(h);
    if (h->state == HS_CHANNEL) h->channel = channel_of(h->header.at);
    text_put(&h->text, h->header.at + from, h->header.n - from);
    clear(&h->header);
    h->state = HS_CONTENT;
}

/* At a message's end: is there text in the header? Names and recipients are none. */
static bool header_has_text(const Harmony *h) {
    const char *s = h->header.at + header_text(h);
    bool named = s > h->header.at;
    s += strspn(s, " \n");
    if (!*s || starts(s, "to=")) return false;
    if (h->state == HS_LOST) return !starts(s, "assistant");
    return h->state == HS_ROLE ? h->own_role : h->state == HS_CHANNEL && named;
}

/* Can it still become one? Behind our own "assistant" only a recipient can follow; names have no line breaks. */
static bool may_be_header(const Harmony *h) {
    const char *s = h->header.at;
    size_t n = h->header.n, k = n < 4 ? n : 4;
    if (n > HEADER_MAX || memchr(s, '\n', n)) return false;
    if (h->state == HS_LOST)
        return !memcmp(s, "assistant", n < 9 ? n : 9) && (n <= 9 || s[9] == ' '); /* a role that lacks its <|start|> */
    if (h->state != HS_ROLE || !h->own_role) return true;
    return !memcmp(s, " to=", k) || !memcmp(s, "to=", n < 3 ? n : 3) || strspn(s, " ") == n;
}

static void new_message(Harmony *h) { h->channel = CHANNEL_FINAL, h->recipient[0] = 0; }

static bool blank(const Harmony *h, int32_t id) {
    size_t n = 0;
    const char *s = tok_bytes(h->t->tok, id, &n);
    while (s && n && strchr(" \t\r\n", *s)) s++, n--;
    return !n;
}

static HarmonyEvent ordinary(Harmony *h, int32_t id) {
    if (h->state == HS_BETWEEN && blank(h, id)) return event(h, false);
    if (h->state == HS_BETWEEN) new_message(h), h->state = HS_LOST;
    bool content = h->state == HS_CONTENT;
    tok_stream(&h->stream, h->t->tok, id, content ? &h->text : &h->header); /* no such id: nothing */
    if (!content && !may_be_header(h)) header_is_text(h);
    return event(h, false);
}

/* A header token came: the header's last part is complete. */
static void end_part(Harmony *h) {
    tok_stream_end(&h->stream, &h->header);
    find_recipient(h, h->header.at);
    if (h->state == HS_CHANNEL) h->channel = channel_of(h->header.at);
    clear(&h->header);
}

/* A message is over: text that was taken for a header, and is none, is its text. */
static HarmonyEvent end_message(Harmony *h, HarmonyState next) {
    if (h->state == HS_CONTENT) tok_stream_end(&h->stream, &h->text);
    else tok_stream_end(&h->stream, &h->header);
    if (header_has_text(h)) header_is_text(h);
    HarmonyEvent v = event(h, true);
    clear(&h->header);
    h->state = next, h->own_role = false;
    return v;
}

HarmonyEvent harmony_feed(Harmony *h, int32_t id) {
    const int32_t *of = h->t->id;
    clear(&h->text);
    if (id == of[H_START]) {
        HarmonyEvent v = end_message(h, HS_ROLE);
        return new_message(h), v;
    }
    if (id == of[H_CHANNEL]) {
        if (h->state != HS_CONTENT && h->state != HS_BETWEEN)
            return end_part(h), h->state = HS_CHANNEL, event(h, false);
        HarmonyEvent v = end_message(h, HS_CHANNEL); /* the next header, without its role */
        return new_message(h), v;
    }
    if (id == of[H_CONSTRAIN] && of[H_CONSTRAIN] >= 0) {
        if (h->state != HS_CONTENT && h->state != HS_BETWEEN) end_part(h), h->state = HS_CONSTRAIN;
        return event(h, false); /* inside text: dropped */
    }
    if (id == of[H_MESSAGE]) {
        if (h->state == HS_BETWEEN) new_message(h);
        else if (h->state != HS_CONTENT) end_part(h); /* a second one inside text: dropped */
        return h->state = HS_CONTENT, event(h, false);
    }
    if (id == of[H_END] || id == of[H_RETURN] || (id == of[H_CALL] && of[H_CALL] >= 0))
        return end_message(h, HS_BETWEEN);
    if (tok_is_special(h->t->tok, id)) return event(h, false); /* one that has no place in a turn */
    return ordinary(h, id);
}

HarmonyEvent harmony_close(Harmony *h) {
    clear(&h->text);
    return end_message(h, HS_BETWEEN);
}

/* --- forgetting ---------------------------------------------------------------------------------------------------------- */

/* Reads an id; is it the first of a message? Malformed ones too: what the reader shows as a message is one. */
static bool begins(Harmony *h, int32_t id) {
    HarmonyState before = h->state;
    harmony_feed(h, id);
    return id == h->t->id[H_START] || (before == HS_BETWEEN && h->state != HS_BETWEEN) ||
           (before == HS_CONTENT && id == h->t->id[H_CHANNEL]);
}

static void open_between(Harmony *h, const HarmonyTok *t) {
    *h = (Harmony){0};
    harmony_open(h, t);
    h->state = HS_BETWEEN, h->own_role = false;
}

static HarmonyChannel last_channel(const HarmonyTok *t, const HarmonyIds *ids) {
    Harmony h;
    open_between(&h, t);
    for (size_t i = 0; i < ids->n; i++) harmony_feed(&h, ids->at[i]);
    harmony_free(&h);
    return h.channel;
}

/* Ids of the role in front of a message's channel, "<|start|>assistant". */
static size_t role_ids(const HarmonyTok *t, const HarmonyIds *ids, size_t from, size_t to) {
    size_t i = from;
    if (ids->at[i] != t->id[H_START]) return 0;
    while (i < to && ids->at[i] != t->id[H_CHANNEL]) i++;
    return i - from;
}

bool harmony_forget(const HarmonyTok *t, HarmonyIds *ids, size_t *same) {
    Harmony h;
    size_t kept = 0, from = 0; /* ids that stay; where the message lies that is being read */
    HarmonyChannel channel = CHANNEL_FINAL;
    *same = ids->n;
    if (last_channel(t, ids) != CHANNEL_FINAL) return false;
    open_between(&h, t);
    for (size_t i = 0; i < ids->n; i++) {
        int32_t id = ids->at[i];
        if (begins(&h, id)) {
            bool leans = id == t->id[H_CHANNEL] || id == t->id[H_MESSAGE]; /* on the role of the message before it */
            if (channel == CHANNEL_ANALYSIS) kept = from + (leans ? role_ids(t, ids, from, kept) : 0);
            from = kept;
        }
        channel = h.channel;
        if (kept < *same && id != ids->at[kept]) *same = kept; /* up to there all is as it was */
        ids->at[kept++] = id;
    }
    if (*same > kept) *same = kept;
    ids->n = kept;
    harmony_free(&h);
    return true;
}
