/* One operation, run by all threads of a pool at once.
 *
 * An operation is a function of its arguments and of the team that runs it. Every thread of the
 * team calls it with the same arguments, and finds its own share of the work: by its number, or
 * by taking the next item that nobody has taken, so that a thread which the system put to sleep
 * holds up one item and not half of the work. What is computed must not depend on who does it.
 */
#ifndef POOL_H
#define POOL_H

#include <stdatomic.h>

struct meeting; /* what the threads of one team share */

struct team {
    int thread, num_threads; /* which thread this is, from 0, of how many */
    int round;               /* how many barriers it has passed */
    int has_begun;           /* whether it has taken its first item since the last one */
    struct meeting *meeting;
};

typedef void operation(const void *args, struct team *team);

/* The next item of the work, from 0; past the last one, the thread is done. A thread's first item is
 * the one of its own number, for which nobody has to be asked: so all of them take items, or none. */
int next_item(struct team *team);

/* Wait until every thread of the team is here; items are counted from 0 again. */
void barrier(struct team *team);

/* What Python calls: the operation on `num_threads` threads of the pool that torch uses. */
void run(operation *operation, const void *args, int num_threads);

#endif
