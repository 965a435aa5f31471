/* Threads are OpenMP's, those that torch computes with: a second pool would fight over the cores.
 *
 * The library is not linked to an OpenMP of its own: these symbols are resolved, when it is
 * loaded, against the runtime that torch has loaded (GNU's, or LLVM's and Intel's, which have
 * them too). The names are what a compiler makes of `#pragma omp parallel`.
 */
#include "pool.h"

#include <limits.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

void GOMP_parallel(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);

#if defined(__x86_64__)
#define PAUSE __builtin_ia32_pause()
#else
#define PAUSE __asm__ volatile("yield")
#endif

enum {
    TURNS_BEFORE_SLEEP = 2000, /* of the waiting loop, some 50 us */
    GROUP = 8,                 /* threads that arrive at one counter */
    GROUPS = 16                /* counters; with more threads, groups are larger */
};

struct counter {
    _Alignas(64) atomic_int count; /* a cache line each, since many threads write here */
};

/* Threads arrive in groups, and the last of each at the common counter: a cache line that 64 threads
 * write in turn goes 64 times from core to core, these go 8 times, side by side, and then 8 times. */
struct meeting {
    struct counter next; /* item */
    struct counter arrived, arrived_in[GROUPS];
    _Alignas(64) atomic_int round; /* barriers that all have passed; all wait for this */
    atomic_int sleepers;           /* threads that do not look at it any more */
};

struct call {
    operation *operation;
    const void *args;
    struct meeting meeting;
};

int next_item(struct team *team) {
    if (!team->has_begun) {
        team->has_begun = 1;
        return team->thread;
    }
    atomic_int *next = &team->meeting->next.count;
    return team->num_threads + atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
}

/* Whether this thread is the last of all at the barrier. */
static int arrive(struct team *team) {
    struct meeting *meeting = team->meeting;
    int size = (team->num_threads + GROUPS - 1) / GROUPS;
    if (size < GROUP) size = GROUP;
    int group = team->thread / size, groups = (team->num_threads + size - 1) / size;
    int left = team->num_threads - group * size, members = left < size ? left : size;
    if (groups > 1) {
        atomic_int *own = &meeting->arrived_in[group].count;
        if (atomic_fetch_add(own, 1) + 1 < members) return 0;
        atomic_store(own, 0);
        members = groups;
    }
    if (atomic_fetch_add(&meeting->arrived.count, 1) + 1 < members) return 0;
    atomic_store(&meeting->arrived.count, 0);
    return 1;
}

#if defined(__linux__)
static void wait_for_change(atomic_int *at, int value) {
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void wake_all(atomic_int *at) {
    syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
#else /* macOS has no futex that is public */
static void wait_for_change(atomic_int *at, int value) {
    if (atomic_load(at) == value) sched_yield();
}
static void wake_all(atomic_int *at) { (void)at; }
#endif

/* The missing thread may wait for a core. One that sleeps gives up its own, and the system moves the
 * missing one there; one that spins or yields would keep it. */
static void sleep_until(struct meeting *meeting, int round) {
    atomic_fetch_add(&meeting->sleepers, 1);
    while (atomic_load(&meeting->round) < round)
        wait_for_change(&meeting->round, round - 1);
    atomic_fetch_sub(&meeting->sleepers, 1);
}

static void let_go(struct meeting *meeting, int round) {
    atomic_store(&meeting->round, round);
    if (atomic_load(&meeting->sleepers)) wake_all(&meeting->round);
}

void barrier(struct team *team) {
    struct meeting *meeting = team->meeting;
    int round = ++team->round;
    team->has_begun = 0;
    if (team->num_threads == 1) {
        atomic_store_explicit(&meeting->next.count, 0, memory_order_relaxed);
        return;
    }
    if (arrive(team)) {
        atomic_store(&meeting->next.count, 0);
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
    struct team team = {omp_get_thread_num(), omp_get_num_threads(), 0, 0, &call->meeting};
    call->operation(call->args, &team);
}

void run(operation *operation, const void *args, int num_threads) {
    struct call call = {.operation = operation, .args = args};
    if (num_threads > 1) {
        GOMP_parallel(work, &call, (unsigned)num_threads, 0);
        return;
    }
    struct team alone = {0, 1, 0, 0, &call.meeting};
    operation(args, &alone);
}
