/* y = x W^T + b, with the weights as a file keeps them and the activations rounded to 8 bits.
 *
 * Numbers of a few bits, a scale for each 16 or 32 of them, perhaps a minimum: all formats are this, and
 * one kernel, in which `layout` is constant. Each 16 channels of a token are rounded by their own maximum
 * (round_group.h). Sums of 16 products are whole numbers and exact; then, with one rounding each,
 *
 *     t = sum of the first 16 * (what a code of theirs is worth)
 *     t = sum of the other 16 * (what a code of theirs is worth) + t
 *     y = t * scale + y
 *     y = minimum * (what the activations' codes are worth) + y
 *
 * and where 16 weights have a scale of their own, for the first 16 and then for the others
 *
 *     y = (sum * scale) * (what a code is worth) + y
 *
 * and the minimums behind both, from the first group to the last: so a token's result is the same in any
 * batch. What a scale stands for is exact too: a half, or a half times a whole number of 8 bits.
 *
 * `stored_refine`, called behind it, makes a head's largest results closer: for the panels that have the
 * largest, each token's remainders (x - code * scale, rounded once) are rounded to 8 bits and multiplied
 * alike, and y = y + that: 16 bits of the activations where they may decide which token is likeliest.
 */
#include "experts.h"
#include "stored_panel.h"

enum { LIKELIEST = 16 }; /* panels of a token that are refined */

/* 32 channels. */
static void round_channels(const float *x, struct rounded_group *r) {
    for (int half = 0; half < 2; half++, x += WIDTH) {
        ints whole;
        r->scales[half] = round_half(f_load(x), r->codes + half * WIDTH, &whole);
        r->sums[half] = i_sum(whole);
        r->worth[half] = (float)r->sums[half] * r->scales[half];
    }
    r->worth[2] = r->worth[0] + r->worth[1];
}

static void round_token(const struct stored_linear_args *args, int token) {
    int groups = args->in_features / GROUP;
    const float *x = args->x + (size_t)token * args->in_features;
    struct rounded_group *r = args->rounded + (size_t)token * groups;
    for (int group = 0; group < groups; group++)
        round_channels(x + group * GROUP, r + group);
}

static int num_panels(const struct stored_linear_args *args) {
    int panels = 0;
    for (int i = 0; i < args->num_segments; i++) panels += panels_of(args->segments + i);
    return panels;
}

void stored_linear(const void *data, struct team *team) {
    const struct stored_linear_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        round_token(args, token);
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

/* What rounding took off a token, rounded in its turn: the codes' second 8 bits. */
static void round_rest(const struct stored_linear_args *args, int token) {
    int groups = args->in_features / GROUP;
    const float *x = args->x + (size_t)token * args->in_features;
    struct rounded_group *r = args->rounded + (size_t)token * groups;
    for (int group = 0; group < groups; group++, r++, x += GROUP) {
        float rest[GROUP];
        for (int half = 0; half < 2; half++) {
            floats code = f_load_bytes(r->codes + half * WIDTH);
            f_store(rest + half * WIDTH, f_fnma(code, f_all(r->scales[half]), f_load(x + half * WIDTH)));
        }
        round_channels(rest, r);
    }
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
        round_rest(args, token);
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
