/* fuzz_plan.c - plans that someone made by hand, with a right checksum: opened, inspected and, when the verifier takes them, run on
 * ref and on emu in one of the ways that gptoss-exec has.
 *
 * A plan's bytes are compressed and sealed; so the mutator takes it apart (metadata as a JSON tree, program, sources, lines, code),
 * changes one to three things in the terms of the thing, and puts it together: sizes, offsets and checksum are right again. Numbers and names are
 * mostly replaced by others of the same plan under the same key, for those come furthest. The model lies in out/fuzz/model (seeds). */
#include <jansson.h>
#include <zstd.h>

#include "fuzz.h"
#include "lab/lab.h"
#include "runtime/mode/mode.h"
#include "runtime/mode/selftest.h"

enum { HEADER = 40, ALIGN = 64, WAYS = 16 /* the emulator is slow */, INSTRUCTIONS = 20000 };

/* --- running one ------------------------------------------------------------------------------------------------------------- */

static const char prompts[] = "2\n1 2 3 4 5 6 7 8 9 10\n250\n", one[] = "1\n7 8\n"; /* the emulator takes its time */

static Options options(const char *plan, const char *device, const char *mode, const char *input) {
    return (Options){.plan = plan, .device = device, .mode = mode, .model = "out/fuzz/model", .input = input, .output = "/dev/null",
                     .input_ids = true, .gpus = 1, .steps = 12, .batch = 2, .lines = -1, .chunk = -1, .temperature = -1, .top_p = -1,
                     .min_p = -1, .top_k = -1, .max_answer = -1, .seed = 3, .repetitions = 1, .threads = 1, .emu_limit = INSTRUCTIONS,
                     .reasoning = "medium", .pp = "3", .tg = "2"};
}

static void run_mode(const char *plan, const char *device, const char *mode, Mode *run, double temperature) {
    static int fd;
    char input[64];
    bool slow = !strcmp(device, "emu");
    fuzz_file(&fd, input, slow ? one : prompts, slow ? sizeof one - 1 : sizeof prompts - 1);
    Options o = options(plan, device, mode, input);
    if (slow) o.steps = 3;
    Session s;
    Err e = {0};
    o.temperature = temperature;
    if (!session_open(&s, &o, &e) || !run(&s, &e)) fuzz_said(&e);
    session_close(&s);
}

static void self_test(const Plan *p, uint64_t hash) {
    static const char *const only[] = {"linear_", "attention", "sample", "group", "rmsnorm", "mlp", "embed", "tokens"};
    Err e = {0};
    const DeviceOptions d = {.threads = 1, .limit = INSTRUCTIONS};
    const SelftestOptions t = {.tokens = 3, .seed = 1, .threads = 1, .only = only[hash % LEN(only)], .json = true};
    Device *dev = device_open("emu", 0, p, &d, &e);
    if (!dev || !selftest_run(p, dev, &t, &e)) fuzz_said(&e);
    device_close(dev);
}

static void inspect(const Plan *p) {
    Text t = {0};
    plan_inspect(p, &t);
    text_free(&t);
    plan_inspect_json(p, &t);
    text_free(&t);
}

