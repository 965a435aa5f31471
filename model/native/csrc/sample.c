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

static inline __mmask16 may_come(const struct sample_row *row, int i, int size) {
    __mmask16 lanes = first_lanes(size - i);
    return row->mask ? lanes & row->mask[i / WIDTH] : lanes;
}

/* The likeliest token, the first of equals, and its logit; or NO_TOKEN. */
static int find_likeliest(const float *logits, const struct sample_row *row, int size,
                          float *highest) {
    const __m512 infinity = _mm512_set1_ps(INFINITY);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 best = _mm512_set1_ps(-INFINITY);
    __m512i start = _mm512_setzero_si512();
    __mmask16 broken = 0;
    for (int i = 0; i < size; i += WIDTH) {
        __m512 x = _mm512_maskz_loadu_ps(first_lanes(size - i), logits + i);
        broken |= _mm512_cmp_ps_mask(x, infinity, _CMP_NLT_UQ); /* or a NaN */
        __mmask16 better = _mm512_mask_cmp_ps_mask(may_come(row, i, size), x, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, better, x);
        start = _mm512_mask_mov_epi32(start, better, _mm512_set1_epi32(i));
    }
    *highest = _mm512_reduce_max_ps(best);
    if (broken || *highest == -INFINITY) return NO_TOKEN;
    __mmask16 equal = _mm512_cmp_ps_mask(best, _mm512_set1_ps(*highest), _CMP_EQ_OQ);
    return _mm512_mask_reduce_min_epi32(equal, _mm512_add_epi32(start, lane));
}

/* The distances of 16 tokens, and which of them are within reach. */
static inline __mmask16 measure(const struct draw *draw, int i, __m512 *distances) {
    __mmask16 lanes = may_come(draw->row, i, draw->size);
    __m512 below = _mm512_sub_ps(_mm512_set1_ps(draw->highest),
                                 _mm512_maskz_loadu_ps(lanes, draw->logits + i));
    *distances = _mm512_div_ps(below, _mm512_set1_ps(draw->row->temperature));
    return _mm512_mask_cmp_ps_mask(lanes, *distances, _mm512_set1_ps(draw->reach), _CMP_LE_OQ);
}

static inline __m512 masses(__mmask16 lanes, __m512 distances) {
    return _mm512_maskz_mov_ps(lanes, exp16(_mm512_sub_ps(_mm512_setzero_ps(), distances)));
}

static inline __m512d add_all(__m512d sums, __m512 x) {
    sums = _mm512_add_pd(sums, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    return _mm512_add_pd(sums, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
}

/* --- top-k and top-p: a set of distances, of which those up to some limit are to be kept --- */

/* The distances within reach, in order of their tokens; -> how many. A register is compressed and
 * stored whole, which is far quicker than storing the compressed part of it. */
static int gather(const struct draw *draw, float *distances) {
    int count = 0;
    for (int i = 0; i < draw->size; i += WIDTH) {
        __m512 found;
        __mmask16 lanes = measure(draw, i, &found);
        _mm512_storeu_ps(distances + count, _mm512_maskz_compress_ps(lanes, found));
        count += __builtin_popcount(lanes);
    }
    return count;
}

static void find_range(const float *distances, int count, float *least, float *most) {
    __m512 low = _mm512_set1_ps(INFINITY), high = _mm512_setzero_ps();
    for (int i = 0; i < count; i += WIDTH) {
        __mmask16 lanes = first_lanes(count - i);
        __m512 found = _mm512_maskz_loadu_ps(lanes, distances + i);
        low = _mm512_mask_min_ps(low, lanes, low, found);
        high = _mm512_max_ps(high, found); /* 0 behind the end, and no distance is below it */
    }
    *least = _mm512_reduce_min_ps(low);
    *most = _mm512_reduce_max_ps(high);
}

/* The weight of those up to `limit`: their masses, or each one. */
static double weigh(const float *distances, int count, float limit, int by_mass) {
    __m512d sums = _mm512_setzero_pd();
    int number = 0;
    for (int i = 0; i < count; i += WIDTH) {
        __m512 found = _mm512_maskz_loadu_ps(first_lanes(count - i), distances + i);
        __mmask16 lanes = _mm512_mask_cmp_ps_mask(first_lanes(count - i), found,
                                                  _mm512_set1_ps(limit), _CMP_LE_OQ);
        number += __builtin_popcount(lanes);
        if (by_mass && lanes) sums = add_all(sums, masses(lanes, found));
    }
    return by_mass ? _mm512_reduce_add_pd(sums) : number;
}

/* Keep those up to `limit`, or else those beyond it; -> how many. */
static int keep(float *distances, int count, float limit, int is_near) {
    int kept = 0;
    for (int i = 0; i < count; i += WIDTH) {
        __mmask16 all = first_lanes(count - i);
        __m512 found = _mm512_maskz_loadu_ps(all, distances + i);
        __mmask16 near = _mm512_mask_cmp_ps_mask(all, found, _mm512_set1_ps(limit), _CMP_LE_OQ);
        __mmask16 lanes = is_near ? near : all & ~near;
        _mm512_storeu_ps(distances + kept, _mm512_maskz_compress_ps(lanes, found));
        kept += __builtin_popcount(lanes);
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
    __m512d sums = _mm512_setzero_pd();
    for (int i = start; i < start + BLOCK && i < draw->size; i += WIDTH) {
        __m512 distances;
        __mmask16 lanes = measure(draw, i, &distances);
        if (lanes) sums = add_all(sums, masses(lanes, distances));
    }
    return _mm512_reduce_add_pd(sums);
}

/* The token of a block at which the masses, cumulated from `before` on, exceed `target`. */
static int find_token(const struct draw *draw, int start, double before, double target) {
    int token = start;
    for (int i = start; i < start + BLOCK && i < draw->size; i += WIDTH) {
        float mass[WIDTH];
        __m512 distances;
        __mmask16 lanes = measure(draw, i, &distances);
        _mm512_storeu_ps(mass, masses(lanes, distances));
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
