/* Logits -> tokens: the likeliest of each row, or a draw. The twin is server/engine/sampling/sampler.py.
 *
 * Everything is told in distances: how far a token's logit is below the highest, divided by the
 * temperature, so that its mass is e^-distance. Min-p, top-k and top-p are each a largest distance.
 * Nothing is sorted: what top-k and top-p reach to is found by halving the range of distances, and
 * the half that cannot hold the answer is dropped.
 *
 * A row is read by one thread in one order, and sums are doubles: its token depends on its logits,
 * its mask and its noise, not on the batch nor on the number of threads.
 */
#include "floats.h"
#include "pool.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NO_TOKEN = -1, /* a row with something that is no number, or with nothing that may come */
    BLOCK = 512    /* tokens whose masses are summed up before the one that is drawn is looked for */
};

struct sample_row {
    const uint16_t *mask; /* a bit for each token that may come, lowest first; NULL: all may */
    int64_t seed, position;
    float temperature; /* 0: the likeliest */
    float top_p;       /* 1 is off */
    float reach;       /* the largest distance that min-p leaves; infinity is off */
    int32_t top_k;     /* 0 is off */
};

struct sample_args {
    const float *logits;           /* [num_rows, vocab_size] */
    const struct sample_row *rows; /* [num_rows] */
    int64_t *token_ids;            /* [num_rows] */
    float *distances;              /* [threads, vocab_size + WIDTH]; scratch */
    double *sums;                  /* [threads, blocks]; scratch */
    int num_rows, vocab_size;
};

/* One row's draw. */
struct draw {
    const struct sample_row *row;
    const float *logits;
    int size;
    float highest;
    float reach; /* tokens at a larger distance are not drawn */
};

INLINE lanes may_come(const struct sample_row *row, int i, int size) {
    lanes all = first_lanes(size - i);
    return row->mask ? both(all, lanes_of(row->mask[i / WIDTH])) : all;
}

/* The likeliest token, the first of equals, and its logit; or NO_TOKEN. */
static int find_likeliest(const float *logits, const struct sample_row *row, int size,
                          float *highest) {
    const floats infinity = f_all(INFINITY);
    floats best = f_all(-INFINITY);
    ints start = i_all(0);
    lanes broken = lanes_of(0);
    for (int i = 0; i < size; i += WIDTH) {
        floats x = f_load_first(logits + i, size - i);
        broken = either(broken, f_not_less(x, infinity)); /* or a NaN */
        lanes better = both(may_come(row, i, size), f_less(best, x));
        best = f_select(better, x, best);
        start = i_select(better, i_all(i), start);
    }
    *highest = f_largest(best);
    if (bits_of(broken) || *highest == -INFINITY) return NO_TOKEN;
    ints before = i_sub(i_all(INT_MAX), i_add(start, i_count())); /* the more, the earlier */
    return INT_MAX - i_largest(i_select(f_equal(best, f_all(*highest)), before, i_all(0)));
}

/* The distances of 16 tokens, and which of them are within reach. */
INLINE lanes measure(const struct draw *draw, int i, floats *distances) {
    floats below = f_sub(f_all(draw->highest), f_load_first(draw->logits + i, draw->size - i));
    *distances = f_div(below, f_all(draw->row->temperature));
    return both(may_come(draw->row, i, draw->size), f_at_most(*distances, f_all(draw->reach)));
}

INLINE floats masses(lanes those, floats distances) {
    return f_select(those, exp16(f_sub(f_zero(), distances)), f_zero());
}

/* --- top-k and top-p: a set of distances, of which those up to some limit are to be kept --- */

/* The distances within reach, in order of their tokens; -> how many. */
static int gather(const struct draw *draw, float *distances) {
    int count = 0;
    for (int i = 0; i < draw->size; i += WIDTH) {
        floats found;
        lanes near = measure(draw, i, &found);
        count += f_store_packed(distances + count, near, found);
    }
    return count;
}

static void find_range(const float *distances, int count, float *least, float *most) {
    floats low = f_all(INFINITY), high = f_zero();
    for (int i = 0; i < count; i += WIDTH) {
        floats found = f_load_first(distances + i, count - i);
        low = f_select(first_lanes(count - i), f_min(low, found), low);
        high = f_max(high, found); /* 0 behind the end, and no distance is below it */
    }
    *least = f_least(low);
    *most = f_largest(high);
}

/* The weight of those up to `limit`: their masses, or each one. */
static double weigh(const float *distances, int count, float limit, int by_mass) {
    doubles sums = d_zero();
    int number = 0;
    for (int i = 0; i < count; i += WIDTH) {
        floats found = f_load_first(distances + i, count - i);
        lanes near = both(first_lanes(count - i), f_at_most(found, f_all(limit)));
        unsigned bits = bits_of(near);
        number += __builtin_popcount(bits);
        if (by_mass && bits) sums = d_add(sums, masses(near, found));
    }
    return by_mass ? d_sum(sums) : number;
}