/* What gptoss-lab a.bin b.bin says of it and of a good one. */
static void compare(Plan *p) {
    static Plan *good;
    static const LabOptions o = {.format = "text"};
    Err e;
    Text t = {0};
    if (!good && !(good = plan_open("out/fuzz/seeds/plan/strict.bin", &e))) abort();
    Lab lab = {.a = arena_new(), .o = &o, .plan = {{.name = "a", .plan = good}, {.name = "b", .plan = p}}, .page = json_object()};
    diff_graphs(&lab), diff_sources(&lab), diff_none(&lab);
    page_text(lab.page, &t);
    text_free(&t);
    json_decref(lab.page), arena_free(lab.a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Err e = {0};
    Plan *p = plan_open(fuzz_file(&fd, path, data, n), &e);
    if (!p) return fuzz_said(&e), 0;
    inspect(p);
    if (n % 4 == 0) compare(p);
    uint64_t hash = hash64(data, n);
    switch (hash % WAYS) {
    case 0: run_mode(path, "emu", "getp", mode_getp, -1); break;
    case 1: run_mode(path, "emu", "parity", mode_parity, -1); break;
    case 2: self_test(p, hash / WAYS); break;
    case 3:
    case 4: run_mode(path, "ref", "logits", mode_logits, -1); break;
    case 5:
    case 6: run_mode(path, "ref", "getp", mode_getp, 0.7); break;
    case 7: run_mode(path, "ref", "bench", mode_bench, -1); break;
    default: run_mode(path, "ref", "getp", mode_getp, -1); break;
    }
    plan_close(p);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    fuzz_hush();
    return 0;
}

/* --- a plan taken apart ------------------------------------------------------------------------------------------------------ */

typedef struct Blob Blob;
struct Blob {
    json_t *at; /* [offset, size] in the metadata */
    char *bytes;
    size_t n;
    bool packed;
};
typedef struct Apart Apart;
struct Apart {
    json_t *meta;
    Blob blob[400];
    size_t n;
};

static unsigned next(unsigned *seed) { return *seed = *seed * 1103515245u + 12345u, *seed >> 8; }

static char *unpack(const void *z, size_t size, size_t *n) {
    unsigned long long most = ZSTD_getFrameContentSize(z, size);
    if (most > 1 << 24) return NULL;
    char *to = malloc(most + 1);
    *n = ZSTD_decompress(to, most, z, size);
    if (ZSTD_isError(*n)) return free(to), NULL;
    to[*n] = 0;
    return to;
}

static void take_blob(Apart *a, json_t *at, bool packed, const uint8_t *blobs, size_t size) {
    uint64_t from = (uint64_t)json_integer_value(json_array_get(at, 0)), n = (uint64_t)json_integer_value(json_array_get(at, 1));
    Blob b = {at, NULL, n, packed};
    if (!at || from > size || n > size - from || a->n == LEN(a->blob)) return;
    if (packed) b.bytes = unpack(blobs + from, n, &b.n);
    else if ((b.bytes = malloc(n + 1))) memcpy(b.bytes, blobs + from, n), b.bytes[n] = 0; /* read as a text, too */
    if (b.bytes) a->blob[a->n++] = b;
}

static bool take_apart(const uint8_t *data, size_t n, Apart *a) {
    uint64_t meta = 0;
    size_t length;
    if (n < HEADER) return false;
    memcpy(&meta, data + 16, 8);
    if (meta > n - HEADER) return false;
    size_t blobs = (HEADER + meta + ALIGN - 1) / ALIGN * ALIGN;
    char *text = unpack(data + HEADER, meta, &length);
    *a = (Apart){text ? json_loadb(text, length, 0, NULL) : NULL, {{0}}, 0};
    free(text);
    if (!a->meta || blobs > n) return json_decref(a->meta), false;
    take_blob(a, json_object_get(a->meta, "program"), true, data + blobs, n - blobs);
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(a->meta, "modules"), i, m) {
        take_blob(a, json_object_get(m, "source"), true, data + blobs, n - blobs);
        take_blob(a, json_object_get(m, "code"), false, data + blobs, n - blobs);
        take_blob(a, json_object_get(m, "lines"), true, data + blobs, n - blobs);
    }
    return true;
}

static void pad(Text *t) {
    while (t->n % ALIGN) text_put(t, "", 1);
}

static void pack(Text *to, const char *bytes, size_t n) {
    size_t cap = ZSTD_compressBound(n);
    char *z = malloc(cap);
    text_put(to, z, ZSTD_compress(z, cap, bytes, n, 1));
    free(z);
}

