/* Causal attention over a paged KV cache, read where it lies.
 *
 * A query's keys are cut into blocks of KEYS, counted from position 0. Of each block it takes a
 * part (Milakov, Gimelshein 2018): the largest score, the exponentials of the others against it,
 * their sums, and the values weighted by them; parts are merged one after the other, in order. A
 * score is summed up channel after channel, a weighted value key after key. So a token's bits are
 * the same alone or in a batch, in a chunk of any length, after any past, on any thread: what
 * differs is only how many rows share a block that has been brought in.
 *
 * A row is one query of one head; all heads that share a key head, and several queries, are rows of
 * one tile. Keys of a block are turned to [head_dim][KEYS], so that a register holds one channel of
 * 16 keys; values lie right as they are, a register holds 16 channels of one. What a row may not see
 * weighs exactly 0, and what lies behind a sequence's end is never read. Nor are blocks before all
 * windows of a tile. A sink is what a row begins with: a part without a value.
 *
 * A cache of bytes has a scale for each vector: scores are multiplied by the keys', weights by the
 * values', so that the bytes themselves are only widened.
 *
 * Windows, soft caps and ALiBi are in code of their own (`is_plain` is a constant where it is inlined), so
 * that a model without them pays nothing.
 */
#include "floats.h"
#include "pool.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    KEYS = 64, /* in a block */
    KEY_LINES = KEYS / WIDTH,
    LINE = 64, /* bytes that come from memory at once */
    TILES_PER_THREAD = 8, /* with as many, a thread takes all heads of a tile */
    ROWS = 6,  /* that share a pass over a block, */
    LINES = REGISTERS == 32 ? 4 : 1 /* and of its keys or channels: 6 * 4 sums in 32 registers */
};

struct tile {
    int32_t sequence, first, count, position; /* queries `first`.. of the step; where they stand */
};

struct score_args {
    float divisor, softcap; /* of scores; no cap: 0 */
    int window;             /* keys that a row sees, or 0: all up to its own */
    int chunk; /* and those of its own stretch of so many positions alone, or 0 */
};

struct paged_attention_args {
    const float *query;         /* [T, num_heads, head_dim] */
    float *output;              /* [T, num_heads, value_dim] */
    const void *keys, *values;  /* [slots, num_kv_heads, head_dim], fp32, fp16 or bytes; of a value
                                   the first value_dim count: it may be a part of the key */
    const float *key_scales, *value_scales; /* [slots, num_kv_heads] beside bytes, or NULL */
    const int32_t *block_table; /* [B, table_width] */
    const struct tile *tiles;   /* [num_tiles] */
    float *scratch;             /* [threads, scratch_floats] */
    float *parts; /* [num_tiles, num_kv_heads, max_blocks], each for a tile; or NULL */
    const float *sinks;         /* [num_heads], or NULL */
    const float *slopes;        /* [num_heads], or NULL: a score falls by so much a position */
    int64_t scratch_floats, part_floats;
    const struct score_args *score;
    int num_tiles, max_rows, max_blocks; /* of keys and rows, in any tile */
    int table_width, block_size, num_heads, num_kv_heads, head_dim, value_dim, number_bytes;
};

/* Where rows stand: so far, or by one block alone. */
struct state {
    float *peaks; /* [rows, padded]: the largest score */
    float *sums;  /* [rows, WIDTH]: of the weights, lane by lane */
    float *mixed; /* [rows, padded]: values, weighted and not yet divided by the sum */
};

struct scratch {
    float *queries; /* [max_rows, head_dim], divided by score->divisor */
    float *keys;    /* [head_dim, KEYS] */
    float *values;  /* [KEYS, padded value_dim] */
    float *weights; /* [ROWS, KEYS]: scores, then weights */
    struct state total, part;
};

/* Where the keys of a block lie, and the values, in bytes from the cache's begin; and their scales
 * beside bytes, 0 behind the last. */
