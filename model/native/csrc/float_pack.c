/* fp32 weights in the order of float_linear.c: rows of a panel beside each other, channel after channel.
 * Done once for each layer, when a model is loaded.
 */
#include "pool.h"
#include "simd.h"

#include <stddef.h>
#include <string.h>

enum {
    TILES = 3,
    ROWS = TILES * WIDTH, /* as there */
    LINE = 16,            /* floats that come from memory at once */
    AT_ONCE = 4 * LINE    /* of a row; more rows are read side by side than a processor looks ahead of */
};

struct float_pack_args {
    const float *weight; /* [out_features, in_features] */
    float *packed;       /* [panels, in_features, ROWS], zeros behind the last row */
    int out_features, in_features;
};

static void pack_panel(const struct float_pack_args *args, int panel) {
    size_t in = args->in_features, first = (size_t)panel * ROWS;
    int left = args->out_features - panel * ROWS, rows = left < ROWS ? left : ROWS;
    const float *weight = args->weight + first * in;
    float *packed = args->packed + first * in;
    float tile[AT_ONCE][ROWS] = {{0}}; /* across */
    for (size_t channel = 0; channel < in; channel += AT_ONCE) {
        int count = in - channel < AT_ONCE ? (int)(in - channel) : AT_ONCE;
        for (int row = 0; row < rows; row++) {
            const float *line = weight + row * in + channel;
            for (int i = 0; i < AT_ONCE; i += LINE) __builtin_prefetch(line + AT_ONCE + i);
            if (count == AT_ONCE)
                for (int i = 0; i < AT_ONCE; i++) tile[i][row] = line[i];
            else
                for (int i = 0; i < count; i++) tile[i][row] = line[i];
        }
        memcpy(packed + channel * ROWS, tile, (size_t)count * sizeof tile[0]);
    }
}

void float_pack(const void *data, struct team *team) {
    const struct float_pack_args *args = data;
    int panels = (args->out_features + ROWS - 1) / ROWS;
    for (int panel; (panel = next_item(team)) < panels;) pack_panel(args, panel);
}