/* Together again, sealed. 0: it does not fit. */
static size_t put_together(Apart *a, uint8_t *data, size_t max) {
    Text blobs = {0}, file = {0};
    for (size_t i = 0; i < a->n; i++) {
        Blob *b = &a->blob[i];
        pad(&blobs);
        size_t from = blobs.n;
        if (b->packed) pack(&blobs, b->bytes, b->n);
        else text_put(&blobs, b->bytes, b->n);
        json_array_set_new(b->at, 0, json_integer((json_int_t)from));
        json_array_set_new(b->at, 1, json_integer((json_int_t)(blobs.n - from)));
    }
    char *meta = json_dumps(a->meta, JSON_COMPACT | JSON_ENCODE_ANY), header[HEADER] = "GPTOSSPL";
    uint32_t version = PLAN_VERSION;
    text_put(&file, header, HEADER);
    pack(&file, meta, strlen(meta));
    uint64_t head[3] = {file.n - HEADER};
    pad(&file);
    text_put(&file, blobs.at, blobs.n);
    head[1] = file.n, head[2] = hash64(file.at + HEADER, file.n - HEADER);
    memcpy(file.at + 8, &version, 4), memcpy(file.at + 16, head, sizeof head);
    size_t n = file.n <= max ? file.n : 0;
    memcpy(data, file.at, n);
    free(meta), text_free(&blobs), text_free(&file);
    return n;
}

static void drop(Apart *a) {
    for (size_t i = 0; i < a->n; i++) free(a->blob[i].bytes);
    json_decref(a->meta);
}

/* --- numbers and names ------------------------------------------------------------------------------------------------------- */

typedef struct Place Place; /* a leaf of the tree: in an object by key, or in an array by index */
struct Place {
    json_t *in, *leaf;
    const char *key; /* of the nearest object above */
    size_t index;
    bool keyed;
};
typedef struct Places Places;
struct Places {
    Place *at;
    size_t n, cap;
    Arena *arena;
};

static void list_places(Places *p, json_t *j, const char *key) {
    const char *k;
    json_t *v;
    size_t i;
    json_object_foreach(j, k, v) {
        if (!json_is_object(v) && !json_is_array(v)) PUSH(p->arena, *p, ((Place){j, v, k, 0, true}));
        list_places(p, v, k);
    }
    json_array_foreach(j, i, v) {
        if (!json_is_object(v) && !json_is_array(v)) PUSH(p->arena, *p, ((Place){j, v, key, i, false}));
        list_places(p, v, key);
    }
}

static void put_leaf(const Place *at, json_t *v) {
    if (at->keyed) json_object_set_new(at->in, at->key, v);
    else json_array_set_new(at->in, at->index, v);
}

static json_int_t odd_number(json_int_t v, unsigned *seed) {
    static const json_int_t edges[] = {0, 1, -1, 2, 3, 7, 8, 31, 64, 255, 256, 65535, 65536, INT32_MAX, INT32_MIN, UINT32_MAX, (json_int_t)1 << 40, INT64_MAX, INT64_MIN};
    switch (next(seed) % 4) {
    case 0: return edges[next(seed) % LEN(edges)];
    case 1: return v < INT64_MAX ? v + 1 : v;
    case 2: return v > INT64_MIN ? v - 1 : v;
    default: return v < INT64_MAX / 2 && v > INT64_MIN / 2 ? v * 2 : v / 2;
    }
}

/* A leaf becomes another that stands under the same key, or something odd. */
static void change_leaf(Apart *a, unsigned *seed) {
    Places p = {.arena = arena_new()};
    list_places(&p, a->meta, "");
    const Place *at = &p.at[next(seed) % p.n], *other = at;
    for (int tries = 0; tries < 50; tries++) { /* whose kind it is decides, not how many there are of it */
        other = &p.at[next(seed) % p.n];
        if (other != at && !strcmp(other->key, at->key) && json_typeof(other->leaf) == json_typeof(at->leaf)) break;
        other = at;
    }
    if (other != at && next(seed) % 4) put_leaf(at, json_deep_copy(other->leaf));
    else if (json_is_integer(at->leaf)) put_leaf(at, json_integer(odd_number(json_integer_value(at->leaf), seed)));
    else if (json_is_boolean(at->leaf)) put_leaf(at, json_boolean(!json_is_true(at->leaf)));
    else put_leaf(at, next(seed) % 2 ? json_string("step") : json_string("0x1p+1000"));
    arena_free(p.arena);
}

