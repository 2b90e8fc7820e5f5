/* tok_json.c - load a Hugging Face tokenizer.json: byte-level BPE with at most one Split pattern.
 *
 * What would change the ids and is not done here is an error that names it: normalizers, other models, dropout, prefixes
 * and suffixes, an added prefix space, other pre-tokenizers, added tokens that strip or want whole words, post-processors
 * that add ids. truncation and padding are settings of a batch, not of the text: not read.
 * Vocabulary keys are in GPT-2's byte-level alphabet, one character a byte. A key with a character outside it stands for
 * its own UTF-8 when decoding, as in Hugging Face's decoder, and no text encodes to it. */
#include "tok_impl.h"

#include "ir/json.h"


/* --- small readers --- */

/* "unset": absent, null, false, "" or 0; what is unset asks for nothing. */
static bool unset(const json_t *v) {
    if (json_is_string(v)) return !json_string_length(v);
    if (json_is_number(v)) return json_number_value(v) == 0;
    return !v || json_is_null(v) || json_is_false(v);
}

static const char *type_of(const json_t *v) {
    const char *s = json_string_value(json_object_get(v, "type"));
    return s ? s : "(without a type)";
}

static bool all_unset(const json_t *o, const char *where, const char *const *keys, Err *e) {
    for (; *keys; keys++)
        if (!unset(json_object_get(o, *keys))) return err_set(e, "%s: \"%s\" is not supported", where, *keys);
    return true;
}

/* Bytes of a word in the byte-level alphabet, written to out (room for n). SIZE_MAX: it has other characters too.
 * The alphabet: printable Latin-1 stands for itself, the other 68 bytes, in order, are U+0100 and on. */
static size_t level_bytes(const char *word, size_t n, char *out) {
    const unsigned char *s = (const unsigned char *)word;
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = s[i];
        if (c >= 0x80) {
            if (c >= 0xe0 || i + 1 == n) return SIZE_MAX;
            c = (c & 0x1f) << 6 | (s[++i] & 0x3fu);
        }
        if (c < 0x100) {
            if (c < 0x21 || (c > 0x7e && c < 0xa1) || c == 0xad) return SIZE_MAX;
        } else {
            c -= 0x100;
            if (c > 67) return SIZE_MAX;
            c = c < 33 ? c : c < 67 ? c - 33 + 0x7f : 0xad;
        }
        out[made++] = (char)c;
    }
    return made;
}

/* --- vocabulary --- */

static bool load_vocab(Tok *t, json_t *vocab, char *room, Err *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(vocab)) return err_set(e, "model.vocab is not an object");
    json_object_foreach(vocab, key, v) {
        if (!json_is_integer(v)) return err_set(e, "model.vocab: \"%.80s\" has no whole number", key);
        size_t len = strlen(key), n = level_bytes(key, len, room);
        bool plain = n != SIZE_MAX;
        if (!tok_add(t, json_integer_value(v), plain ? room : key, plain ? n : len, plain ? TOKEN_TEXT : 0, e))
            return err_wrap(e, "model.vocab: \"%.80s\"", key);
    }
    return true;
}

/* An added token may lie in the vocabulary already (GPT-2's <|endoftext|> does): then it only gains its kind, and a
 * special one no longer stands for its bytes in ordinary text. */
static bool add_added(Tok *t, const json_t *vocab, const json_t *a, Err *e) {
    static const char *const options[] = {"single_word", "lstrip", "rstrip", NULL};
    const json_t *id = json_object_get(a, "id"), *content = json_object_get(a, "content");
    if (!json_is_integer(id) || !json_is_string(content)) return err_set(e, "an entry without id or content");
    const char *text = json_string_value(content);
    uint32_t kind = json_is_true(json_object_get(a, "special")) ? TOKEN_SPECIAL : TOKEN_ADDED;
    if (!all_unset(a, text, options, e)) return false;
    const json_t *known = json_object_getn(vocab, text, json_string_length(content));
    if (!known) return tok_add(t, json_integer_value(id), text, json_string_length(content), kind, e);
    int64_t at = json_integer_value(known);
    if (at != json_integer_value(id))
        return err_set(e, "\"%.80s\" has id %lld here, %lld in the vocabulary", text, (long long)json_integer_value(id),
                       (long long)at);
    Token *k = &t->token[at];
    if (k->kind & (TOKEN_SPECIAL | TOKEN_ADDED)) return err_set(e, "id %lld occurs twice", (long long)at);
    k->kind = kind == TOKEN_SPECIAL ? kind : k->kind | kind;
    return true;
}

static bool load_added(Tok *t, const json_t *vocab, const json_t *list, Err *e) {
    size_t i;
    json_t *a;
    if (list && !json_is_null(list) && !json_is_array(list)) return err_set(e, "added_tokens is not an array");
    json_array_foreach(list, i, a) if (!add_added(t, vocab, a, e)) return err_wrap(e, "added_tokens[%zu]", i);
    return true;
}

/* --- merges --- */

