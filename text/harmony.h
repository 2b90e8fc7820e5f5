/* harmony.h - the chat format of gpt-oss: rendering turns to ids, and reading what the model generates.
 *
 * A message is <|start|>ROLE[ to=RECIPIENT]<|channel|>CHANNEL[ to=RECIPIENT][ <|constrain|>TYPE]<|message|>TEXT<|end|>; the
 * last of a turn ends with <|return|>, a call of a tool with <|call|>. Channels: analysis (reasoning), commentary, final.
 * The reader takes any sequence of ids: whatever is malformed becomes text of the message that seems meant, in no case an
 * error. What each malformation becomes: the table of tests/chat/harmony_test.c. */
#ifndef GPTOSS_HARMONY_H
#define GPTOSS_HARMONY_H

#include "tok.h"

typedef enum HarmonyId { H_START, H_END, H_MESSAGE, H_CHANNEL, H_CONSTRAIN, H_RETURN, H_CALL, H_IDS } HarmonyId;

typedef struct HarmonyTok HarmonyTok; /* a tokenizer's ids of the format's tokens */
struct HarmonyTok {
    const Tok *tok;
    int32_t id[H_IDS];
};
bool harmony_tok(HarmonyTok *h, const Tok *tok, Err *e); /* an error names the tokens that are missing */

typedef struct HarmonyIds HarmonyIds; /* a growing list; begins as zeros, ends with free(at) */
struct HarmonyIds {
    int32_t *at;
    size_t n, cap;
};
void harmony_put(HarmonyIds *to, int32_t id);
/* Text is ordinary text: special tokens' names in it do not become their ids. */
bool harmony_text(const HarmonyTok *h, HarmonyIds *to, const char *text, size_t n, Err *e);

typedef struct HarmonySystem HarmonySystem;
struct HarmonySystem {
    const char *reasoning;    /* "low", "medium", "high" */
    const char *date;         /* "2025-08-05" */
    const char *instructions; /* the developer message; NULL or "": none */
};
bool harmony_begin(const HarmonyTok *h, HarmonyIds *to, const HarmonySystem *s,
                   Err *e); /* system and developer messages */
bool harmony_user(const HarmonyTok *h, HarmonyIds *to, const char *text, size_t n, Err *e);
bool harmony_answer(const HarmonyTok *h, HarmonyIds *to, Err *e); /* "<|start|>assistant": the model's turn */

/* What openai's rendering leaves out of a conversation once its last message is an answer (channel final): the messages of the
 * analysis channel. Takes them out of ids, which begin between messages, and says whether the last message is one; *same: how
 * many of the first ids are what they were. Otherwise the reasoning still counts, and nothing changes. */
bool harmony_forget(const HarmonyTok *h, HarmonyIds *ids, size_t *same);

typedef enum HarmonyChannel { CHANNEL_ANALYSIS, CHANNEL_COMMENTARY, CHANNEL_FINAL } HarmonyChannel;
typedef enum HarmonyState {
    HS_BETWEEN,
    HS_LOST /* text between messages */,
    HS_ROLE,
    HS_CHANNEL,
    HS_CONSTRAIN,
    HS_CONTENT
} HarmonyState;

typedef struct HarmonyEvent HarmonyEvent; /* what one id did */
struct HarmonyEvent {
    HarmonyChannel channel;
    bool begins, ends; /* the message; begins comes with its first text */
    const char *text;  /* whole UTF-8 characters of the message, valid until the next call */
    size_t n;
    char recipient[64]; /* of a call, "functions.f"; "" none */
};

typedef struct Harmony Harmony;
struct Harmony {
    const HarmonyTok *t;
    HarmonyState state;
    HarmonyChannel channel;
    bool open, own_role; /* open: the message has shown text; own_role: "assistant" was given by us */
    Text header, text;
    TokStream stream;
    char recipient[64];
};
void harmony_open(Harmony *h, const HarmonyTok *t); /* behind harmony_answer */
HarmonyEvent harmony_feed(Harmony *h, int32_t id);
HarmonyEvent harmony_close(Harmony *h); /* the turn is over: what is still held; harmony_open begins the next */
void harmony_free(Harmony *h);

#endif