/* Keep those up to `limit`, or else those beyond it; -> how many. */
static int keep(float *distances, int count, float limit, int is_near) {
    int kept = 0;
    for (int i = 0; i < count; i += WIDTH) {
        lanes all = first_lanes(count - i);
        floats found = f_load_first(distances + i, count - i);
        lanes near = f_at_most(found, f_all(limit));
        lanes those = is_near ? both(all, near) : without(all, near);
        kept += f_store_packed(distances + kept, those, found);
    }
    return kept;
}

/* The least limit such that the distances up to it weigh `goal`, or the largest if none does. */
static float find_limit(float *distances, int count, double goal, int by_mass) {
    for (;;) {
        float least, most;
        find_range(distances, count, &least, &most);
        if (least == most) return most;
        float middle = least + (most - least) / 2;
        if (middle >= most) middle = least; /* by rounding, between neighbours */
        double weight = weigh(distances, count, middle, by_mass);
        count = keep(distances, count, middle, weight >= goal);
        if (weight < goal) goal -= weight;
    }
}

static void filter(struct draw *draw, float *distances) {
    const struct sample_row *row = draw->row;
    if (row->top_k > 0 && row->top_k < draw->size)
        draw->reach = find_limit(distances, gather(draw, distances), row->top_k, 0);
    if (row->top_p < 1) {
        int count = gather(draw, distances);
        double total = weigh(distances, count, draw->reach, 1);
        draw->reach = find_limit(distances, count, row->top_p * total, 1);
    }
}

/* --- the draw --- */

/* Philox2x32 with 10 rounds, see server/engine/sampling/philox.py: a number in [0, 1). */
static double noise(const struct sample_row *row) {
    uint32_t left = (uint32_t)row->position, right = (uint32_t)((uint64_t)row->seed >> 32);
    uint32_t key = (uint32_t)row->seed;
    for (int round = 0; round < 10; round++, key += 0x9E3779B9u) {
        uint64_t product = (uint64_t)left * 0xD256D193u;
        left = (uint32_t)(product >> 32) ^ right ^ key;
        right = (uint32_t)product;
    }
    return (left >> 8) * 0x1p-24; /* as exact as a float */
}

static double sum_block(const struct draw *draw, int start) {
    doubles sums = d_zero();
    for (int i = start; i < start + BLOCK && i < draw->size; i += WIDTH) {
        floats distances;
        lanes near = measure(draw, i, &distances);
        if (bits_of(near)) sums = d_add(sums, masses(near, distances));
    }
    return d_sum(sums);
}

/* The token of a block at which the masses, cumulated from `before` on, exceed `target`. */
static int find_token(const struct draw *draw, int start, double before, double target) {
    int token = start;
    for (int i = start; i < start + BLOCK && i < draw->size; i += WIDTH) {
        float mass[WIDTH];
        floats distances;
        lanes near = measure(draw, i, &distances);
        f_store(mass, masses(near, distances));
        for (int lane = 0; lane < WIDTH; lane++) {
            if (mass[lane] == 0) continue; /* never drawn, also where rounding decides */
            token = i + lane;
            before += mass[lane];
            if (before > target) return token;
        }
    }
    return token;
}

static int draw_token(const struct draw *draw, double *sums) {
    int blocks = 0;
    double total = 0;
    for (int start = 0; start < draw->size; start += BLOCK)
        total += sums[blocks++] = sum_block(draw, start);
    double target = noise(draw->row) * total, before = 0;
    int block = 0; /* the same additions as above end at the total, which is more than the target */
    while (block < blocks - 1 && before + sums[block] <= target) before += sums[block++];
    return find_token(draw, block * BLOCK, before, target);
}

void sample(const void *data, struct team *team) {
    const struct sample_args *args = data;
    int size = args->vocab_size, blocks = (size + BLOCK - 1) / BLOCK;
    float *distances = args->distances + (size_t)team->thread * (size + WIDTH);
    double *sums = args->sums + (size_t)team->thread * blocks;
    for (int r; (r = next_item(team)) < args->num_rows;) {
        const struct sample_row *row = args->rows + r;
        float reach = fminf(fmaxf(row->reach, 0), FLT_MAX); /* a logit of -infinity is never drawn */
        struct draw draw = {row, args->logits + (size_t)r * size, size, 0, reach};
        int token = find_likeliest(draw.logits, row, size, &draw.highest);
        if (token != NO_TOKEN && row->temperature > 0) {
            filter(&draw, distances);
            token = draw_token(&draw, sums);
        }
        args->token_ids[r] = token;
    }
}
