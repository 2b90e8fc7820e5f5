/* comgr.c - comgr in a process of its own. See comgr.h, comgr_said.h.
 *
 * The child is a fork. Asked for the first time, by a Request of nothing, it loads the library (dlopen, and LLVM's tables; both end the
 * process that does it where they find no memory) and writes an Err. Of each code object that it is sent then it writes what comgr_said.h
 * tells, in pieces, each behind its length; behind the last comes 0. A code object that ends the child ends nothing else; if others
 * came before it, it is asked of once more in a new child, so that none answers for what another left behind.
 * The child ends when the program closes its end of the socket, by ending. One thread at a time asks. */
#include "comgr_said.h"
#include "ir/library.h"
#include "ir/socket.h"

#include <amd_comgr.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SILENCE = 60 /* seconds without a word, or without taking one, before the child counts as hung */, QUIET = 5 /* the same of its CPU time */, ROOM = 256 << 20, PIECE = 1 << 16, LONGEST = 8 /* bytes: no instruction of gfx90a is longer */ };

#define COMGR_FUNCTIONS(X)                                                                                             \
    X(create_data)                                                                                                     \
    X(release_data) X(set_data) X(get_data_metadata) X(destroy_metadata) X(metadata_lookup) X(get_metadata_string)     \
        X(get_metadata_list_size) X(index_list_metadata) X(create_disassembly_info) X(destroy_disassembly_info)        \
            X(disassemble_instruction)

typedef struct Comgr Comgr;
struct Comgr {
    void *lib;
    amd_comgr_disassembly_info_t dis;
#define X(f) __typeof__(amd_comgr_##f) *f;
    COMGR_FUNCTIONS(X)
#undef X
};

typedef struct Request Request; /* to the child; the code object and the code follow */
struct Request {
    uint64_t object_size; /* 0: load the library */
    uint32_t lo, hi;
};

/* --- loading: in the child ----------------------------------------------------------------------------------------- */

typedef struct Child Child; /* what the child works on, and what it has still to send */
struct Child {
    const Comgr *c;
    const ComgrCode *code; /* image: from lo on, which is all that came */
    int fd;
    Text out;
    char line[COMGR_LINE + 1];
};

static uint64_t read_code(uint64_t from, char *to, uint64_t size, void *user) {
    const ComgrCode *code = ((Child *)user)->code;
    if (from < code->lo || from >= code->hi) return 0;
    if (size > code->hi - from) size = code->hi - from;
    memcpy(to, code->image + (from - code->lo), size);
    return size;
}
static void take_text(const char *text, void *user) { snprintf(((Child *)user)->line, COMGR_LINE + 1, "%s", text); }
static void take_address(uint64_t address, void *user) { (void)address, (void)user; }

