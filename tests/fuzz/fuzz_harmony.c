/* fuzz_harmony.c - what a model generates, read as harmony: any sequence of ids. Two bytes of the input are an id. The first
 * byte below 32 chooses the place where a new turn begins. */
#include "fuzz.h"
#include "text/harmony.h"

/* A tokenizer.bin of the 256 bytes and of harmony's tokens. */
static Tok *small(void) {
    static const char *const special[] = {"<|start|>",     "<|end|>",    "<|message|>", "<|channel|>",
                                          "<|constrain|>", "<|return|>", "<|call|>"};
    static const char *const words[] = {"assistant", "analysis", "commentary", "final", " to=", "functions.f", "user"};
    Text t = {0};
    Err e;
    int fd = 0;
    char path[64];
    int32_t n = 16;
    text_put(&t, &n, 4);
    for (size_t i = 0; i < 256 + LEN(words) + LEN(special); i++) {
        char one = (char)i;
        const char *s = i < 256                ? (i ? &one : "<0x00>")
                        : i < 256 + LEN(words) ? words[i - 256]
                                               : special[i - 256 - LEN(words)];
        float score = i < 256 + LEN(words) ? (float)i : -1e30f;
        n = i < 256 && i ? 1 : (int32_t)strlen(s);
        text_put(&t, &score, 4), text_put(&t, &n, 4), text_put(&t, s, (size_t)n);
    }
    Tok *k = tok_open(fuzz_file(&fd, path, t.at, t.n), &e);
    if (!k) fprintf(stderr, "%s\n", e.msg), abort();
    text_free(&t);
    close(fd);
    return k;
}

static void check(HarmonyEvent v) {
    if (v.n) fuzz_touch(v.text, v.n);
    if ((unsigned)v.channel > CHANNEL_FINAL || !memchr(v.recipient, 0, sizeof v.recipient)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Tok *tok;
    static HarmonyTok ht;
    Err e;
    Harmony h = {0};
    if (!tok && (!(tok = small()) || !harmony_tok(&ht, tok, &e))) abort();
    harmony_open(&h, &ht);
    for (size_t i = 0; i + 1 < n; i += 2) {
        int32_t id = (int32_t)((data[i] | data[i + 1] << 8) % 280);
        if (data[i + 1] == 255) check(harmony_close(&h)), harmony_open(&h, &ht);
        check(harmony_feed(&h, id));
    }
    check(harmony_close(&h));
    harmony_free(&h);
    return 0;
}
