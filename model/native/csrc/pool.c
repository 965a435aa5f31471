/* Threads are OpenMP's, those that torch computes with: a second pool would fight over the cores.
 *
 * The library is not linked to an OpenMP of its own: these symbols are resolved, when it is
 * loaded, against the runtime that torch has loaded (GNU's, or LLVM's and Intel's, which have
 * them too). The names are what a compiler makes of `#pragma omp parallel`.
 */
#include "pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void GOMP_parallel(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);

#if defined(__x86_64__)
#define PAUSE __builtin_ia32_pause()
#else
#define PAUSE __asm__ volatile("yield")
#endif

enum { TURNS_BEFORE_SLEEP = 2000 }; /* of the waiting loop, some 50 us */

struct meeting {
    _Alignas(64) atomic_int next;    /* item; a cache line each, since all threads write here */
    _Alignas(64) atomic_int arrived; /* threads at the barrier */
    _Alignas(64) atomic_int round;   /* barriers that all have passed */
    atomic_int sleepers;             /* threads that do not look at it any more */
};

struct call {
    operation *operation;
    const void *args;
    struct meeting meeting;
};

int next_item(struct team *team) {
    return atomic_fetch_add_explicit(&team->meeting->next, 1, memory_order_relaxed);
}

/* The missing thread may wait for a core. One that sleeps gives up its own, and the system moves the
 * missing one there; one that spins or yields would keep it. */
static void sleep_until(struct meeting *meeting, int round) {
    atomic_fetch_add(&meeting->sleepers, 1);
    while (atomic_load(&meeting->round) < round)
        syscall(SYS_futex, &meeting->round, FUTEX_WAIT_PRIVATE, round - 1, NULL, NULL, 0);
    atomic_fetch_sub(&meeting->sleepers, 1);
}

static void let_go(struct meeting *meeting, int round) {
    atomic_store(&meeting->round, round);
    if (atomic_load(&meeting->sleepers))
        syscall(SYS_futex, &meeting->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void barrier(struct team *team) {
    struct meeting *meeting = team->meeting;
    int round = ++team->round;
    if (team->num_threads == 1) {
        atomic_store_explicit(&meeting->next, 0, memory_order_relaxed);
        return;
    }
    if (atomic_fetch_add(&meeting->arrived, 1) + 1 == team->num_threads) {
        atomic_store(&meeting->arrived, 0);
        atomic_store(&meeting->next, 0);
        let_go(meeting, round);
        return;
    }
    for (int turn = 0; turn < TURNS_BEFORE_SLEEP; turn++) {
        if (atomic_load(&meeting->round) >= round) return;
        PAUSE;
    }
    sleep_until(meeting, round);
}

static void work(void *data) {
    struct call *call = data;
    struct team team = {omp_get_thread_num(), omp_get_num_threads(), 0, &call->meeting};
    call->operation(call->args, &team);
}

void run(operation *operation, const void *args, int num_threads) {
    struct call call = {.operation = operation, .args = args};
    if (num_threads > 1) {
        GOMP_parallel(work, &call, (unsigned)num_threads, 0);
        return;
    }
    struct team alone = {0, 1, 0, &call.meeting};
    operation(args, &alone);
}