/* Never closed: LLVM inside comgr does not survive being unloaded and loaded again. */
static bool load_library(Comgr *c, Err *e) {
    static const char *const names[] = {"libamd_comgr.so.2",
                                        "libamd_comgr.so.3",
                                        "libamd_comgr.so",
                                        "/opt/rocm/lib/libamd_comgr.so.2",
                                        "/opt/rocm/lib/libamd_comgr.so.3",
                                        "/opt/rocm/lib/libamd_comgr.so"};
    LibraryFault fault = {""};
    for (size_t i = 0; i < LEN(names) && !c->lib; i++) c->lib = library_open(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, &fault);
    if (!c->lib)
        return err_set(e, "the emulator needs comgr to disassemble code objects: %s",
                       *fault.why ? fault.why : "there is no libamd_comgr.so; install libamd-comgr2 (Debian) or comgr (ROCm)");
#define X(f)                                                                                                           \
    *(void **)&c->f = dlsym(c->lib, "amd_comgr_" #f);                                                                  \
    if (!c->f) return err_set(e, "libamd_comgr.so has no amd_comgr_" #f);
    COMGR_FUNCTIONS(X)
#undef X
    if (c->create_disassembly_info("amdgcn-amd-amdhsa--gfx90a", read_code, take_text, take_address, &c->dis) ==
        AMD_COMGR_STATUS_SUCCESS)
        return true;
    return err_set(e, "this comgr cannot disassemble gfx90a: it is too old, or finds no memory");
}

/* --- what is asked ------------------------------------------------------------------------------------------------- */

typedef struct Object Object; /* of a request, read from the socket */
struct Object {
    char *bytes, *text;
    ComgrCode code; /* points into them */
};

static void object_free(Object *o) { free(o->bytes), free(o->text); }

/* false: the program has ended. */
static bool object_get(Object *o, int fd) {
    Request r;
    if (!socket_get(fd, &r, sizeof r, -1)) return false;
    o->bytes = malloc(r.object_size + 1), o->text = malloc((size_t)(r.hi - r.lo) + 1);
    if (!o->bytes || !o->text) _exit(1);
    o->code = (ComgrCode){o->bytes, r.object_size, (const uint8_t *)o->text, r.lo, r.hi};
    return (socket_get(fd, o->bytes, r.object_size, -1) && socket_get(fd, o->text, r.hi - r.lo, -1)) || (object_free(o), false);
}

/* --- the child ---------------------------------------------------------------------------------------------------- */

/* A few bytes of metadata make LLVM write zeros for a minute, until there is no memory. So the child may take QUIET seconds from one
 * word to the next, and ROOM bytes more than it has, beside some copies of the code object. */
static void bound_time(void) {
    struct rlimit r;
    getrlimit(RLIMIT_CPU, &r);
    r.rlim_cur = (rlim_t)(clock() / CLOCKS_PER_SEC) + QUIET;
    setrlimit(RLIMIT_CPU, &r);
}

static void flush(Child *k) {
    bound_time();
    for (size_t at = 0; at < k->out.n;) {
        uint32_t n = k->out.n - at < PIECE ? (uint32_t)(k->out.n - at) : PIECE;
        if (!socket_put(k->fd, &n, sizeof n) || !socket_put(k->fd, k->out.at + at, n)) _exit(1);
        at += n;
    }
    k->out.n = 0;
}

static void say(Child *k, const void *bytes, size_t n) {
    text_put(&k->out, bytes, n);
    if (k->out.n > PIECE) flush(k);
}

typedef amd_comgr_metadata_node_t Node;

static bool meta_string(const Comgr *c, Node map, const char *key, char *out, size_t size) {
    Node n;
    *out = 0;
    if (c->metadata_lookup(map, key, &n) != AMD_COMGR_STATUS_SUCCESS) return false;
    size_t have = 0;
    bool ok = c->get_metadata_string(n, &have, NULL) == AMD_COMGR_STATUS_SUCCESS && have <= size &&
              c->get_metadata_string(n, &have, out) == AMD_COMGR_STATUS_SUCCESS;
    out[size - 1] = 0;
    c->destroy_metadata(n);
    return ok;
}

/* A number of the metadata, 0 where there is none. */
static bool meta_u32(const Comgr *c, Node map, const char *key, uint32_t *to, Err *e) {
    char s[32], *end;
    *to = 0;
    if (!meta_string(c, map, key, s, sizeof s)) return true;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 0);
    if (end == s || *end || errno || *s == '-' || v > UINT32_MAX)
        return err_set(e, "%s is %s: not a number of 32 bits", key, s);
    *to = (uint32_t)v;
    return true;
}

static bool is_name(const char *s) {
    for (const char *p = s; *p; p++)
        if (*p <= ' ' || *p > '~') return false;
    return *s;
}

static bool say_arg(Child *k, Node node, size_t i, Err *e) {
    ComgrArg arg = {0};
    meta_string(k->c, node, ".value_kind", arg.kind, sizeof arg.kind);
    if (!meta_u32(k->c, node, ".offset", &arg.offset, e) || !meta_u32(k->c, node, ".size", &arg.size, e)) return err_wrap(e, "argument %zu", i);
    text_put(&k->out, &arg, sizeof arg);
    return true;
}

/* Each element of a list, told by one of the functions here; how many comes first. */
static bool say_list(Child *k, Node list, size_t most, const char *what, bool (*one)(Child *, Node, size_t, Err *), Err *e) {
    size_t n = 0;
    Node node;
    if (k->c->get_metadata_list_size(list, &n) != AMD_COMGR_STATUS_SUCCESS) return err_set(e, "comgr finds no list of %ss", what);
    if (n > most) return err_set(e, "%zu %ss (at most %zu)", n, what, most);
    uint32_t count = (uint32_t)n;
    text_put(&k->out, &count, sizeof count);
    for (size_t i = 0; i < n; i++) {
        if (k->c->index_list_metadata(list, i, &node) != AMD_COMGR_STATUS_SUCCESS) return err_set(e, "comgr cannot read %s %zu", what, i);
        bool ok = one(k, node, i, e);
        k->c->destroy_metadata(node);
        if (!ok) return false;
    }
    return true;
}

static bool say_args(Child *k, Node map, Err *e) {
    const uint32_t none = 0;
    Node list;
    if (k->c->metadata_lookup(map, ".args", &list) != AMD_COMGR_STATUS_SUCCESS) return text_put(&k->out, &none, sizeof none), true;
    bool ok = say_list(k, list, COMGR_MAX_ARGS, "argument", say_arg, e);
    k->c->destroy_metadata(list);
    return ok;
}

static bool say_kernel(Child *k, Node map, size_t i, Err *e) {
    (void)i; /* it has a name */
    ComgrKernel is = {0};
    EmuKernel *p = &is.pub;
    if (!meta_string(k->c, map, ".name", p->name, sizeof p->name) || !is_name(p->name))
        return err_set(e, "a kernel without a name of 1 to %zu printable letters", sizeof p->name - 1);
    if (!meta_string(k->c, map, ".symbol", is.symbol, sizeof is.symbol) || !is_name(is.symbol))
        return err_set(e, "kernel %s has no symbol", p->name);
    const struct {
        const char *key;
        uint32_t *to;
    } fields[] = {
        {".vgpr_count", &p->vgprs},
        {".agpr_count", &p->agprs},
        {".sgpr_count", &p->sgprs},
        {".group_segment_fixed_size", &p->lds_bytes},
        {".private_segment_fixed_size", &p->scratch_bytes},
        {".vgpr_spill_count", &p->vgpr_spills},
        {".sgpr_spill_count", &p->sgpr_spills},
        {".kernarg_segment_size", &p->kernarg_bytes},
        {".max_flat_workgroup_size", &p->max_block},
    };
    for (const __typeof__(*fields) *f = fields; f < fields + LEN(fields); f++)
        if (!meta_u32(k->c, map, f->key, f->to, e)) return err_wrap(e, "kernel %s", p->name);
    text_put(&k->out, &is, sizeof is);
    return say_args(k, map, e) || err_wrap(e, "kernel %s", p->name);
}

static bool say_kernels(Child *k, amd_comgr_data_t data, Err *e) {
    const Comgr *c = k->c;
    Node root, list;
    if (c->set_data(data, k->code->object_size, k->code->object) != AMD_COMGR_STATUS_SUCCESS)
        return err_set(e, "comgr rejects the code object");
    if (c->get_data_metadata(data, &root) != AMD_COMGR_STATUS_SUCCESS) return err_set(e, "comgr finds no metadata");
    bool found = c->metadata_lookup(root, "amdhsa.kernels", &list) == AMD_COMGR_STATUS_SUCCESS;
    bool ok = found ? say_list(k, list, COMGR_MAX_KERNELS, "kernel", say_kernel, e) : err_set(e, "the code object's metadata lists no kernels");
    if (found) c->destroy_metadata(list);
    c->destroy_metadata(root);
    return ok;
}

/* LLVM takes 3 µs to say what it said before of the same bytes: no text of this machine tells where the instruction lies. */
typedef struct Said Said;
struct Said {
    uint8_t bytes[LONGEST];
    LineHead head; /* size 0: empty */
    char text[COMGR_LINE + 1];
};

static void ask_line(Child *k, uint64_t pc, LineHead *head) {
    uint64_t size = 0;
    bool ok = k->c->disassemble_instruction(k->c->dis, pc, k, &size) == AMD_COMGR_STATUS_SUCCESS && size && size % 4 == 0;
    if (!ok || size > k->code->hi - pc) size = 4, k->line[0] = 0;
    *head = (LineHead){(uint16_t)size, (uint16_t)strlen(k->line)};
}

static void say_lines(Child *k) {
    static Said table[4096];
    for (uint64_t pc = k->code->lo, size; pc < k->code->hi; pc += size) {
        const uint8_t *bytes = k->code->image + (pc - k->code->lo);
        bool whole = k->code->hi - pc >= LONGEST;
        Said last, *s = whole ? &table[hash64(bytes, LONGEST) % LEN(table)] : &last;
        if (!whole || !s->head.size || memcmp(s->bytes, bytes, LONGEST)) {
            ask_line(k, pc, &s->head);
            memcpy(s->text, k->line, sizeof s->text);
            if (whole) memcpy(s->bytes, bytes, LONGEST);
        }
        size = s->head.size;
        say(k, &s->head, sizeof s->head);
        say(k, s->text, s->head.length);
    }
}

static void answer(Child *k) {
    const uint32_t end = 0;
    Err e = {0};
    amd_comgr_data_t data;
    bound_time();
    memory_bound(ROOM + 4 * k->code->object_size);
    text_put(&k->out, &e, sizeof e);
    bool made = k->c->create_data(AMD_COMGR_DATA_KIND_EXECUTABLE, &data) == AMD_COMGR_STATUS_SUCCESS || err_set(&e, "comgr fails");
    if (made && say_kernels(k, data, &e)) say_lines(k);
    else k->out.n = 0, say(k, &e, sizeof e); /* nothing was flushed before the kernels are read */
    if (made) k->c->release_data(data);
    flush(k);
    if (!socket_put(k->fd, &end, sizeof end)) _exit(1);
}

/* Nothing of the program's is kept open or handled there; a Ctrl-C is the program's to answer. */
static void be_alone(int fd) {
    static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGTERM}, ignored[] = {SIGINT, SIGHUP, SIGPIPE};
    const struct rlimit no_core = {0, 0};
    for (size_t i = 0; i < LEN(crashes); i++) signal(crashes[i], SIG_DFL);
    for (size_t i = 0; i < LEN(ignored); i++) signal(ignored[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, no child could be waited for */
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_NAME, "gptoss-comgr");
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; null >= 0 && i < 3; i++) dup2(null, i);
    if (fd > 3) close_range(3, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
}

static NORETURN void child(int fd) {
    static Comgr comgr;
    Child k = {.c = &comgr, .fd = fd};
    Err e = {0};
    Object o;
    be_alone(fd);
    if (!object_get(&o, fd)) _exit(0);
    object_free(&o);
    load_library(&comgr, &e);
    if (!socket_put(fd, &e, sizeof e) || *e.msg) _exit(0);
    for (; object_get(&o, fd); object_free(&o)) { /* false: the program has ended */
        k.code = &o.code;
        answer(&k);
    }
    _exit(0);
}

/* --- the caller --------------------------------------------------------------------------------------------------- */

typedef struct Process Process; /* the child */
struct Process {
    pid_t pid, of; /* 0: none; whose it is: not a fork's of the program */
    int fd;
    bool loaded, used; /* the library; it has answered for a code object */
};

/* Returns how it ended. */
static int process_end(Process *p) {
    int status = 0;
    close(p->fd);
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {}
    *p = (Process){0};
    return status;
}

static bool lost(Process *p, Err *e) { /* while the library was loaded */
    int why = errno, status = process_end(p); /* one that has ended is not killed any more */
    if (why != EPIPE && why != ECONNRESET) return err_set(e, "comgr (libamd_comgr.so) does not load: %s", strerror(why));
    return err_set(e, "comgr (libamd_comgr.so) gave up while it was loaded (%s %d): out of memory, or it is damaged", WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* False: there is none, and none can be started. */
static bool process_start(Process *p, Err *e) {
    int ends[2];
    if (p->of != getpid()) *p = (Process){0}; /* a fork of the program: that process is not its child */
    if (p->pid) return true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_set(e, "cannot start comgr: %s", strerror(errno));
    pid_t pid = socket_limit(ends[0], SILENCE) ? fork() : -1;
    if (pid == 0) child(ends[1]);
    int why = errno;
    close(ends[1]);
    if (pid < 0) return close(ends[0]), err_set(e, "cannot start comgr: %s", strerror(why));
    *p = (Process){.pid = pid, .of = getpid(), .fd = ends[0]};
    return true;
}

static bool process_load(Process *p, Err *e) {
    const Request nothing = {0};
    if (!process_start(p, e)) return false;
    if (p->loaded) return true;
    if (!socket_put(p->fd, &nothing, sizeof nothing) || !socket_get(p->fd, e, sizeof *e, SILENCE)) return lost(p, e);
    e->msg[sizeof e->msg - 1] = 0;
    if (*e->msg) process_end(p);
    else p->loaded = true;
    return p->loaded;
}

static bool send_code(int fd, const ComgrCode *code) {
    const Request r = {code->object_size, code->lo, code->hi};
    return socket_put(fd, &r, sizeof r) && socket_put(fd, code->object, code->object_size) && socket_put(fd, code->image + code->lo, code->hi - code->lo);
}

/* All that the child writes of a code object. False: errno says why; EMSGSIZE, it is more than `limit`. */
static bool receive(int fd, size_t limit, Text *t) {
    char *piece = malloc(PIECE);
    bool ok = piece;
    for (uint32_t n = 1; ok && n;) {
        ok = socket_get(fd, &n, sizeof n, SILENCE);
        if (ok && (n > PIECE || n > limit - t->n)) errno = EMSGSIZE, ok = false;
        ok = ok && socket_get(fd, piece, n, SILENCE);
        if (ok) text_put(t, piece, n);
    }
    int why = errno;
    free(piece);
    return errno = why, ok;
}

/* why: as of receive; status: how the child ended. */
static bool unanswered(int why, int status, Err *e) {
    if (why == ETIMEDOUT) return err_set(e, "comgr said nothing for %d s: this code object hangs it", SILENCE);
    if (why == EMSGSIZE) return err_set(e, "comgr said more than a code object can hold");
    if (why != EPIPE && why != ECONNRESET) return err_set(e, "comgr cannot be asked about a code object: %s", strerror(why));
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        return err_set(e, "comgr took more than %d s of CPU time for this code object: it is damaged", QUIET);
    if (WIFSIGNALED(status)) return err_set(e, "comgr crashed on this code object (signal %d): it is damaged", WTERMSIG(status));
    return err_set(e, "comgr ended with status %d on this code object", WEXITSTATUS(status));
}

static bool ask(Process *p, const ComgrCode *code, Text *t, Err *e) {
    const size_t kernels = COMGR_MAX_KERNELS * (sizeof(ComgrKernel) + COMGR_MAX_ARGS * sizeof(ComgrArg));
    const size_t limit = sizeof *e + kernels + (size_t)(code->hi - code->lo) / 4 * (sizeof(LineHead) + COMGR_LINE);
    if (!process_load(p, e)) return false;
    if (send_code(p->fd, code) && receive(p->fd, limit, t)) return p->used = true;
    bool used = p->used;
    int why = errno, status = process_end(p);
    t->n = 0;
    return used && why != ETIMEDOUT ? ask(p, code, t, e) : unanswered(why, status, e);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Process process; /* the lock's */

bool comgr_start(Err *e) {
    pthread_mutex_lock(&lock);
    bool ok = process_start(&process, e);
    pthread_mutex_unlock(&lock);
    return ok;
}

static const char *kept_in; /* see comgr_keep */

void comgr_keep(const char *dir) { kept_in = dir; }

/* Bytes of no instruction, perhaps of one that this comgr does not know yet. */
static bool has_unknown(const ComgrText *t) {
    for (size_t i = 0; i < t->n_lines; i++)
        if (!*t->lines[i].text) return true;
    return false;
}

static bool ask_comgr(Arena *a, const ComgrCode *code, ComgrText *t, Err *e) {
    Text said = {0};
    pthread_mutex_lock(&lock);
    bool ok = ask(&process, code, &said, e);
    pthread_mutex_unlock(&lock);
    ok = ok && comgr_said(a, &said, code, t, e);
    if (ok && kept_in && !has_unknown(t)) comgr_kept_put(a, kept_in, code, &said);
    text_free(&said);
    return ok;
}

bool comgr_read(Arena *a, const ComgrCode *code, ComgrText *t, Err *e) {
    Text said = {0};
    Err none;
    bool ok = kept_in && comgr_kept_get(a, kept_in, code, &said) && comgr_said(a, &said, code, t, &none);
    text_free(&said);
    return ok || ask_comgr(a, code, t, e);
}
