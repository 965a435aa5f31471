/* A sequence's tokens in a step of layers that keep states: where its state is read and written. */
#ifndef SPAN_H
#define SPAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    int32_t first, count, source, target; /* tokens; rows of the cache, a source below 0 is zeros */
};

/* One head's state in the target's row, as the span begins: `area` floats, `head` of `num_heads`. */
static inline float *begin_state(float *cache, struct span span, int head, int num_heads, size_t area) {
    const size_t row = num_heads * area;
    float *state = cache + span.target * row + head * area;
    if (span.source < 0)
        memset(state, 0, area * sizeof *state);
    else if (span.source != span.target)
        memcpy(state, cache + span.source * row + head * area, area * sizeof *state);
    return state;
}

#endif