struct place {
    int64_t offsets[KEYS];
    float key_scales[KEYS], value_scales[KEYS];
    int count;
};

/* A block's values: where each key's begin, in bytes from `base`. */
struct values {
    const char *base;
    const int64_t *offsets;
    int is_half;
};

/* Of a key, and of a value. */
struct sizes {
    int head_dim, value_dim;
};

/* Which keys of a block each row of a few sees: from its first to before its limit. */
struct sight {
    int firsts[ROWS], limits[ROWS];
    int begin, end; /* of what any of them sees, within the block, */
    int first_line, last_line; /* and of its registers: the others would weigh exactly 0 */
    float softcap, slopes[ROWS];
    int has_slopes;
    const float *key_scales, *value_scales; /* [KEYS], or NULL */
};

static int smaller(int a, int b) { return a < b ? a : b; }

static int larger(int a, int b) { return a > b ? a : b; }

static int padded(int size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

static struct state state_at(float *memory, int rows) {
    float *sums = memory + padded(rows);
    return (struct state){memory, sums, sums + (size_t)rows * WIDTH};
}

static struct state from_row(struct state state, int row, int width) {
    return (struct state){state.peaks + row, state.sums + (size_t)row * WIDTH,
                          state.mixed + (size_t)row * width};
}

static struct scratch scratch_at(float *memory, int rows, int width, int value_width) {
    struct scratch s;
    s.queries = memory;
    s.keys = s.queries + (size_t)rows * width;
    s.values = s.keys + (size_t)width * KEYS;
    s.weights = s.values + (size_t)KEYS * value_width;
    s.part = state_at(s.weights + ROWS * KEYS, ROWS);
    s.total = state_at(s.part.mixed + (size_t)ROWS * value_width, rows);
    return s;
}

/* The first of 16 floats of a cache from `at`. */
INLINE floats load(const void *at, const int number_bytes, int count) {
    if (number_bytes == 1) return f_load_first_bytes(at, count);
    return number_bytes == 2 ? f_load_half(at, count) : f_load_first(at, count);
}

/* Where the keys of a tile's block of keys lie. */
static void find_keys(const struct paged_attention_args *args, struct tile tile, int head,
                      int block, struct place *place) {
    const int32_t *table = args->block_table + (size_t)tile.sequence * args->table_width;
    int64_t bytes = (int64_t)args->head_dim * args->number_bytes;
    int start = block * KEYS, page = start / args->block_size, offset = start % args->block_size;
    int64_t step = args->num_kv_heads * bytes;
    int count = place->count = smaller(KEYS, tile.position + tile.count - start);
    for (int i = 0; i < count; page++, offset = 0) {
        int64_t slot = (int64_t)table[page] * args->block_size + offset;
        int64_t vector = slot * args->num_kv_heads + head, at = vector * bytes;
        int stop = smaller(count, i + args->block_size - offset);
        if (args->key_scales)
            for (int j = i; j < stop; j++, vector += args->num_kv_heads) {
                place->key_scales[j] = args->key_scales[vector];
                place->value_scales[j] = args->value_scales[vector];
            }
        for (; i < stop; i++, at += step) place->offsets[i] = at;
    }
    if (args->key_scales)
        for (int i = count; i < KEYS; i++) place->key_scales[i] = place->value_scales[i] = 0;
}

/* Asks memory for a part of 16 keys and values that will be wanted soon. They lie anywhere, so the
 * processor cannot guess them; asked for while it computes, they are there in time. Into the second
 * cache: the first has too few open requests for a block, and the rest would be waited for. */
INLINE void ask_for(const struct paged_attention_args *args, const struct place *place, int first,
                    int channel, const int number_bytes) {
    const char *keys = args->keys, *values = args->values;
    int at = channel * number_bytes, stop = smaller(first + WIDTH, place->count);
    if (at % LINE == 0)
        for (int i = first; i < stop; i++)
            __builtin_prefetch(keys + place->offsets[i] + at, 0, 2);
    if (channel < args->value_dim && (number_bytes == 4 || at % LINE == WIDTH * number_bytes))
        for (int i = first; i < stop; i++)
            __builtin_prefetch(values + place->offsets[i] + at, 0, 2);
}

/* Up to KEYS keys to [head_dim, KEYS]; what is behind the last's 16 stays as it is, and nobody sees
 * it. Asks for `next` meanwhile. */
INLINE void turn_keys(const struct paged_attention_args *args, const struct place *place,
                      const struct place *next, float *turned, const int number_bytes) {
    const char *base = args->keys;
    const int64_t *offsets = place->offsets;
    int count = place->count;
    for (int first = 0; first < KEYS; first += WIDTH)
        for (int channel = 0; channel < args->head_dim; channel += WIDTH) {
            ask_for(args, next, first, channel, number_bytes);
            if (first >= count) continue;
            int left = args->head_dim - channel;
            const char *from = base + channel * number_bytes;
            floats r[WIDTH];
            if (first + WIDTH <= count && left >= WIDTH) /* nearly always: nothing to ask of each */
#pragma GCC unroll 16
                for (int i = 0; i < WIDTH; i++)
                    r[i] = load(from + offsets[first + i], number_bytes, WIDTH);
            else
#pragma GCC unroll 16
                for (int i = 0; i < WIDTH; i++)
                    r[i] = first + i < count ? load(from + offsets[first + i], number_bytes, left)
                                             : f_zero();
            transpose(r);
#pragma GCC unroll 16
            for (int i = 0; i < WIDTH; i++) /* up to the padded width: the last are not read */
                f_store(turned + (size_t)(channel + i) * KEYS + first, r[i]);
        }
}

/* fp16 values to fp32, once for many rows; bytes always. */
INLINE void widen_values(const struct paged_attention_args *args, const struct place *place,
                         float *wide, const int number_bytes) {
    const char *base = args->values;
    int width = padded(args->value_dim);
    for (int i = 0; i < place->count; i++)
        for (int channel = 0; channel < args->value_dim; channel += WIDTH)
            f_store(wide + (size_t)i * width + channel,
                    load(base + place->offsets[i] + channel * number_bytes, number_bytes,
                         args->value_dim - channel));
}

/* tanh(x) with an error of at most 3e-7: near 0 a polynomial that keeps small numbers exact (Moshier's
 * Cephes), else 1 - 2 / (e^2x + 1). */
INLINE floats tanh16(floats x) {
    floats sign = f_and(x, f_all(-0.0f)), size = f_abs(x);
    floats one = f_all(1.0f), two = f_all(2.0f);
    floats power = f_add(exp16(f_mul(two, size)), one);
    floats large = f_or(f_sub(one, f_div(two, power)), sign);
    floats z = f_mul(x, x), p = f_all(-5.70498872745e-3f);
    p = f_fma(p, z, f_all(2.06390887954e-2f));
    p = f_fma(p, z, f_all(-5.37397155531e-2f));
    p = f_fma(p, z, f_all(1.33314422036e-1f));
    p = f_fma(p, z, f_all(-3.33332819422e-1f));
    floats small = f_fma(f_mul(p, z), x, x);
    return f_select(f_less(size, f_all(0.625f)), small, large);
}

INLINE floats cap(floats score, float softcap) {
    floats most = f_all(softcap);
    return f_mul(most, tanh16(f_div(score, most)));
}

/* 16 keys' scores, less the slope times each key's distance; the first's is given. */
INLINE floats fall(floats score, float slope, int distance) {
    ints far = i_sub(i_all(distance), i_count());
    return f_fnma(f_all(slope), f_of(far), score);
}

/* Queries times keys, `lines` registers of these, to scores[r, KEYS]. */
INLINE void multiply(const float *queries, const float *keys, int head_dim, const int rows,
                     const int lines, float *scores) {
    floats sums[ROWS][LINES];
    for (int r = 0; r < rows; r++)
        for (int line = 0; line < lines; line++) sums[r][line] = f_zero();
    for (int channel = 0; channel < head_dim; channel++) {
        floats k[LINES];
        for (int line = 0; line < lines; line++)
            k[line] = f_load(keys + (size_t)channel * KEYS + line * WIDTH);
        for (int r = 0; r < rows; r++) {
            floats q = f_all(queries[(size_t)r * head_dim + channel]);
            for (int line = 0; line < lines; line++)
                sums[r][line] = f_fma(q, k[line], sums[r][line]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int line = 0; line < lines; line++)
            f_store(scores + r * KEYS + line * WIDTH, sums[r][line]);
}

/* Products of the block's keys that any row sees, up to a whole register. */
INLINE void score(const float *queries, const float *keys, const struct sight *sight, int head_dim,
                  const int rows, float *scores) {
    for (int first = sight->first_line; first < sight->last_line; first += LINES) {
        const float *these = keys + first * WIDTH;
        float *to = scores + first * WIDTH;
        int lines = smaller(sight->last_line - first, LINES);
        if (LINES > 3 && lines > 3)
            multiply(queries, these, head_dim, rows, 4, to);
        else if (LINES > 3 && lines == 3)
            multiply(queries, these, head_dim, rows, 3, to);
        else if (LINES > 3 && lines == 2)
            multiply(queries, these, head_dim, rows, 2, to);
        else
            multiply(queries, these, head_dim, rows, 1, to);
    }
}

/* A register of scores from its products, those that the row may not see at -infinity. */
INLINE floats finish(floats score, const struct sight *sight, int r, int line, const int is_plain,
                     const int is_whole) {
    if (sight->key_scales) score = f_mul(score, f_load(sight->key_scales + line * WIDTH));
    if (!is_plain && sight->softcap > 0) score = cap(score, sight->softcap);
    if (!is_plain && sight->has_slopes)
        score = fall(score, sight->slopes[r], sight->limits[r] - 1 - line * WIDTH);
    if (is_whole) return score;
    lanes seen = first_lanes(sight->limits[r] - line * WIDTH);
    if (!is_plain) seen = without(seen, first_lanes(sight->firsts[r] - line * WIDTH));
    return f_select(seen, score, f_all(-INFINITY));
}

/* Scores to weights where they lie, with their peaks and sums; times the values' scales, if they
 * have any. `is_whole`: each row sees all keys. */
INLINE void weigh(float *weights, const struct sight *sight, const int rows, const int is_plain,
                  const int is_whole, struct state part) {
    int first = is_whole ? 0 : sight->first_line, last = is_whole ? KEY_LINES : sight->last_line;
    for (int r = 0; r < rows; r++) {
        float *own = weights + r * KEYS;
        floats s[KEY_LINES];
        for (int line = 0; line < KEY_LINES; line++)
            s[line] = line >= first && line < last
                          ? finish(f_load(own + line * WIDTH), sight, r, line, is_plain, is_whole)
                          : f_all(-INFINITY);
        floats top = f_max(f_max(s[0], s[1]), f_max(s[2], s[3]));
        float peak = f_largest(f_max(top, f_all(-FLT_MAX)));
        for (int line = 0; line < KEY_LINES; line++) {
            if (line < first || line >= last) { /* e^-infinity */
                s[line] = f_zero();
                continue;
            }
            s[line] = exp16_falling(f_sub(s[line], f_all(peak)));
            floats w = s[line];
            if (sight->value_scales) w = f_mul(w, f_load(sight->value_scales + line * WIDTH));
            f_store(own + line * WIDTH, w);
        }
        part.peaks[r] = peak;
        floats sum = f_add(f_add(s[0], s[1]), f_add(s[2], s[3]));
        f_store(part.sums + r * WIDTH, sum);
    }
}

/* What a part changes of a total: of both, these shares are the new total. */
struct shares {
    float keep[WIDTH], take[WIDTH];
};

/* Peaks and sums of up to WIDTH rows: total = total and part. A part without a key of a row's
 * changes nothing. */
INLINE struct shares merge_sums(struct state total, struct state part, int rows) {
    struct shares shares;
    floats old = f_load_first(total.peaks, rows);
    floats new = f_load_first(part.peaks, rows), top = f_max(old, new);
    f_store(shares.keep, exp16(f_sub(old, top)));
    f_store(shares.take, exp16(f_sub(new, top)));
    f_store_first(total.peaks, rows, top);
    for (int r = 0; r < rows; r++) {
        float *sum = total.sums + (size_t)r * WIDTH;
        floats kept = f_mul(f_load(sum), f_all(shares.keep[r]));
        f_store(sum, f_fma(f_load(part.sums + (size_t)r * WIDTH), f_all(shares.take[r]), kept));
    }
    return shares;
}

/* And of their values, 16 channels of a row at `mixed`. */
INLINE void merge_mixed(float *mixed, floats own, const struct shares *shares, int r) {
    floats kept = f_mul(f_load(mixed), f_all(shares->keep[r]));
    f_store(mixed, f_fma(own, f_all(shares->take[r]), kept));
}

/* Weighted values of `lines` registers of channels from `channel`, merged into `mixed`, or stored
 * there where no shares are given; `count` are left in the last. */
INLINE void mix_lines(struct values values, const float *weights, int begin, int end, int channel,
                      int value_dim, float *mixed, const struct shares *shares, int count,
                      const int rows, const int lines, const int is_half) {
    int width = padded(value_dim);
    const char *base = values.base + channel * (is_half ? 2 : 4);
    floats sums[ROWS][LINES];
    for (int r = 0; r < rows; r++)
        for (int line = 0; line < lines; line++) sums[r][line] = f_zero();
    for (int i = begin; i < end; i++) {
        const char *value = base + values.offsets[i];
        floats v[LINES];
        for (int line = 0; line < lines; line++)
            v[line] = load(value + line * WIDTH * (is_half ? 2 : 4), is_half ? 2 : 4, count);
        for (int r = 0; r < rows; r++) {
            floats weight = f_all(weights[r * KEYS + i]);
            for (int line = 0; line < lines; line++)
                sums[r][line] = f_fma(weight, v[line], sums[r][line]);
        }
    }
    mixed += channel;
    if (shares)
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) /* unrolled, or the sums would be kept in memory */
#pragma GCC unroll 4
            for (int line = 0; line < lines; line++)
                merge_mixed(mixed + (size_t)r * width + line * WIDTH, sums[r][line], shares, r);
    else
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int line = 0; line < lines; line++)
                f_store(mixed + (size_t)r * width + line * WIDTH, sums[r][line]);
}

INLINE void mix(struct values values, const float *weights, int begin, int end, int value_dim,
                float *mixed, const struct shares *shares, const int rows, const int is_half) {
    int channel = 0;
    for (; channel + LINES * WIDTH <= value_dim; channel += LINES * WIDTH)
        mix_lines(values, weights, begin, end, channel, value_dim, mixed, shares, WIDTH, rows,
                  LINES, is_half);
    for (; channel < value_dim; channel += WIDTH)
        mix_lines(values, weights, begin, end, channel, value_dim, mixed, shares,
                  value_dim - channel, rows, 1, is_half);
}

/* What one block gives to `rows` rows, merged into `total` if there is one, else left in `part`;
 * where this is inlined, loops have constant bounds. */
INLINE void part_of(const float *queries, const float *keys, struct values values,
                    const struct sight *sight, struct sizes sizes, float *weights,
                    struct state part, const struct state *total, const int rows,
                    const int is_plain) {
    score(queries, keys, sight, sizes.head_dim, rows, weights);
    if (is_plain && sight->limits[0] >= KEYS)
        weigh(weights, sight, rows, 1, 1, part);
    else
        weigh(weights, sight, rows, is_plain, 0, part);
    struct shares merged, *shares = NULL;
    float *mixed = part.mixed;
    if (total) {
        merged = merge_sums(*total, part, rows);
        shares = &merged;
        mixed = total->mixed;
    }
    int begin = is_plain ? 0 : sight->begin;
    if (values.is_half)
        mix(values, weights, begin, sight->end, sizes.value_dim, mixed, shares, rows, 1);
    else
        mix(values, weights, begin, sight->end, sizes.value_dim, mixed, shares, rows, 0);
}

#define PART(rows)                                                                                 \
    part_of(queries, keys, values, sight, sizes, weights, part, total, rows, is_plain)

INLINE void part_of_rows(int rows, const float *queries, const float *keys, struct values values,
                         const struct sight *sight, struct sizes sizes, float *weights,
                         struct state part, const struct state *total, const int is_plain) {
    switch (rows) {
    case 1: PART(1); break;
    case 2: PART(2); break;
    case 3: PART(3); break;
    case 4: PART(4); break;
    case 5: PART(5); break;
    default: PART(ROWS);
    }
}

static void plain_part(int rows, const float *queries, const float *keys, struct values values,
                       const struct sight *sight, struct sizes sizes, float *weights,
                       struct state part, const struct state *total) {
    part_of_rows(rows, queries, keys, values, sight, sizes, weights, part, total, 1);
}

static void shaped_part(int rows, const float *queries, const float *keys,
                        struct values values, const struct sight *sight, struct sizes sizes,
                        float *weights, struct state part, const struct state *total) {
    part_of_rows(rows, queries, keys, values, sight, sizes, weights, part, total, 0);
}

/* total = total and part, for up to WIDTH rows. */
static void merge(struct state total, struct state part, int rows, int width) {
    struct shares shares = merge_sums(total, part, rows);
    for (int r = 0; r < rows; r++)
        for (int channel = 0; channel < width; channel += WIDTH) {
            size_t at = (size_t)r * width + channel;
            merge_mixed(total.mixed + at, f_load(part.mixed + at), &shares, r);
        }
}

/* Nothing seen yet, but for the sinks: a row's is its peak, and weighs 1 against it. */
static void begin(const struct paged_attention_args *args, struct state total, int head, int rows) {
    int group = args->num_heads / args->num_kv_heads;
    const float *sinks = args->sinks ? args->sinks + head * group : NULL;
    memset(total.sums, 0, sizeof(float) * rows * WIDTH);
    memset(total.mixed, 0, sizeof(float) * rows * padded(args->value_dim));
    for (int r = 0; r < rows; r++) {
        total.peaks[r] = sinks ? sinks[r % group] : -FLT_MAX;
        if (sinks) total.sums[(size_t)r * WIDTH] = 1;
    }
}

/* A normal one. */
static int is_power_of_two(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7fffff) == 0 && x > 0 && x <= FLT_MAX;
}

