// sm_90.copy.h - copies that run on their own, what waits for them, and launches that overlap.

// --- barriers and bulk copies (PTX ISA: mbarrier, cp.async.bulk); addresses are 32-bit ones of shared memory ---

DEVICE unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
DEVICE void barrier_init(unsigned bar, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_expect(unsigned bar, int bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory"); }
DEVICE void barrier_arrive(unsigned bar, int times = 1) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(times) : "memory"); }
DEVICE void barrier_wait(unsigned bar, unsigned phase) { // asleep for up to 10 ms at a time
    unsigned done;
    do
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, 10000000; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(bar), "r"(phase) : "memory");
    while (!done);
}
template <int THREADS> DEVICE void barrier_sync(int which) { asm volatile("bar.sync %0, %1;" ::"r"(which), "n"(THREADS) : "memory"); } // of some of a block's threads
// Read once: such lines leave the L2 first.
DEVICE u64 evict_first() {
    u64 p;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(p));
    return p;
}
DEVICE u64 evict_normal() {
    u64 p;
    asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(p));
    return p;
}
// One lane of a whole warp, always the same. Behind a question about threadIdx ptxas makes a loop over lanes of each bulk copy, behind this
// none: with the hint of barrier_wait, 744 tok/s instead of 734 at batch 1 (H200, 2026-11-30).
DEVICE bool elected() {
    unsigned one;
    asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(one));
    return one;
}
DEVICE void copy_bulk(unsigned to, const void *from, int bytes, unsigned bar, u64 policy) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from), "r"(bytes), "r"(bar), "l"(policy) : "memory");
}

// --- in a cluster ---

DEVICE void barrier_arrive_at(unsigned bar, int rank) { // the barrier at the same place in that block
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(bar, rank)) : "memory");
}
// To the same place in all blocks of mask, each of whose barriers there has the bytes.
DEVICE void copy_bulk_all(unsigned to, const void *from, int bytes, unsigned bar, unsigned mask, u64 policy) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [%0], [%1], %2, [%3], %4, %5;" ::"r"(to), "l"(from), "r"(bytes), "r"(bar),
                 "h"((unsigned short)mask), "l"(policy)
                 : "memory");
}

// --- small copies (PTX ISA: cp.async), by each thread ---

DEVICE void copy_16(unsigned to, const void *from, bool there) { // 16 bytes; zeros, unless they are there
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
DEVICE void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); } // of a group
DEVICE void copies_arrive(unsigned bar) { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(bar) : "memory"); } // when this thread's are there
template <int N> DEVICE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); } // for all groups but the last N

// Programmatic dependent launch: above the wait nothing may be read that the launch before wrote, and nothing written.
DEVICE void overlap_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void overlap_next() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
