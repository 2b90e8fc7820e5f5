/* tok.h - text to token ids and back: byte-level BPE with the o200k pattern (PCRE2).
 *
 * Files (docs/formats.md): tokenizer.json, .tiktoken, tokenizer.bin; told apart by content. All three give the same ids.
 * Contract: the ids are tiktoken's (o200k_harmony) and Hugging Face tokenizers'; tests/tok compares them. Where those
 * take only Unicode strings, this takes bytes: a run of bytes that is not UTF-8 is a piece of its own, merged like any
 * other piece, and the text on either side is split as if it began and ended there. So tokens always give back the bytes.
 * A Tok does not change once opened: any number of threads may encode and decode with it.
 * Unicode is 16's, tiktoken's, whatever PCRE2's is (tok_split.c); compared over all code points (make_expected.js --every).
 * A new file format is one loader in tok_impl.h's list and one line in tok.c's tok_open. */
#ifndef GPTOSS_TOK_H
#define GPTOSS_TOK_H

#include "ir/base.h"

typedef struct Tok Tok;

/* A tokenizer.json, .tiktoken, tokenizer.bin, or a folder that holds tokenizer.json. NULL on error. */
Tok *tok_open(const char *path, Err *e);
void tok_close(Tok *t); /* NULL is fine */

/* Appends the ids of text[0..n) to *ids (malloc'ed or NULL; caller frees) and their number to *count; both are left
 * alone on error. Any bytes are accepted, up to 2 GiB. specials: the text of a special token becomes its id; otherwise
 * it is ordinary text. Added tokens that are not special (tokenizer.json's "special": false) are always found. */
bool tok_encode(const Tok *t, const char *text, size_t n, bool specials, int32_t **ids, size_t *count, Err *e);

/* Bytes of one id, not NUL-terminated, living as long as t; a special token gives its text. NULL: no such id. */
const char *tok_bytes(const Tok *t, int32_t id, size_t *n);
bool tok_is_special(const Tok *t, int32_t id);
int32_t tok_special(const Tok *t, const char *text); /* id of a special token such as "<|return|>"; -1 if none */
int32_t tok_vocab(const Tok *t);                     /* largest id + 1 */

/* Streaming decode for a reader of characters: what is appended to out is always whole UTF-8 characters. An incomplete
 * one is held until a later token completes it. Bytes that cannot become one are U+FFFD, one for each maximal part
 * (Unicode 3.9, as in Rust's from_utf8_lossy). For exact bytes use tok_bytes. Begins as (TokStream){0}. */
typedef struct TokStream TokStream;
struct TokStream {
    unsigned char held[4];
    size_t n;
};
bool tok_stream(TokStream *s, const Tok *t, int32_t id, Text *out); /* false: no such id, nothing changed */
void tok_stream_end(TokStream *s, Text *out);                       /* what is still held becomes U+FFFD */

#endif