/* A tile's rows [count * group, head_dim], divided. */
static void take_queries(const struct paged_attention_args *args, struct tile tile, int head,
                         float *queries) {
    int group = args->num_heads / args->num_kv_heads, size = group * args->head_dim;
    float divisor = args->score->divisor, inverse = 1 / divisor;
    int is_exact = is_power_of_two(divisor) && is_power_of_two(inverse); /* then products are */
    for (int i = 0; i < tile.count; i++) {
        size_t at = ((size_t)(tile.first + i) * args->num_heads + head * group) * args->head_dim;
        for (int channel = 0; channel < size; channel += WIDTH) {
            int count = size - channel;
            floats q = f_load_first(args->query + at + channel, count);
            q = is_exact ? f_mul(q, f_all(inverse)) : f_div(q, f_all(divisor));
            f_store_first(queries + (size_t)i * size + channel, count, q);
        }
    }
}

static void give_output(const struct paged_attention_args *args, struct tile tile, int head,
                        struct state total) {
    int group = args->num_heads / args->num_kv_heads, width = padded(args->value_dim);
    for (int row = 0; row < tile.count * group; row++) {
        size_t query = tile.first + row / group, query_head = head * group + row % group;
        float *output = args->output + (query * args->num_heads + query_head) * args->value_dim;
        float sum = f_sum(f_load(total.sums + (size_t)row * WIDTH));
        for (int channel = 0; channel < args->value_dim; channel += WIDTH) {
            floats mixed = f_load(total.mixed + (size_t)row * width + channel);
            f_store_first(output + channel, args->value_dim - channel, f_div(mixed, f_all(sum)));
        }
    }
}

