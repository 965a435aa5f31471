/* 8-bit linear layers: how weights and activations lie in memory, and the two operations on them.
 *
 * Weights lie in panels of ROWS rows, in the order in which they are read, padded with zeros:
 * [panel][4 channels][TILES][LANES][4], see int8_linear.c.
 */
#ifndef INT8_LINEAR_H
#define INT8_LINEAR_H

#include "pool.h"
#include "round_group.h"

#include <stdint.h>

enum {
    STEP = 4,    /* channels that one instruction multiplies */
    LANES = WIDTH, /* rows of weights that are multiplied at once */
    TILES = 3,   /* of LANES rows in a panel */
    ROWS = TILES * LANES,
    ZERO = 128   /* weights are kept unsigned, as most instructions want them: this is added */
};

struct int8_pack_args {
    const float *weight; /* [out_features, in_features] */
    uint8_t *packed;     /* panels */
    float *scales;       /* [out_features]: what one of a row's whole numbers is worth */
    int in_features, out_features;
};

struct int8_linear_args {
    const float *x;        /* [num_tokens, in_features] */
    float *y;              /* [num_tokens, out_features] */
    const uint8_t *packed; /* panels, 64-byte aligned */
    const float *scales;   /* [out_features] */
    const float *bias;     /* [out_features], or NULL */
    int8_t *codes;         /* [num_tokens, groups, GROUP]: activations, rounded; scratch */
    float *code_scales;    /* [num_tokens, groups]: what one is worth; scratch */
    int32_t *starts;       /* [num_tokens, groups]: where a group's sums start; scratch */
    int num_tokens, in_features, out_features;
};

operation int8_pack, int8_linear;

#endif
