/* A list of operations, done one after the other by the same team: one call instead of hundreds.
 *
 * The threads come together once for the whole list. Between two operations there is a barrier, and
 * whoever is first at it spins: that is a fraction of a microsecond, where waking a thread up for
 * each operation would be several. Operations too small to share are the first thread's alone.
 */
#include "pool.h"

#include <stddef.h>

struct tape_entry {
    operation *operation;
    const void *args;
    long is_small;
};

struct tape_args {
    const struct tape_entry *entries;
    long num_entries;
};

operation tape;

void tape(const void *data, struct team *team) {
    const struct tape_args *args = data;
    for (long i = 0; i < args->num_entries; i++) {
        const struct tape_entry *entry = args->entries + i;
        int was_small = i > 0 && entry[-1].is_small;
        if (i > 0 && !(was_small && entry->is_small)) barrier(team);
        if (!entry->is_small)
            entry->operation(entry->args, team);
        else if (team->thread == 0)
            run(entry->operation, entry->args, 1);
    }
}