/* Of those that a row at this position sees. */
static int first_key(const struct score_args *score, int position) {
    int first = score->window ? larger(0, position + 1 - score->window) : 0;
    return score->chunk ? larger(first, position / score->chunk * score->chunk) : first;
}

/* What `rows` rows from `row` on see of a block. */
INLINE void look(const struct paged_attention_args *args, struct tile tile, int head, int block,
                 int row, int rows, int count, struct sight *sight) {
    int group = args->num_heads / args->num_kv_heads;
    int limit = tile.position + row / group + 1 - block * KEYS, left = group - row % group;
    for (int r = 0; r < rows; r++) {
        sight->limits[r] = limit;
        if (--left == 0) limit++, left = group;
    }
    sight->end = smaller(sight->limits[rows - 1], count);
    sight->softcap = args->score->softcap;
    sight->has_slopes = args->slopes != NULL;
    if (args->slopes)
        for (int r = 0; r < rows; r++)
            sight->slopes[r] = args->slopes[head * group + (row + r) % group];
    for (int r = 0; r < rows; r++)
        sight->firsts[r] =
            larger(0, first_key(args->score, block * KEYS + sight->limits[r] - 1) - block * KEYS);
    sight->begin = sight->firsts[0];
    sight->first_line = sight->begin / WIDTH;
    sight->last_line = (larger(sight->end, 0) + WIDTH - 1) / WIDTH;
}