/* The two words of a merge: ["a", "b"], or the older "a b". */
static bool merge_words(const json_t *m, const char *word[2], size_t n[2]) {
    if (json_is_string(m)) {
        word[0] = json_string_value(m);
        const char *space = strchr(word[0], ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        word[1] = space + 1;
        n[0] = (size_t)(space - word[0]);
        n[1] = json_string_length(m) - n[0] - 1;
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *w = json_array_get(m, i);
        if (!json_is_string(w)) return false;
        word[i] = json_string_value(w);
        n[i] = json_string_length(w);
    }
    return json_array_size(m) == 2;
}

static bool load_merge(Tok *t, const json_t *m, uint32_t rank, char *room, Err *e) {
    const char *word[2];
    size_t n[2], len[2];
    if (!merge_words(m, word, n)) return err_set(e, "not a pair of words");
    len[0] = level_bytes(word[0], n[0], room);
    len[1] = len[0] == SIZE_MAX ? SIZE_MAX : level_bytes(word[1], n[1], room + len[0]);
    if (len[1] == SIZE_MAX) return err_set(e, "\"%.40s\": not in the byte-level alphabet", word[0]);
    int32_t left = tok_find(t, &t->text, room, len[0]), right = tok_find(t, &t->text, room + len[0], len[1]);
    int32_t both = tok_find(t, &t->text, room, len[0] + len[1]);
    if (left < 0 || right < 0 || both < 0)
        return err_set(e, "\"%.*s\" + \"%.*s\": %s is not in the vocabulary", (int)(n[0] < 40 ? n[0] : 40), word[0],
                       (int)(n[1] < 40 ? n[1] : 40), word[1],
                       left < 0    ? "the left"
                       : right < 0 ? "the right"
                                   : "the result");
    return bpe_pair(t, left, right, rank, both) || err_set(e, "the pair occurs twice");
}

static bool load_merges(Tok *t, const json_t *merges, char *room, Err *e) {
    size_t i;
    json_t *m;
    if (!json_is_array(merges)) return err_set(e, "model.merges is not an array");
    bpe_reserve(t, json_array_size(merges));
    json_array_foreach(merges, i,
                       m) if (!load_merge(t, m, (uint32_t)i, room, e)) return err_wrap(e, "model.merges[%zu]", i);
    return true;
}

static bool check_model(const json_t *model, Err *e) {
    static const char *const options[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", NULL};
    if (!json_is_object(model)) return err_set(e, "no model");
    if (strcmp(type_of(model), "BPE")) return err_set(e, "model %s is not supported; BPE is", type_of(model));
    return all_unset(model, "model", options, e);
}

/* --- pre-tokenizer --- */

static bool load_split(Tok *t, const json_t *p, Err *e) {
    const json_t *regex = json_object_get(json_object_get(p, "pattern"), "Regex");
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    if (!json_is_string(regex)) return err_set(e, "Split without a Regex pattern is not supported");
    if (!behavior || strcmp(behavior, "Isolated"))
        return err_set(e, "Split behavior %s is not supported; Isolated is", behavior ? behavior : "(none)");
    if (t->split) return err_set(e, "more than one Split is not supported");
    return split_compile(t, json_string_value(regex), json_string_length(regex), e);
}

/* use_regex and add_prefix_space are true when absent. */
static bool load_level(Tok *t, const json_t *p, bool *level, Err *e) {
    if (!json_is_false(json_object_get(p, "add_prefix_space")))
        return err_set(e, "\"add_prefix_space\" is not supported");
    if (*level) return err_set(e, "ByteLevel twice");
    *level = true;
    if (json_is_false(json_object_get(p, "use_regex"))) return true;
    if (t->split) return err_set(e, "ByteLevel's own pattern after a Split is not supported");
    return split_compile(t, split_gpt2, strlen(split_gpt2), e);
}

static bool load_pre(Tok *t, const json_t *p, bool *level, Err *e) {
    const char *type = type_of(p);
    if (!strcmp(type, "Split"))
        return *level ? err_set(e, "Split after ByteLevel is not supported") : load_split(t, p, e);
    if (!strcmp(type, "ByteLevel")) return load_level(t, p, level, e);
    return err_set(e, "%s is not supported; Split and ByteLevel are", type);
}

static bool load_pre_tokenizer(Tok *t, const json_t *p, Err *e) {
    bool level = false;
    size_t i;
    json_t *each;
    if (!json_is_object(p)) return err_set(e, "none; Split and ByteLevel are expected");
    if (strcmp(type_of(p), "Sequence")) {
        if (!load_pre(t, p, &level, e)) return false;
    } else {
        json_array_foreach(json_object_get(p, "pretokenizers"), i,
                           each) if (!load_pre(t, each, &level, e)) return false;
    }
    return level || err_set(e, "no ByteLevel");
}

/* --- the file --- */

static bool check_surroundings(const json_t *root, Err *e) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (!unset(normalizer)) return err_set(e, "normalizer %s is not supported", type_of(normalizer));
    static const char *const level_only[] = {"post_processor", "decoder"};
    for (size_t i = 0; i < LEN(level_only); i++) {
        const json_t *p = json_object_get(root, level_only[i]);
        if (!unset(p) && strcmp(type_of(p), "ByteLevel"))
            return err_set(e, "%s %s is not supported; ByteLevel is", level_only[i], type_of(p));
    }
    return true;
}

static bool load(Tok *t, const json_t *root, char *room, Err *e) {
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    t->whole = json_is_true(json_object_get(model, "ignore_merges"));
    return check_surroundings(root, e) && check_model(model, e) && load_vocab(t, vocab, room, e) &&
           load_added(t, vocab, json_object_get(root, "added_tokens"), e) && tok_index(t, e) &&
           load_merges(t, json_object_get(model, "merges"), room, e) &&
           (load_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), e) || err_wrap(e, "pre_tokenizer"));
}

bool tok_load_json(Tok *t, const char *bytes, size_t n, Err *e) {
    const size_t parsed = (size_t)1 << 30; /* gpt-oss's takes a seventh */
    json_t *root = json_parse(bytes, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, parsed, e);
    if (!root) return false;
    Arena *a = arena_new();
    bool ok = load(t, root, arena_alloc(a, n), e); /* no word, and no pair of them, is longer than the file */
    arena_free(a);
    json_decref(root);
    return ok;
}
