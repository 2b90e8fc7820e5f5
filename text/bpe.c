/* bpe.c - merge the bytes of one piece into tokens: the adjacent pair of lowest rank first, the leftmost of equals.
 *
 * A heap of candidate pairs over a linked list of symbols: O(n log n), so 100,000 equal characters take milliseconds.
 * A candidate whose symbols changed since is dropped when it comes up. A symbol that grew never has its old id again, so
 * comparing the two ids is enough to tell.
 * tiktoken merges any two neighbours whose bytes together are a token; bpe_derive lists those pairs once, and all three
 * formats then share one table. */
#include "tok_impl.h"

#include <stdlib.h>

typedef struct Symbol Symbol;
struct Symbol {
    int32_t id; /* -1: swallowed by its left neighbour */
    int32_t prev, next;
};

typedef struct Merge Merge;
struct Merge {
    uint64_t key; /* rank << 32 | position: the order of merging */
    int32_t left, right, id;
};

/* --- the table of pairs --- */

static size_t pair_slot(const Tok *t, uint64_t key) {
    uint64_t h = (key ^ t->seed) * 0x9e3779b97f4a7c15u; /* all bits of the seed, which is secret, decide on each bit of the slot */
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h ^ h >> 32) & t->pair_mask;
    while (t->pair[i].key != key && t->pair[i].key != UINT64_MAX) i = (i + 1) & t->pair_mask;
    return i;
}

static uint64_t pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

void bpe_reserve(Tok *t, size_t pairs) {
    size_t slots = 16;
    while (slots < pairs * 2) slots *= 2;
    t->pair = arena_array(t->arena, slots, sizeof *t->pair);
    t->pair_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) t->pair[i].key = UINT64_MAX;
}

bool bpe_pair(Tok *t, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    uint64_t key = pair_key(left, right);
    Pair *p = &t->pair[pair_slot(t, key)];
    if (p->key == key) return false;
    if (++t->pairs > t->pair_mask) die("bpe_pair: more pairs than reserved");
    *p = (Pair){key, rank, id};
    return true;
}

bool bpe_derive(Tok *t, const uint32_t *rank, Err *e) {
    struct {
        Pair *at;
        size_t n, cap;
    } found = {0};
    Arena *a = arena_new();
    size_t cuts = 0;
    bool ok = true;
    for (size_t id = 0; id < t->n && ok; id++) {
        const Token *k = &t->token[id];
        cuts += k->n;
        if (cuts > TOK_MAX_CUTS || found.n > TOK_MAX_PAIRS)
            ok = err_set(e, "too many or too long tokens to derive their merges: up to token %zu they have %zu bytes and %zu pairs, at most %d and %d are taken", id, cuts, found.n, TOK_MAX_CUTS, TOK_MAX_PAIRS);
        for (size_t cut = 1; ok && k->kind & TOKEN_TEXT && cut < k->n; cut++) {
            int32_t left = tok_find(t, &t->text, k->at, cut), right = -1;
            if (left >= 0) right = tok_find(t, &t->text, k->at + cut, k->n - cut);
            if (right >= 0) PUSH(a, found, ((Pair){pair_key(left, right), rank[id], (int32_t)id}));
        }
    }
    if (ok) bpe_reserve(t, found.n);
    for (size_t i = 0; ok && i < found.n; i++)
        bpe_pair(t, (int32_t)(found.at[i].key >> 32), (int32_t)found.at[i].key, found.at[i].rank, found.at[i].id);
    arena_free(a);
    return ok;
}

/* --- scratch --- */

static bool no_memory(Err *e) { return err_set(e, "out of memory while encoding"); }

bool bpe_put(Bpe *b, int32_t id, Err *e) {
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        int32_t *p = realloc(b->id, cap * sizeof *p);
        if (!p) return no_memory(e);
        b->id = p;
        b->cap = cap;
    }
    b->id[b->n++] = id;
    return true;
}

static bool reserve_symbols(Bpe *b, size_t n, Err *e) {
    if (n <= b->symbols) return true;
    size_t cap = n < 128 ? 128 : n + n / 2;
    Symbol *p = realloc(b->symbol, cap * sizeof *p);
    if (!p) return no_memory(e);
    b->symbol = p;
    b->symbols = cap;
    return true;
}

void bpe_free(Bpe *b) {
    free(b->id);
    free(b->symbol);
    free(b->heap);
    *b = (Bpe){0};
}

/* --- merging --- */

static bool push(Bpe *b, Merge m, Err *e) {
    if (b->heap_n == b->heap_cap) {
        size_t cap = b->heap_cap ? b->heap_cap * 2 : 128;
        Merge *p = realloc(b->heap, cap * sizeof *p);
        if (!p) return no_memory(e);
        b->heap = p;
        b->heap_cap = cap;
    }
    size_t i = b->heap_n++;
    for (; i && b->heap[(i - 1) / 2].key > m.key; i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = m;
    return true;
}

static Merge pop(Bpe *b) {
    Merge top = b->heap[0], last = b->heap[--b->heap_n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < b->heap_n) {
        if (child + 1 < b->heap_n && b->heap[child + 1].key < b->heap[child].key) child++;
        if (b->heap[child].key >= last.key) break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = last;
    return top;
}

/* Makes the symbol at position left and the one after it a candidate, if they merge. */
static bool consider(Bpe *b, const Tok *t, int32_t left, Err *e) {
    int32_t right = left < 0 ? -1 : b->symbol[left].next;
    if (right < 0) return true;
    int32_t l = b->symbol[left].id, r = b->symbol[right].id;
    const Pair *p = &t->pair[pair_slot(t, pair_key(l, r))];
    if (p->key == UINT64_MAX) return true;
    return push(b, (Merge){(uint64_t)p->rank << 32 | (uint32_t)left, l, r, p->id}, e);
}

static bool merge(Bpe *b, const Tok *t, Merge m, Err *e) {
    int32_t at = (int32_t)(uint32_t)m.key;
    Symbol *s = &b->symbol[at];
    if (s->id != m.left || s->next < 0 || b->symbol[s->next].id != m.right) return true;
    Symbol *gone = &b->symbol[s->next];
    s->id = m.id;
    s->next = gone->next;
    if (s->next >= 0) b->symbol[s->next].prev = at;
    gone->id = -1;
    return consider(b, t, s->prev, e) && consider(b, t, at, e);
}

static bool begin(Bpe *b, const Tok *t, const unsigned char *piece, size_t n, Err *e) {
    if (!reserve_symbols(b, n, e)) return false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[piece[i]];
        if (id < 0) return err_set(e, "the tokenizer has no token for byte 0x%02x", piece[i]);
        b->symbol[i] = (Symbol){id, (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    }
    b->heap_n = 0;
    for (size_t i = 0; i + 1 < n; i++)
        if (!consider(b, t, (int32_t)i, e)) return false;
    return true;
}

bool bpe_piece(Bpe *b, const Tok *t, const char *piece, size_t n, Err *e) {
    if (!n) return true;
    int32_t id = t->whole ? tok_find(t, &t->text, piece, n) : -1;
    if (id >= 0) return bpe_put(b, id, e);
    if (!begin(b, t, (const unsigned char *)piece, n, e)) return false;
    while (b->heap_n)
        if (!merge(b, t, pop(b), e)) return false;
    for (int32_t i = 0; i >= 0; i = b->symbol[i].next)
        if (!bpe_put(b, b->symbol[i].id, e)) return false;
    return true;
}