/* One block's part for all of a tile's rows: merged into the scratch's total, or left in `into`. */
static void attend_block(const struct paged_attention_args *args, struct tile tile, int head,
                         int block, const struct place *place, const struct place *next, struct scratch *s,
                         const struct state *into) {
    int rows = tile.count * (args->num_heads / args->num_kv_heads), width = padded(args->value_dim);
    struct sizes sizes = {args->head_dim, args->value_dim};
    int is_plain = args->score->window == 0 && args->score->chunk == 0 &&
                   args->score->softcap == 0 && !args->slopes;
    int number_bytes = args->number_bytes;
    if (number_bytes == 1)
        turn_keys(args, place, next, s->keys, 1);
    else if (number_bytes == 2)
        turn_keys(args, place, next, s->keys, 2);
    else
        turn_keys(args, place, next, s->keys, 4);
    int64_t wide_offsets[KEYS];
    struct values values = {args->values, place->offsets, number_bytes == 2};
    if (number_bytes == 1 || (number_bytes == 2 && rows > ROWS)) {
        if (number_bytes == 1)
            widen_values(args, place, s->values, 1);
        else
            widen_values(args, place, s->values, 2);
        for (int i = 0; i < KEYS; i++) wide_offsets[i] = (int64_t)i * width * 4;
        values = (struct values){(const char *)s->values, wide_offsets, 0};
    }
    for (int row = 0; row < rows; row += ROWS) {
        int these = smaller(rows - row, ROWS);
        struct sight sight;
        look(args, tile, head, block, row, these, place->count, &sight);
        sight.key_scales = args->key_scales ? place->key_scales : NULL;
        sight.value_scales = args->key_scales ? place->value_scales : NULL;
        if (sight.begin >= sight.end && !into) continue; /* none of them sees any of it */
        struct state part = into ? from_row(*into, row, width) : s->part;
        struct state total = from_row(s->total, row, width);
        (is_plain ? plain_part : shaped_part)(
            these, s->queries + (size_t)row * args->head_dim, s->keys, values, &sight, sizes,
            s->weights, part, into ? NULL : &total);
    }
}