/* An element of a list goes, comes twice, or changes places with another. */
static void change_list(Apart *a, unsigned *seed) {
    static const char *const lists[] = {"bufs", "kernels", "graphs", "kv"};
    json_t *l = json_object_get(a->meta, lists[next(seed) % LEN(lists)]);
    if (l == json_object_get(a->meta, "graphs") && json_array_size(l) && next(seed) % 4)
        l = json_object_get(json_array_get(l, next(seed) % json_array_size(l)), next(seed) % 2 ? "launches" : "values");
    if (next(seed) % 4 == 0 && json_array_size(l)) {
        json_t *args = json_object_get(json_array_get(l, next(seed) % json_array_size(l)), "args");
        if (args) l = args;
    }
    size_t n = json_array_size(l);
    if (!n) return;
    size_t i = next(seed) % n, k = next(seed) % n;
    json_t *x = json_deep_copy(json_array_get(l, i)), *y = json_deep_copy(json_array_get(l, k));
    switch (next(seed) % 3) {
    case 0: json_array_remove(l, i), json_decref(x), json_decref(y); break;
    case 1: json_array_insert_new(l, k, x), json_decref(y); break;
    default: json_array_set_new(l, k, x), json_array_set_new(l, i, y); break;
    }
}

/* --- the program's text ------------------------------------------------------------------------------------------------------ */

