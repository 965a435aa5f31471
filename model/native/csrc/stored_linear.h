/* Linear layers whose weights are a file's own blocks: how they lie in memory, and the operations.
 *
 * A layer is a few segments of rows, each in a format of its own. A segment lies in panels of ROWS
 * rows, behind the last of which are zeros. In a panel there are, one behind the other,
 *
 *     supers   [group of 256 channels][ROWS] halves: what the scales of 8 groups are multiplied by, and
 *              [ROWS] more for the minimums
 *     scales   [group of 32][of the group's numbers][ROWS], then minimums alike: bytes if there are
 *              supers, else halves; MXFP4's powers of two as bfloat16, whose range is theirs
 *     numbers  [group of 32][words][ROWS][4 bytes]: the low bits' words, then the high bits'
 *
 * so that 16 rows are a register's lanes, and 4 channels of each what an instruction multiplies. Nothing
 * is lost or rounded: a number's bits, a scale's bits are the file's.
 */
#ifndef STORED_LINEAR_H
#define STORED_LINEAR_H

#include "blocks.h"
#include "pool.h"
#include "round_group.h"

#include <stddef.h>

enum {
    STEP = 4,  /* channels that one instruction multiplies */
    STEPS = GROUP / STEP,
    TILES = 3, /* of WIDTH rows in a panel */
    ROWS = TILES * WIDTH,
    SUPER = 8, /* groups under a super */
    LINE = 64  /* bytes that come from memory at once; a panel begins with one */
};

enum table { NO_TABLE, QUARTILES, FOUR_BIT_FLOATS };

struct layout {
    int low, high;      /* bits of a number: those that lie together, and those above them */
    int less;           /* is taken off a number */
    int scales;         /* of a group: 1, or 2 for 16 channels each */
    int has_minimum;    /* for each scale, one */
    int has_super;      /* scales and minimums are bytes with a sign */
    enum table table;   /* in which a number is a place */
    int bytes, numbers; /* of a block in the file */
};

INLINE struct layout layout_of(const enum format format) {
    switch (format) {
    case Q4_0: return (struct layout){4, 0, 8, 1, 0, 0, NO_TABLE, 18, 32};
    case Q4_1: return (struct layout){4, 0, 0, 1, 1, 0, NO_TABLE, 20, 32};
    case Q5_0: return (struct layout){4, 1, 16, 1, 0, 0, NO_TABLE, 22, 32};
    case Q5_1: return (struct layout){4, 1, 0, 1, 1, 0, NO_TABLE, 24, 32};
    case Q8_0: return (struct layout){8, 0, 128, 1, 0, 0, NO_TABLE, 34, 32};
    case Q4_K: return (struct layout){4, 0, 0, 1, 1, 1, NO_TABLE, 144, 256};
    case Q5_K: return (struct layout){4, 1, 0, 1, 1, 1, NO_TABLE, 176, 256};
    case Q6_K: return (struct layout){4, 2, 32, 2, 0, 1, NO_TABLE, 210, 256};
    case Q2_K: return (struct layout){2, 0, 0, 2, 1, 1, NO_TABLE, 84, 256};
    case Q3_K: return (struct layout){2, 1, 4, 2, 0, 1, NO_TABLE, 110, 256};
    case IQ4_NL: return (struct layout){4, 0, 128, 1, 0, 0, QUARTILES, 18, 32};
    case IQ4_XS: return (struct layout){4, 0, 128, 1, 0, 1, QUARTILES, 136, 256};
    case MXFP4: return (struct layout){4, 0, 128, 1, 0, 0, FOUR_BIT_FLOATS, 17, 32};
    }
    __builtin_unreachable();
}

/* Bytes of ROWS rows, for a group of 32 channels or one of 256. */
INLINE int group_numbers(const struct layout l) { return (l.low + l.high) * STEP * ROWS; }
INLINE int group_scales(const struct layout l) {
    return l.scales * (1 + l.has_minimum) * (l.has_super ? 1 : 2) * ROWS;
}
INLINE int super_scales(const struct layout l) { return l.has_super * 2 * (1 + l.has_minimum) * ROWS; }

/* From a panel's beginning, at which the supers are. */
INLINE size_t scales_start(const struct layout l, int groups) {
    return (size_t)(groups / SUPER) * super_scales(l);
}
INLINE size_t numbers_start(const struct layout l, int groups) {
    size_t bytes = scales_start(l, groups) + (size_t)groups * group_scales(l);
    return (bytes + LINE - 1) / LINE * LINE;
}
INLINE size_t panel_bytes(const struct layout l, int in_features) {
    int groups = in_features / GROUP;
    return numbers_start(l, groups) + (size_t)groups * group_numbers(l);
}

struct segment {
    const uint8_t *packed; /* panels, 64-byte aligned */
    int64_t panel_bytes;
    int format, first_row, num_rows;
};

/* 32 channels of a token, rounded: what the products need of them, a line. */
struct rounded_group {
    int8_t codes[GROUP];
    int16_t shares[2]; /* what a code is worth, in units: of the first 16 channels, of the other 16 */
    float scales[2];   /* the same */
    int32_t sums[2];   /* of codes */
    int32_t whole;     /* of both sums, in units */
    float worth;       /* the same */
    float unit;        /* the token's */
};

struct stored_linear_args {
    const float *x;                 /* [num_tokens, in_features] */
    float *y;                       /* [num_tokens, out_features] */
    const float *bias;              /* [out_features], or NULL */
    const struct segment *segments; /* top to bottom */
    struct rounded_group *rounded;  /* [num_tokens, groups]: scratch, begins with a line */
    int num_segments, num_tokens, in_features, out_features;
};

struct stored_pack_args {
    const uint8_t *blocks; /* [num_rows, blocks of a row] */
    uint8_t *packed;       /* panels, zeros before */
    int format, first_row, num_rows, in_features; /* the first: in the panels */
};

/* `stored_refine` takes the arguments of a `stored_linear` that has just run, with its scratch. */
operation stored_linear, stored_refine, stored_pack;

#endif