/* A tile's blocks of keys: from the first that any row sees to before the last. */
static int first_block(const struct paged_attention_args *args, struct tile tile) {
    return first_key(args->score, tile.position) / KEYS;
}

static int last_block(struct tile tile) { return (tile.position + tile.count + KEYS - 1) / KEYS; }

/* Some key heads of a tile from begin to end, by one thread. */
static void attend_tile(const struct paged_attention_args *args, struct tile tile, int first_head,
                        int num_heads, struct scratch *s) {
    int rows = tile.count * (args->num_heads / args->num_kv_heads);
    int first = first_block(args, tile), blocks = last_block(tile) - first;
    struct place places[2];
    find_keys(args, tile, first_head, first, places);
    for (int step = 0; step < num_heads * blocks; step++) {
        int head = first_head + step / blocks, block = step % blocks, following = step + 1;
        struct place *place = &places[step % 2], *next = &places[following % 2];
        next->count = 0;
        if (following < num_heads * blocks)
            find_keys(args, tile, first_head + following / blocks, first + following % blocks,
                      next);
        if (block == 0) {
            take_queries(args, tile, head, s->queries);
            begin(args, s->total, head, rows);
        }
        attend_block(args, tile, head, first + block, place, next, s, NULL);
        if (block == blocks - 1) give_output(args, tile, head, s->total);
    }
}