static bool is_word(char c) { return c && (strchr("._-/$", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')); }

static size_t word_at(const char *s, size_t n, size_t from, size_t *end) {
    while (from < n && !is_word(s[from])) from++;
    while (from > 0 && is_word(s[from - 1])) from--;
    for (*end = from; *end < n && is_word(s[*end]);) ++*end;
    return from;
}

/* A word becomes another of the text, or an odd number. */
static void change_word(Blob *b, unsigned *seed) {
    size_t end, other_end;
    if (!b->n) return;
    size_t at = word_at(b->bytes, b->n, next(seed) % b->n, &end);
    size_t other = word_at(b->bytes, b->n, next(seed) % 2 ? next(seed) % b->n : (at + next(seed) % 200) % b->n, &other_end);
    char number[32];
    bool digit = b->bytes[at] >= '0' && b->bytes[at] <= '9';
    snprintf(number, sizeof number, "%lld", (long long)odd_number(strtoll(b->bytes + at, NULL, 10), seed));
    Text t = {0};
    text_put(&t, b->bytes, at);
    if (digit && next(seed) % 2) text_add(&t, "%s", number);
    else text_put(&t, b->bytes + other, other_end - other);
    text_put(&t, b->bytes + end, b->n - end);
    free(b->bytes);
    b->bytes = t.at, b->n = t.n;
}

/* A line goes, comes twice, or moves. */
static void change_line(Blob *b, unsigned *seed) {
    if (!b->n) return;
    size_t at = next(seed) % b->n, to = next(seed) % b->n, end;
    while (at && b->bytes[at - 1] != '\n') at--;
    for (end = at; end < b->n && b->bytes[end] != '\n';) end++;
    end += end < b->n;
    while (to && b->bytes[to - 1] != '\n') to--;
    Text t = {0};
    bool twice = next(seed) % 2, nowhere = next(seed) % 3 == 0;
    for (size_t i = 0; i <= b->n; i++) {
        if (i == to && !nowhere) text_put(&t, b->bytes + at, end - at);
        if (i < b->n && (twice || i < at || i >= end)) text_put(&t, b->bytes + i, 1);
    }
    free(b->bytes);
    text_put(&t, "", 0);
    b->bytes = t.at, b->n = t.n;
}

/* One number everywhere: in the program, and in the metadata. */
static void change_everywhere(Apart *a, unsigned *seed) {
    Blob *b = &a->blob[0];
    size_t end, at = b->n ? word_at(b->bytes, b->n, next(seed) % b->n, &end) : 0;
    while (at < b->n && !(b->bytes[at] >= '0' && b->bytes[at] <= '9')) at++;
    if (at >= b->n) return;
    json_int_t was = strtoll(b->bytes + at, NULL, 10), now = next(seed) % 2 && was < INT32_MAX ? was + 32 * (json_int_t)(next(seed) % 5) - 64 : odd_number(was, seed);
    Text t = {0};
    for (size_t i = 0; i < b->n;) {
        char *after = b->bytes + i;
        bool starts = b->bytes[i] >= '0' && b->bytes[i] <= '9' && (!i || !is_word(b->bytes[i - 1]));
        if (starts && strtoll(b->bytes + i, &after, 10) == was && !is_word(*after)) text_add(&t, "%lld", (long long)now), i = (size_t)(after - b->bytes);
        else text_put(&t, b->bytes + i++, 1);
    }
    free(b->bytes);
    b->bytes = t.at, b->n = t.n;
    Places p = {.arena = arena_new()};
    list_places(&p, a->meta, "");
    for (size_t i = 0; i < p.n; i++)
        if (json_is_integer(p.at[i].leaf) && json_integer_value(p.at[i].leaf) == was && !strcmp(p.at[i].key, "type")) put_leaf(&p.at[i], json_integer(now));
    arena_free(p.arena);
}

/* Sizes as the types say, so that what is behind that statement is reached. */
static void fix_sizes(Apart *a) {
    json_int_t most[SYM_COUNT] = {0, 1, 1, 1};
    size_t i, k;
    json_t *g, *b, *d;
    json_array_foreach(json_object_get(a->meta, "graphs"), i, g) {
        json_t *buckets = json_object_get(g, "buckets");
        json_int_t sym = json_integer_value(json_object_get(g, "sym")), last = json_array_size(buckets) ? json_integer_value(json_array_get(buckets, json_array_size(buckets) - 1)) : 0;
        if (sym > 0 && sym < SYM_COUNT && last > most[sym]) most[sym] = last;
    }
    json_array_foreach(json_object_get(a->meta, "bufs"), i, b) {
        json_t *type = json_object_get(b, "type");
        const char *name = json_string_value(json_array_get(type, 0));
        size_t n = 1, bytes;
        DType dtype;
        json_array_foreach(type, k, d) {
            json_int_t sym = json_integer_value(json_array_get(d, 0));
            if (k) n *= (size_t)json_integer_value(json_array_get(d, 2)) + (sym > 0 && sym < SYM_COUNT ? (size_t)json_integer_value(json_array_get(d, 1)) * (size_t)most[sym] : 0);
        }
        if (name && dtype_parse(name, &dtype) && dtype_bytes(dtype, n, &bytes) && bytes <= INT64_MAX) json_object_set_new(b, "size", json_integer((json_int_t)bytes));
    }
}

static void change_code(Apart *a, unsigned *seed) {
    Blob *b = &a->blob[next(seed) % a->n];
    if (b->packed || b->n < 512) return;
    b->bytes[next(seed) % 2 ? next(seed) % b->n : 256 + next(seed) % 256] ^= (char)(1u << next(seed) % 8);
}

static void mutate_once(Apart *a, unsigned *seed) {
    switch (next(seed) % 16) {
    case 0:
    case 1:
    case 2: change_list(a, seed); break;
    case 3:
    case 4: change_word(&a->blob[0], seed); break;
    case 5: change_line(&a->blob[0], seed); break;
    case 6: change_everywhere(a, seed), fix_sizes(a); break;
    case 7: change_code(a, seed); break;
    case 8: change_word(&a->blob[next(seed) % a->n], seed); break;
    default: change_leaf(a, seed); break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    Apart a;
    if (!take_apart(data, n, &a)) return LLVMFuzzerMutate(data, n, max);
    size_t made = 0;
    if (a.n && next(&seed) % 64) {
        for (unsigned k = 1 + next(&seed) % 3; k; k--) mutate_once(&a, &seed);
        if (next(&seed) % 2) fix_sizes(&a);
        made = put_together(&a, data, max);
    }
    drop(&a);
    return made ? made : LLVMFuzzerMutate(data, n, max);
}
