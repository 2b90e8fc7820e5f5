/* fuzz_model.c - a Hugging Face or openai folder: config.json, generation_config.json, the index and the safetensors header.
 * The input is these four, each ended by a byte 0 (the last one by the end); an empty one is no file. The weights' data, which say
 * nothing, are zeros as long as the header asks, up to 16 MiB. */
#include <fcntl.h>

#include "fuzz.h"
#include "model/model.h"

/* A file of the folder and what is in it: most inputs differ in one of the four from the input before. */
typedef struct File File;
struct File {
    const char *name;
    int fd; /* 0: there is none */
    uint64_t hash;
};
static char folder[64];
static File files[] = {{"config.json"}, {"generation_config.json"}, {"model.safetensors.index.json"}, {"model.safetensors"}};

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    snprintf(folder, sizeof folder, "%s/gptoss-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) abort();
    return 0;
}

static const char *path_of(const File *f) {
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, f->name);
    return path;
}

static void file_gone(File *f) {
    if (f->fd) close(f->fd), unlink(path_of(f));
    f->fd = 0;
}

static void remove_folder(void) {
    for (size_t i = 0; i < LEN(files); i++) file_gone(&files[i]);
    rmdir(folder);
}

/* The file becomes n bytes a, m bytes b and zeros; no file when n is 0. */
static void put(File *f, const void *a, size_t n, const void *b, size_t m, size_t zeros) {
    uint64_t hash = hash64(a, n) * 3 + hash64(b, m) + zeros;
    if (!n) file_gone(f);
    if (!n || (f->fd && f->hash == hash)) return;
    if (!f->fd) f->fd = open(path_of(f), O_RDWR | O_CREAT | O_EXCL, 0600);
    f->hash = hash;
    if (f->fd < 0 || ftruncate(f->fd, 0) || pwrite(f->fd, a, n, 0) != (ssize_t)n || pwrite(f->fd, b, m, (off_t)n) != (ssize_t)m ||
        ftruncate(f->fd, (off_t)(n + m + zeros)))
        abort();
}

/* Where the last tensor ends, as the header says. */
static size_t data_size(const uint8_t *header, size_t n) {
    static const char key[] = "data_offsets\"";
    const uint8_t *end = header + n, *at = header;
    size_t last = 0;
    while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1))) {
        size_t number = 0;
        for (at += sizeof key - 1; at < end && *at != ',' && *at != ']';) at++;
        for (; at < end && *at != ']'; at++)
            if (*at >= '0' && *at <= '9' && number <= 16 << 20) number = number * 10 + (size_t)(*at - '0');
        if (number > last && number <= 16 << 20) last = number;
    }
    return last;
}

static void read_all(const Model *m) {
    static const char *const names[] = {
        "embed",    "unembed",  "norm",         "attn.norm",    "attn.qkv.w", "attn.qkv.b", "attn.sinks", "attn.o.w",
        "attn.o.b", "mlp.norm", "mlp.router.w", "mlp.router.b", "mlp.mlp1.w", "mlp.mlp1.b", "mlp.mlp2.w", "mlp.mlp2.b"};
    const ModelConfig *c = model_config(m);
    for (size_t i = 0; i < LEN(names); i++) {
        char name[64];
        size_t row = 1, bytes, n;
        ModelTensor t;
        Err e = {0};
        snprintf(name, sizeof name, "%s", names[i]);
        if (i >= 3) snprintf(name, sizeof name, "layer%lld.%s", (long long)c->layers - 1, names[i]);
        if (!model_tensor(m, name, &t, &e)) continue;
        for (int k = 1; k < t.rank; k++) row *= (size_t)t.shape[k];
        if (!dtype_bytes(DT_F32, row, &bytes) || bytes > 1 << 20) continue;
        void *out = malloc(bytes);
        if (!model_read(m, name, DT_F32, true, t.shape[0] - 1, 1, out, bytes, &e)) fuzz_said(&e);
        free(out);
        const void *in_place = model_map(m, name, t.dtype, &n);
        if (in_place) fuzz_touch(in_place, n < 4096 ? n : 4096), fuzz_touch((const char *)in_place + n - 1, 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const uint8_t *part[4], *end = data + n;
    size_t size[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *zero = i < 3 ? memchr(data, 0, (size_t)(end - data)) : NULL;
        part[i] = data, size[i] = (size_t)((zero ? zero : end) - data);
        data = zero ? zero + 1 : end;
    }
    static bool once;
    if (!once) once = true, atexit(remove_folder);
    for (int i = 0; i < 3; i++) put(&files[i], part[i], size[i], "", 0, 0);
    uint64_t length = size[3];
    put(&files[3], &length, size[3] ? sizeof length : 0, part[3], size[3], size[3] ? data_size(part[3], size[3]) : 0);
    Err e = {0};
    Model *m = model_open(folder, false, &e);
    if (!m) return fuzz_said(&e), 0;
    float inv_freq[64], concentration;
    model_rope_inv_freq(model_config(m), inv_freq, &concentration);
    if (model_check(m, &e)) read_all(m);
    else fuzz_said(&e);
    model_close(m);
    return 0;
}
