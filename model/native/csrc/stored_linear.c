/* y = x W^T + b, with the weights as a file keeps them and the activations rounded to 8 bits.
 *
 * Numbers of a few bits, a scale for each 16 or 32 of them, perhaps a minimum: all formats are this, and
 * one kernel, in which `layout` is constant. Each 16 channels of a token are rounded by their own maximum,
 * but what their codes are worth is a whole number (`share`) of a unit, of which the channels with the
 * token's largest have SHARES: so sums over 32 channels are whole numbers too. For numbers of 4 and 5 bits
 *
 *     t = sum of the first 16 * their share + sum of the other 16 * theirs     exact, in 32 bits
 *     y = t * scale + y                                                        each with one rounding
 *     y = minimum * (sum of the activations' codes, times shares) + y
 *
 * Others do not fit, and have
 *
 *     t = sum of the first 16 * share
 *     t = sum of the other 16 * share + t
 *
 * and where 16 weights have a scale of their own, for the first 16 and then for the others
 *
 *     y = (sum * scale) * share + y
 *
 * and the minimums behind both, from the first group to the last, and y * unit is the result: so a
 * token's is the same in any batch. What a scale stands for is exact too: a half, or a half times a whole
 * number of 8 bits.
 *
 * `stored_refine`, called behind it, makes a head's largest results closer: for the panels that have the
 * largest, each token's remainders (x - code * (share * unit), twice rounded) are rounded to 8 bits and multiplied
 * alike, and y = y + that: 16 bits of the activations where they may decide which token is likeliest.
 */
#include "experts.h"
#include "stored_panel.h"

#include <math.h>

enum { LIKELIEST = 16 }; /* panels of a token that are refined */
#define SHARES 16383.0f /* units: 2 * SHARES * 16 * 127 * 31 is below 2^31 */

/* 16 channels of a token, or of what rounding took off them. */
INLINE floats channels_at(const float *x, const struct rounded_group *r, const int half,
                          const int is_rest) {
    floats own = f_load(x + half * WIDTH);
    if (!is_rest) return own;
    return f_fnma(f_load_bytes(r->codes + half * WIDTH), f_all(r->scales[half] * r->unit), own);
}

/* How many units a code of channels up to `largest` shares is worth: rounded up, and at least one. */
INLINE int share_of(float largest) {
    int share = (int)lrintf(largest + 0.5f);
    return share > 1 ? share : 1;
}

/* A NaN or an infinity makes the unit one, and so all of the token's results. */
INLINE void round_token(const struct stored_linear_args *args, int token, const int is_rest) {
    int groups = args->in_features / GROUP;
    const float *x = args->x + (size_t)token * args->in_features;
    struct rounded_group *first = args->rounded + (size_t)token * groups, *r = first;
    ints most = i_all(0);
    for (int group = 0; group < groups; group++, r++)
        for (int half = 0; half < 2; half++) {
            ints own = magnitudes(channels_at(x + group * GROUP, r, half, is_rest));
            r->sums[half] = i_largest(own); /* until it is known what a share is */
            most = i_max(most, own);
        }
    float largest = largest_of(most), shares = SHARES / largest, units = SHARES * LARGEST / largest;
    float unit = largest / (SHARES * LARGEST);
    r = first;
    for (int group = 0; group < groups; group++, r++, x += GROUP) {
        for (int half = 0; half < 2; half++) {
            int share = share_of(float_of(r->sums[half]) * shares);
            ints whole = round_lanes(channels_at(x, r, half, is_rest), f_all(units / (float)share),
                                     r->codes + half * WIDTH);
            r->shares[half] = (int16_t)share, r->scales[half] = (float)share;
            r->sums[half] = i_sum(whole);
        }
        r->whole = r->sums[0] * r->shares[0] + r->sums[1] * r->shares[1];
        r->worth = (float)r->whole;
        r->unit = unit;
    }
}

static int num_panels(const struct stored_linear_args *args) {
    int panels = 0;
    for (int i = 0; i < args->num_segments; i++) panels += panels_of(args->segments + i);
    return panels;
}

void stored_linear(const void *data, struct team *team) {
    const struct stored_linear_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        round_token(args, token, 0);
    barrier(team);
    /* A few items for each thread: neighbouring panels for one thread, little to wait for. */
    int panels = num_panels(args), item_panels = ceil_div(panels, 8 * team->num_threads);
    for (int first; (first = next_item(team) * item_panels) < panels;)
        for (int panel = first; panel < first + item_panels && panel < panels; panel++) {
            int own = panel;
            const struct segment *segment = segment_of(args, &own);
            int is_last = panel == first + item_panels - 1; /* the others take the items between */
            int step = is_last ? (team->num_threads - 1) * item_panels + 1 : 1;
            MULTIPLY[segment->format](args, segment, own, own + step);
        }
}

void stored_linear_of(const void *layer, const struct expert_rows *rows, struct team *team) {
    struct stored_linear_args args = *(const struct stored_linear_args *)layer;
    args.x = rows->x, args.y = rows->y, args.num_tokens = rows->num_tokens;
    args.rounded = rows->scratch;
    stored_linear(&args, team);
}

/* The largest result of a panel's rows. */
static float largest_in(const float *y, int rows) {
    if (rows == ROWS) {
        floats most = f_load(y);
        for (int tile = 1; tile < TILES; tile++) most = f_max(most, f_load(y + tile * WIDTH));
        return f_largest(most);
    }
    float most = y[0];
    for (int row = 1; row < rows; row++)
        if (y[row] > most) most = y[row];
    return most;
}

/* The panels with the largest results of a token, the largest first, the upper one of two alike;
 * -> how many. */
static int likeliest(const struct stored_linear_args *args, int token, int panels[LIKELIEST]) {
    float most[LIKELIEST];
    int count = 0, all = num_panels(args);
    for (int panel = 0; panel < all; panel++) {
        int own = panel;
        const struct segment *segment = segment_of(args, &own);
        int left = segment->num_rows - own * ROWS;
        const float *y = args->y + (size_t)token * args->out_features + segment->first_row + own * ROWS;
        float value = largest_in(y, left < ROWS ? left : ROWS);
        if (count == LIKELIEST && !(value > most[LIKELIEST - 1])) continue;
        int place = count < LIKELIEST ? count++ : LIKELIEST - 1;
        for (; place && value > most[place - 1]; place--) {
            most[place] = most[place - 1];
            panels[place] = panels[place - 1];
        }
        most[place] = value, panels[place] = panel;
    }
    return count;
}

void stored_refine(const void *data, struct team *team) {
    const struct stored_linear_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;) {
        int panels[LIKELIEST], count = likeliest(args, token, panels);
        round_token(args, token, 1);
        for (int i = 0; i < count; i++) {
            int own = panels[i];
            struct segment segment = *segment_of(args, &own);
            int left = segment.num_rows - own * ROWS, rows = left < ROWS ? left : ROWS;
            float *y = args->y + (size_t)token * args->out_features + segment.first_row + own * ROWS;
            float more[ROWS];
            struct stored_linear_args one = *args;
            one.rounded += (size_t)token * (args->in_features / GROUP);
            one.y = more, one.bias = NULL, one.num_tokens = 1;
            segment.first_row = -own * ROWS; /* so that the panel's are the first of `more` */
            MULTIPLY[segment.format](&one, &segment, own, own);
            for (int row = 0; row < rows; row++) y[row] += more[row];
        }
    }
}
