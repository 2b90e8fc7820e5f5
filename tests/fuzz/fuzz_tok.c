/* fuzz_tok.c - tokenizers: tokenizer.json, .tiktoken and tokenizer.bin, told apart by their content; then a text is encoded, all
 * ids are decoded, and the text must come back. */
#include "fuzz.h"
#include "text/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] = "Hello, w\xc3\xb6rld! 12345  \n\t <|start|>it's\xff\xfe \xf0\x9f\x98\x80 aaaaaaaa";
    static int fd;
    char path[64];
    Err e = {0};
    Tok *t = tok_open(fuzz_file(&fd, path, data, n), &e);
    if (!t) return fuzz_said(&e), 0;
    for (int specials = 0; specials < 2; specials++) {
        int32_t *ids = NULL;
        size_t count = 0, size;
        Text back = {0}, shown = {0};
        TokStream s = {0};
        bool ok = tok_encode(t, text, sizeof text - 1, specials, &ids, &count, &e);
        if (!ok) fuzz_said(&e);
        for (size_t i = 0; ok && i < count; i++) {
            const char *bytes = tok_bytes(t, ids[i], &size);
            if (!bytes || !tok_stream(&s, t, ids[i], &shown)) abort();
            text_put(&back, bytes, size);
        }
        tok_stream_end(&s, &shown);
        if (ok && (back.n != sizeof text - 1 || memcmp(back.at, text, back.n))) abort();
        free(ids);
        text_free(&back), text_free(&shown);
    }
    for (int32_t id = -1; id <= tok_vocab(t) && id < 4096; id++) {
        size_t size;
        const char *bytes = tok_bytes(t, id, &size);
        if (bytes) fuzz_touch(bytes, size);
        tok_is_special(t, id);
    }
    tok_close(t);
    return 0;
}