/* Few tiles: threads share their blocks, and then merge what each block gave, in order. */
static void attend_parts(const struct paged_attention_args *args, struct team *team,
                         struct scratch *s) {
    int width = padded(args->value_dim), group = args->num_heads / args->num_kv_heads;
    int heads = args->num_tiles * args->num_kv_heads;
    for (int item; (item = next_item(team)) < heads * args->max_blocks;) {
        int index = item / heads, at = item % heads, head = at % args->num_kv_heads;
        struct tile tile = args->tiles[at / args->num_kv_heads];
        int block = first_block(args, tile) + index;
        if (block >= last_block(tile)) continue;
        float *memory = args->parts + ((size_t)at * args->max_blocks + index) * args->part_floats;
        struct state part = state_at(memory, tile.count * group);
        take_queries(args, tile, head, s->queries);
        struct place place;
        find_keys(args, tile, head, block, &place);
        attend_block(args, tile, head, block, &place, &place, s, &part);
    }
    barrier(team);
    for (int at; (at = next_item(team)) < heads;) {
        struct tile tile = args->tiles[at / args->num_kv_heads];
        int rows = tile.count * group, blocks = last_block(tile) - first_block(args, tile);
        begin(args, s->total, at % args->num_kv_heads, rows);
        for (int index = 0; index < blocks; index++) {
            float *memory =
                args->parts + ((size_t)at * args->max_blocks + index) * args->part_floats;
            struct state part = state_at(memory, rows);
            for (int row = 0; row < rows; row += WIDTH)
                merge(from_row(s->total, row, width), from_row(part, row, width),
                      smaller(rows - row, WIDTH), width);
        }
        give_output(args, tile, at % args->num_kv_heads, s->total);
    }
}

void paged_attention(const void *data, struct team *team) {
    const struct paged_attention_args *args = data;
    float *memory = args->scratch + args->scratch_floats * team->thread;
    struct scratch s =
        scratch_at(memory, args->max_rows, padded(args->head_dim), padded(args->value_dim));
    if (args->parts) {
        attend_parts(args, team, &s);
        return;
    }
    int is_plenty = args->num_tiles >= TILES_PER_THREAD * team->num_threads;
    int heads = is_plenty ? args->num_kv_heads : 1, shares = args->num_kv_heads / heads;
    for (int item; (item = next_item(team)) < args->num_tiles * shares;) {
        int last = args->num_tiles * shares - 1 - item; /* a prompt's last tiles are its longest */
        attend_tile(args, args->tiles[last / shares], last % shares, heads, &s);
    }
}
