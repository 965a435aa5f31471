/* A file's blocks to panels, losslessly: see stored_linear.h. Done once for each tensor, when a model is
 * loaded. */
#include "stored_linear.h"

enum { AT_ONCE = 4 }; /* blocks of a row: as much of a panel as stays in the first cache */

/* A group of 32 as any format has it: whole numbers without a sign, and the bits of scales. */
struct group {
    uint8_t q[GROUP];
    uint16_t scales[2], minimums[2]; /* of 16 bits; or under a super, whole numbers with a sign */
    uint16_t super, super_minimum;
};

INLINE void small_group(const uint8_t *b, const struct layout l, struct group *g) {
    const uint8_t *packed = b + 2 + 2 * l.has_minimum;
    g->scales[0] = half_bits(b);
    if (l.has_minimum) g->minimums[0] = half_bits(b + 2);
    split_16_bytes(packed + 4 * l.high, l.high ? word(packed) : 0, l.high, g->q);
}

static void q8_0_group(const uint8_t *b, struct group *g) {
    g->scales[0] = half_bits(b);
    for (int i = 0; i < GROUP; i++) g->q[i] = b[i + 2] ^ 128;
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
        g->q[i] = (uint8_t)((packed[i] >> index % 4 * 2 & 3) | (b[i] >> index & 1) << 2);
}

static void iq4_xs_group(const uint8_t *b, int index, struct group *g) {
    int low = b[4 + index / 2] >> index % 2 * 4 & 15, high = half_bits(b + 2) >> index * 2 & 3;
    g->scales[0] = (uint16_t)((low | high << 4) - 32);
    g->super = half_bits(b);
    split_16_bytes(b + 8 + index * 16, 0, 0, g->q);
}

/* 2^(e - 128), the half of the file's scale, as its numbers are doubled. */
static void mxfp4_group(const uint8_t *b, struct group *g) {
    g->scales[0] = (uint16_t)(b[0] < 2 ? 0x20 << b[0] : (b[0] - 1) << 7);
    split_16_bytes(b + 1, 0, 0, g->q);
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

/* One bit range of all 32 numbers into its words, as numbers_at takes it out: few bits word by word, more
 * of them all at once, which is what compilers do best. */
INLINE void put_bits(const uint8_t *q, const int from, const int bits, uint8_t *words) {
    const uint32_t mask = (1u << bits) - 1;
    const int each = bits * STEP; /* numbers that lie in the lowest bits, one beside the other */
    uint8_t bytes[8 * STEP] = {0};
    for (int part = 0; part < 8 / bits; part++) {
        const uint8_t *own = q + part * each;
        for (int i = 0; bits < 4 && i < bits; i++) {
            uint32_t packed = word(bytes + i * STEP);
            packed |= (word(own + i * STEP) >> from & 0x01010101u * mask) << part * bits;
            memcpy(bytes + i * STEP, &packed, STEP);
        }
        for (int i = 0; bits >= 4 && i < each; i++)
            bytes[i] |= (uint8_t)((own[i] >> from & mask) << part * bits);
    }
    for (int i = 0; i < bits; i++) memcpy(words + (size_t)i * STEP * ROWS, bytes + i * STEP, STEP);
}

INLINE void put_scale(const struct layout l, uint8_t *scales, int index, uint16_t scale) {
    if (l.has_super)
        scales[index * ROWS] = (uint8_t)scale;
    else
        memcpy(scales + (size_t)index * ROWS * 2, &scale, 2);
}

/* A block's groups, into its row of a panel. */
INLINE void pack_block(const enum format format, const uint8_t *block, uint8_t *supers, uint8_t *scales,
                       uint8_t *numbers) {
    const struct layout l = layout_of(format);
    struct group g = {{0}, {0}, {0}, 0, 0};
    for (int index = 0; index < l.numbers / GROUP; index++) {
        read_group(format, block, index, &g);
        put_bits(g.q, 0, l.low, numbers);
        if (l.high) put_bits(g.q, l.low, l.high, numbers + l.low * ROWS * STEP);
        for (int i = 0; i < l.scales; i++) {
            put_scale(l, scales, i, g.scales[i]);
            if (l.has_minimum) put_scale(l, scales, l.scales + i, g.minimums[i]);
        }
        numbers += group_numbers(l), scales += group_scales(l);
    }
    if (!l.has_super) return;
    memcpy(supers, &g.super, 2);
    if (l.has_minimum) memcpy(supers + ROWS * 2, &g.super_minimum, 2);
}

/* Inlined with a format, so that no block asks what it is. */
INLINE void pack_panel(const struct stored_pack_args *args, int panel, const enum format format) {
    const struct layout l = layout_of(format);
    int groups = args->in_features / GROUP, blocks = args->in_features / l.numbers;
    uint8_t *supers = args->packed + panel * panel_bytes(l, args->in_features);
    uint8_t *scales = supers + scales_start(l, groups), *numbers = supers + numbers_start(l, groups);
    const size_t block_scales = (size_t)(l.numbers / GROUP) * group_scales(l);
    const size_t block_numbers = (size_t)(l.numbers / GROUP) * group_numbers(l);
    int before = panel * ROWS - args->first_row; /* of the rows, those of earlier panels */
    int start = before < 0 ? -before : 0;
    int stop = args->num_rows - before < ROWS ? args->num_rows - before : ROWS;
    for (int first = 0; first < blocks; first += AT_ONCE)
        for (int row = start; row < stop; row++)
            for (int i = first; i < first + AT_ONCE && i < blocks; i++)
                pack_block(format, args->blocks + ((size_t)(before + row) * blocks + i) * l.bytes,
                           supers + (size_t)i * super_scales(l) + row * 2,
                           scales + i * block_scales + row * (l.has_super ? 1 : 2),
                           numbers + i * block_numbers + row * STEP);
}

long stored_panel_bytes(int format, int in_features) {
    return (long)panel_bytes(layout_of((enum format)format), in_features);
}

void stored_pack(const void *data, struct team *team) {
    const struct stored_pack_args *args = data;
    int first = args->first_row / ROWS, past = ceil_div(args->first_row + args->num_rows, ROWS);
    for (int panel; (panel = first + next_item(team)) < past;)
        switch ((enum format)args->format) {
        case Q4_0: pack_panel(args, panel, Q4_0); break;
        case Q4_1: pack_panel(args, panel, Q4_1); break;
        case Q5_0: pack_panel(args, panel, Q5_0); break;
        case Q5_1: pack_panel(args, panel, Q5_1); break;
        case Q8_0: pack_panel(args, panel, Q8_0); break;
        case Q4_K: pack_panel(args, panel, Q4_K); break;
        case Q5_K: pack_panel(args, panel, Q5_K); break;
        case Q6_K: pack_panel(args, panel, Q6_K); break;
        case Q2_K: pack_panel(args, panel, Q2_K); break;
        case Q3_K: pack_panel(args, panel, Q3_K); break;
        case IQ4_NL: pack_panel(args, panel, IQ4_NL); break;
        case IQ4_XS: pack_panel(args, panel, IQ4_XS); break;
        case MXFP4: pack_panel(args, panel, MXFP4); break;
        }
}
