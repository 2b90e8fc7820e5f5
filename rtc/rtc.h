/* rtc.h - source text to device code, through whatever compiler the target names, in forked parallel workers.
 *
 * hipRTC (libhiprtc.so of ROCm 6/7, or libamdhip64.so of 5.x) and comgr are loaded with dlopen: in the search path, then in
 * $ROCM_PATH/lib and /opt/rocm/lib; NVRTC likewise, then in $CUDA_HOME/lib64 and /usr/local/cuda/lib64. A worker that crashes is an error of its job, never of this process. Results are
 * cached by content: $GPTOSS_CACHE, else $XDG_CACHE_HOME/gptoss, else ~/.cache/gptoss.
 *
 * Call before this process has opened a device: workers are forks of it, and a HIP runtime in use does not survive a fork.
 * RTC_CUDA adds --gpu-architecture=ARCH (sm_90 as sm_90a) --std=c++17 --fmad=false.
 * RTC_HIP adds --offload-arch=ARCH -O3 -std=c++17 -ffp-contract=off; a job's options come after them, so the last word is
 * theirs. A source should need no more of HIP than rtc_hip.c's header has (keywords, threadIdx …, __syncthreads, expf …) and builtins:
 * it then compiles without HIP's own, which costs 0.2 CPU seconds a job. One that uses more (__popc, atomicAdd) still compiles.
 * A source that has an #include is never cached; RTC_HOST's may include the system's headers.
 *
 * RTC_HOST takes $CC, cc, gcc or clang, the first there is, and adds -std=gnu11 -shared -fPIC and what the target allows. */
#ifndef GPTOSS_RTC_H
#define GPTOSS_RTC_H

#include "ir/base.h"

typedef enum RtcKind {
    RTC_HIP,  /* hipRTC, an AMDGPU code object */
    RTC_CUDA, /* NVRTC, a cubin */
    RTC_HOST, /* the system's cc, a shared object; a job's arch is rtc_host_target's */
    RTC_KINDS
} RtcKind;

typedef struct RtcKernel RtcKernel; /* what comgr's metadata, or ptxas, says of one kernel; 0 where it says nothing */
struct RtcKernel {
    char symbol[256];
    uint32_t vgprs, agprs, sgprs, lds, scratch, vgpr_spills, sgpr_spills, kernarg, max_block;
    uint32_t mfma, loads16;  /* counts in the disassembly: v_mfma_*, global loads of 16 bytes */
    uint32_t code_bytes;
};

typedef struct RtcJob RtcJob;
struct RtcJob {
    const char *name;    /* for messages and as the program's file name: "linear.hip" */
    const char *source;
    const char *known_as; /* the text by which rtc_made_here will know it, where that differs (in its #line, say); NULL: source */
    const char *arch;    /* "gfx90a" */
    const char *const *options; /* further ones, n_options of them */
    int n_options;
    /* results, in the arena: */
    void *code;
    size_t code_size;
    char *lines;         /* RTC_HIP: the source line of each instruction, as text (rtc_lines.c); NULL: not known */
    RtcKernel *kernels;
    int n_kernels;
    char *log;           /* the compiler's messages, "" when none; kept on success too (warnings) */
    bool cached;
    double seconds;      /* 0 for a job that equals an earlier one, which is compiled once */
};

typedef struct RtcOptions RtcOptions;
struct RtcOptions {
    int workers;      /* 0: one per CPU */
    bool no_cache;    /* neither read nor written */
    void (*progress)(void *ctx, int done, int total, const char *name); /* may be NULL */
    void *ctx;
    const char **version; /* where to write what rtc_probe's *version is; may be NULL */
};

/* Is the compiler there, and does it know the arch? *version (in the arena): "hipRTC 5.2 (libamdhip64.so.5)". On false, e
 * says what is missing and what to install (*version is NULL), or why it does not load or start, or that this version does not
 * know the arch (asked of comgr, never by trying). */
bool rtc_probe(Arena *a, RtcKind kind, const char *arch, const char **version, Err *e);

/* What code for this CPU may use: "host:x86_64 avx2 fma …", words as /proc/cpuinfo has them, as far as cc knows them too.
 * $GPTOSS_HOST_FEATURES restricts it to the words that it lists. NULL: what the CPU has, or cc knows, cannot be read; e says why. */
const char *rtc_host_target(Arena *a, Err *e);
/* The words of such a target that this CPU has not, or its machine's name when that is another; "" when the code can run. NULL as above. */
const char *rtc_host_lacks(Arena *a, const char *target, Err *e);

/* Compiles all jobs. On error e names the first failing job and holds the start of its log; all logs are in the jobs. Where rtc_probe
 * fails for the first job's arch e says what it says. */
bool rtc_compile(Arena *a, RtcKind kind, RtcJob *jobs, int n, const RtcOptions *o, Err *e);

/* The cache's directory, in the arena, if it is there and nobody else can write to it; NULL: what it holds vouches for nothing. */
const char *rtc_cache_ours(Arena *a);

/* Does rtc_cache_ours vouch for the code: did a compiler that this user ran make exactly these bytes of this source? Starts no compiler. */
bool rtc_made_here(const char *source, const void *code, size_t n);

#endif
