/* Threads to cores, one each, for good: so that none is moved away from its caches, nor two of them to
 * one core. The first thread stays free: it does much else, and others that it starts would be put
 * where it is; the rest leave it its core. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#endif

#include "pool.h"

#include <stdint.h>

struct pin_args {
    const int32_t *cpus; /* [num_cpus]: a thread's is at its number */
    int32_t *errors;     /* [num_cpus]: of the system, 0 where it went well; -1 where nobody is */
    int32_t num_cpus;
};

void pin(const void *data, struct team *team) {
    const struct pin_args *args = data;
    if (team->thread >= args->num_cpus) return;
    args->errors[team->thread] = 0;
#if defined(__linux__)
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(args->cpus[team->thread], &one);
    if (team->thread > 0 && sched_setaffinity(0, sizeof one, &one))
        args->errors[team->thread] = errno;
#endif
}
