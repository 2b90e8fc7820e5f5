/* tok_impl.h - what the tokenizer's own files share; beside them only their test includes it.
 *
 * Loading: a loader calls tok_add for every id, tok_index once, then gives the merges (bpe_reserve + bpe_pair for each,
 * or bpe_derive) and the pattern (split_compile). Everything lies in t->arena, but PCRE2's code. */
#ifndef GPTOSS_TOK_IMPL_H
#define GPTOSS_TOK_IMPL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tok.h"

enum {
    TOKEN_TEXT = 1,    /* stands for its bytes in ordinary text */
    TOKEN_SPECIAL = 2, /* found only when asked for */
    TOKEN_ADDED = 4,   /* found in any text, before the pattern */
};
enum {
    TOK_MAX_ID = (1 << 24) - 1, /* a table this long is still small; a wilder id is a broken file */
    TOK_MAX_LEN = 512,          /* bytes of a token whose merges are derived; o200k's longest has 128 */
    TOK_MAX_CUTS = 1 << 24,     /* bytes of all of them; o200k's have 1.4 million */
    TOK_MAX_PAIRS = 1 << 23,    /* that are found in them: 446,189 */
    TOK_MAX_NAME = 256          /* of a special or added one, which is looked for at each byte of a text; gpt-oss's longest has 18 */
};

typedef struct Token Token;
struct Token {
    const char *at; /* NULL: no such id */
    uint32_t n;
    uint32_t kind; /* TOKEN_*; 0: only decodes */
};

/* Bytes to id. Open addressing; the bytes lie in Tok.token. */
typedef struct Slot Slot;
struct Slot {
    uint32_t hash;
    int32_t id; /* -1: free */
};
typedef struct TokMap TokMap;
struct TokMap {
    Slot *slot;
    size_t mask;
};

/* A pair of adjacent tokens to the token they merge into. */
typedef struct Pair Pair;
struct Pair {
    uint64_t key; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank;
    int32_t id;
};

struct Tok {
    Arena *arena;
    uint64_t seed; /* of the maps, another one each time: a file cannot choose tokens that collide */
    Token *token; /* by id */
    size_t n, cap;
    TokMap text, named; /* TOKEN_TEXT; TOKEN_SPECIAL and TOKEN_ADDED */
    size_t *named_len;  /* the lengths that occur in named, longest first */
    size_t named_lens;
    bool named_first[256]; /* bytes with which one of them begins */
    int32_t byte_id[256];  /* -1: this byte has no token */
    Pair *pair;
    size_t pair_mask, pairs;
    bool whole;        /* a piece that is itself a token is that token, whatever the merges say */
    const char *pattern; /* as the file has it */
    pcre2_match_context *limits; /* of split */
    pcre2_code *split;   /* NULL: the text is one piece */
    pcre2_code *careful; /* the same, with callouts, at which time is looked at */
};

/* tok.c */
bool tok_add(Tok *t, int64_t id, const char *bytes, size_t n, uint32_t kind, Err *e); /* copies the bytes */
bool tok_index(Tok *t, Err *e); /* after the last tok_add: the maps; an error if two ids share their bytes */
int32_t tok_find(const Tok *t, const TokMap *m, const char *bytes, size_t n); /* -1: none */
bool tok_add_o200k(Tok *t, Err *e);                                           /* o200k_harmony's special tokens */

/* bpe.c */
typedef struct Bpe Bpe; /* scratch of one tok_encode: its ids, and a piece being merged */
struct Bpe {
    int32_t *id; /* what was encoded so far */
    size_t n, cap;
    struct Symbol *symbol;
    size_t symbols;
    struct Merge *heap;
    size_t heap_n, heap_cap;
};
void bpe_reserve(Tok *t, size_t pairs);                                        /* room for so many bpe_pair */
bool bpe_pair(Tok *t, int32_t left, int32_t right, uint32_t rank, int32_t id); /* false: there already */
bool bpe_derive(Tok *t, const uint32_t *rank, Err *e); /* every split of a token into two is a pair of its rank (by id) */
bool bpe_put(Bpe *b, int32_t id, Err *e);
bool bpe_piece(Bpe *b, const Tok *t, const char *piece, size_t n, Err *e);
void bpe_free(Bpe *b);

/* tok_split.c */
extern const char split_o200k[], split_gpt2[];
bool split_compile(Tok *t, const char *pattern, size_t n, Err *e);
typedef struct Split Split; /* one tok_encode's matching, and its time */
struct Split {
    const Tok *tok;
    pcre2_match_data *found;
    pcre2_match_context *watched; /* of careful; made when it is needed */
    double seconds, until;        /* of CPU time: how many it may take, when they are over */
    size_t work, pieces, last;    /* since the clock was read; where the last callout was */
};
bool split_begin(Split *s, const Tok *t, size_t n, Err *e); /* n: of the whole text */
bool split_encode(Split *s, Bpe *b, const char *text, size_t n, Err *e); /* text is UTF-8 */
void split_end(Split *s);

/* Loaders: bytes is the whole file, with a NUL after it. The messages do not name the file; tok_open does. */
bool tok_load_json(Tok *t, const char *bytes, size_t n, Err *e);
bool tok_load_tiktoken(Tok *t, const char *bytes, size_t n, Err *e);
bool tok_load_bin(Tok *t, const char *bytes, size_t n, Err *e);

#endif
