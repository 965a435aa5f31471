/* fp32 weights to whole numbers up to 127 and a scale for each row, in the order of int8_linear.c.
 *
 * Done once for each layer, when the model is loaded.
 */
#include "int8_linear.h"

#include <stddef.h>
#include <string.h>

/* Compared as integers, in which order a NaN is above all numbers: a broken row stays broken. */
static float largest_magnitude(const float *row, int n) {
    int32_t largest = 0;
    for (int i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, row + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    float result;
    memcpy(&result, &largest, sizeof result);
    return result < SMALLEST ? SMALLEST : result;
}

/* One row into its lane of a panel; `lane` is where the lane's first 4 bytes are. */
static void pack_row(const float *row, int n, float scale, uint8_t *lane) {
    for (int channel = 0; channel < n; channel += LANES) {
        int32_t whole[LANES];
        uint8_t bytes[LANES];
        i_store(whole, i_of(f_div(f_load_first(row + channel, n - channel), f_all(scale))));
        for (int i = 0; i < LANES; i++) bytes[i] = (uint8_t)((uint32_t)whole[i] + ZERO);
        for (int i = 0; i < LANES && channel + i < n; i += STEP)
            memcpy(lane + (size_t)(channel + i) * ROWS, bytes + i, STEP);
    }
}

static void pack_panel(const struct int8_pack_args *args, int panel) {
    int n = args->in_features;
    size_t panel_bytes = (size_t)ceil_div(n, GROUP) * GROUP * ROWS;
    uint8_t *packed = args->packed + panel * panel_bytes;
    memset(packed, ZERO, panel_bytes);
    for (int i = 0; i < ROWS && panel * ROWS + i < args->out_features; i++) {
        int row = panel * ROWS + i;
        const float *weight = args->weight + (size_t)row * n;
        float scale = largest_magnitude(weight, n) / LARGEST;
        args->scales[row] = scale;
        pack_row(weight, n, scale, packed + i * STEP);
    }
}

void int8_pack(const void *data, struct team *team) {
    const struct int8_pack_args *args = data;
    int panels = ceil_div(args->out_features, ROWS);
    for (int panel; (panel = next_item(team)) < panels;)
        pack_panel(args, panel);
}
