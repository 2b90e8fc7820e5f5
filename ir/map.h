/* map.h - a small hash map from strings or pointers to pointers, for the passes of ir/. Lives in an arena.
 *
 * Keys may come from a file that somebody made: the hash differs from process to process, so that nobody can choose names that all fall
 * in one place. So there is no walking over a map, whose order would differ too, and the hash is kept nowhere (hash64 is for that). */
#ifndef GPTOSS_MAP_H
#define GPTOSS_MAP_H

#include "base.h"

typedef struct Map Map;
struct Map {
    Arena *arena;
    struct MapSlot {
        const char *text; /* the key's text; NULL: the key is the pointer */
        const void *key;  /* NULL: a free slot */
        void *val;
    } *at;
    size_t n, cap; /* cap: a power of two */
};

uint64_t map_hash(const void *bytes, size_t n);

static inline Map *map_new(Arena *a) {
    Map *m = arena_alloc(a, sizeof *m);
    m->arena = a;
    return m;
}

static inline struct MapSlot *map_slot(const Map *m, const char *text, const void *key) {
    size_t i = text ? map_hash(text, strlen(text)) : map_hash(&key, sizeof key);
    for (;; i++) {
        struct MapSlot *s = &m->at[i & (m->cap - 1)];
        if (!s->key || (text ? s->text && !strcmp(s->text, text) : s->key == key)) return s;
    }
}

static inline void map_put_slot(Map *m, const char *text, const void *key, void *val) {
    if (m->n * 2 >= m->cap) {
        Map old = *m;
        m->cap = old.cap ? old.cap * 2 : 64;
        m->at = arena_array(m->arena, m->cap, sizeof *m->at);
        for (size_t i = 0; i < old.cap; i++)
            if (old.at[i].key) *map_slot(m, old.at[i].text, old.at[i].key) = old.at[i];
    }
    struct MapSlot *s = map_slot(m, text, key);
    if (!s->key) m->n++;
    *s = (struct MapSlot){text, key, val};
}

/* Keys are borrowed. A second put of the same key replaces. get: NULL when absent. */
static inline void map_put(Map *m, const char *key, void *val) { map_put_slot(m, key, key, val); }
static inline void map_put_ptr(Map *m, const void *key, void *val) { map_put_slot(m, NULL, key, val); }
static inline void *map_get(const Map *m, const char *key) { return m->cap ? map_slot(m, key, key)->val : NULL; }
static inline void *map_get_ptr(const Map *m, const void *key) { return m->cap ? map_slot(m, NULL, key)->val : NULL; }

#endif
