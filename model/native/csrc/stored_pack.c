/* A file's blocks to panels, losslessly: see stored_linear.h. Done once for each tensor, when a model is
 * loaded. */
#include "stored_linear.h"

/* A group of 32 as any format has it: whole numbers without a sign, and the bits of scales. */
struct group {
    int32_t q[GROUP];
    uint16_t scales[2], minimums[2]; /* of 16 bits; or under a super, whole numbers with a sign */
    uint16_t super, super_minimum;
};

INLINE void small_group(const uint8_t *b, const struct layout l, struct group *g) {
    const uint8_t *packed = b + 2 + 2 * l.has_minimum;
    g->scales[0] = half_bits(b);
    if (l.has_minimum) g->minimums[0] = half_bits(b + 2);
    split_16(packed + 4 * l.high, l.high ? word(packed) : 0, l.high, g->q);
}

static void q8_0_group(const uint8_t *b, struct group *g) {
    g->scales[0] = half_bits(b);
    for (int i = 0; i < GROUP; i++) g->q[i] = (int8_t)b[i + 2] + 128;
}

/* A minimum is taken off: the sign is its number's, not its super's. */
static void k_group(const uint8_t *b, int index, const int has_fifth, struct group *g) {
    int scale, minimum;
    six_bits(b + 4, index, &scale, &minimum);
    g->scales[0] = (uint16_t)scale, g->minimums[0] = (uint16_t)-minimum;
    g->super = half_bits(b), g->super_minimum = half_bits(b + 2);
    k_numbers(b, index, has_fifth, g->q);
}

static void q6_k_group(const uint8_t *b, int index, struct group *g) {
    for (int half = 0; half < 2; half++) g->scales[half] = b[192 + 2 * index + half];
    g->super = half_bits(b + 208);
    q6_k_numbers(b, index, g->q);
}

static void q2_k_group(const uint8_t *b, int index, struct group *g) {
    for (int half = 0; half < 2; half++) {
        uint8_t both = b[2 * index + half];
        g->scales[half] = both & 15, g->minimums[half] = (uint16_t)-(both >> 4);
    }
    g->super = half_bits(b + 80), g->super_minimum = half_bits(b + 82);
    const uint8_t *packed = b + 16 + index / 4 * 32;
    for (int i = 0; i < GROUP; i++) g->q[i] = packed[i] >> index % 4 * 2 & 3;
}

/* 16 scales of six bits: low nibbles of 8 bytes, high bits in 4 more. A bit that is not set takes 4 off. */
static void q3_k_group(const uint8_t *b, int index, struct group *g) {
    const uint8_t *scales = b + 96, *packed = b + 32 + index / 4 * 32;
    for (int half = 0; half < 2; half++) {
        int i = 2 * index + half;
        int low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        g->scales[half] = (uint16_t)((low | high << 4) - 32);
    }
    g->super = half_bits(b + 108);
    for (int i = 0; i < GROUP; i++)
        g->q[i] = (packed[i] >> index % 4 * 2 & 3) | (b[i] >> index & 1) << 2;
}

static void iq4_xs_group(const uint8_t *b, int index, struct group *g) {
    int low = b[4 + index / 2] >> index % 2 * 4 & 15, high = half_bits(b + 2) >> index * 2 & 3;
    g->scales[0] = (uint16_t)((low | high << 4) - 32);
    g->super = half_bits(b);
    split_16(b + 8 + index * 16, 0, 0, g->q);
}

/* 2^(e - 128), the half of the file's scale, as its numbers are doubled. */
static void mxfp4_group(const uint8_t *b, struct group *g) {
    g->scales[0] = (uint16_t)(b[0] < 2 ? 0x20 << b[0] : (b[0] - 1) << 7);
    split_16(b + 1, 0, 0, g->q);
}

INLINE void read_group(const enum format format, const uint8_t *b, int index, struct group *g) {
    switch (format) {
    case Q8_0: q8_0_group(b, g); break;
    case Q4_K: k_group(b, index, 0, g); break;
    case Q5_K: k_group(b, index, 1, g); break;
    case Q6_K: q6_k_group(b, index, g); break;
    case Q2_K: q2_k_group(b, index, g); break;
    case Q3_K: q3_k_group(b, index, g); break;
    case IQ4_XS: iq4_xs_group(b, index, g); break;
    case MXFP4: mxfp4_group(b, g); break;
    default: small_group(b, layout_of(format), g);
    }
}

/* One bit range of all 32 numbers into its words, as numbers_at takes it out. */
INLINE void put_bits(const int32_t *q, const int from, const int bits, uint8_t *words) {
    uint8_t bytes[8][STEP] = {{0}};
    for (int step = 0; step < STEPS; step++)
        for (int i = 0; i < STEP; i++) {
            int part = q[step * STEP + i] >> from & ((1 << bits) - 1);
            bytes[step % bits][i] |= (uint8_t)(part << step / bits * bits);
        }
    for (int i = 0; i < bits; i++) memcpy(words + (size_t)i * STEP * ROWS, bytes[i], STEP);
}

INLINE void put_scale(const struct layout l, uint8_t *scales, int index, int row, uint16_t scale) {
    if (l.has_super)
        scales[index * ROWS + row] = (uint8_t)scale;
    else
        memcpy(scales + (size_t)(index * ROWS + row) * 2, &scale, 2);
}

INLINE void pack_row(const struct stored_pack_args *args, const struct layout l, int row) {
    int groups = args->in_features / GROUP, of_block = l.numbers / GROUP, in_panel = row % ROWS;
    const uint8_t *block = args->blocks + (size_t)row * (args->in_features / l.numbers) * l.bytes;
    uint8_t *supers = args->packed + row / ROWS * panel_bytes(l, args->in_features);
    uint8_t *scales = supers + scales_start(l, groups);
    uint8_t *numbers = supers + numbers_start(l, groups);
    struct group g = {{0}, {0}, {0}, 0, 0};
    for (int group = 0; group < groups; group++) {
        read_group((enum format)args->format, block, group % of_block, &g);
        put_bits(g.q, 0, l.low, numbers + in_panel * STEP);
        if (l.high) put_bits(g.q, l.low, l.high, numbers + (l.low * ROWS + in_panel) * STEP);
        for (int i = 0; i < l.scales; i++) {
            put_scale(l, scales, i, in_panel, g.scales[i]);
            if (l.has_minimum) put_scale(l, scales, l.scales + i, in_panel, g.minimums[i]);
        }
        numbers += group_numbers(l), scales += group_scales(l);
        if ((group + 1) % of_block) continue;
        block += l.bytes;
        if (!l.has_super) continue;
        memcpy(supers + in_panel * 2, &g.super, 2);
        if (l.has_minimum) memcpy(supers + (ROWS + in_panel) * 2, &g.super_minimum, 2);
        supers += super_scales(l);
    }
}

long stored_panel_bytes(int format, int in_features) {
    return (long)panel_bytes(layout_of((enum format)format), in_features);
}

void stored_pack(const void *data, struct team *team) {
    const struct stored_pack_args *args = data;
    const enum format format = (enum format)args->format;
    for (int panel; (panel = next_item(team)) < ceil_div(args->num_rows, ROWS);) {
        int stop = (panel + 1) * ROWS < args->num_rows ? (panel + 1) * ROWS : args->num_rows;
        for (int row = panel * ROWS; row < stop; row++) pack_row(args, layout_of(format), row);
    }
}
