/* A layer of experts: who asks whom, rows grouped by expert, their products, and what comes of it.
 *
 * Choosing: the best scores, one after the other, the first of equals; a NaN is nobody's choice as long as
 * there are others. Grouping is a counting sort, so an expert's rows stand in the order of their tokens.
 * Products are the plain layers' own kernels, whose results do not depend on the number of rows: a token's
 * bits are those that the expert would give it alone.
 */
#include "experts.h"
#include "floats.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct route_args {
    float *scores;           /* [num_tokens, num_experts]: logits, and then what comes of them */
    const float *bias;       /* [num_experts]: is added for the choice alone; or NULL */
    int32_t *chosen;         /* [num_tokens, num_chosen], best first */
    float *weights;          /* [num_tokens, num_chosen] */
    int32_t *starts;         /* [num_experts + 1]: where an expert's rows start */
    int32_t *tokens;         /* [num_tokens * num_chosen]: whose a grouped row is */
    int32_t *places;         /* [num_tokens, num_chosen]: where a token's rows are */
    float scale;
    int num_tokens, num_experts, num_chosen, num_groups, num_chosen_groups, best_of_group;
    int is_sigmoid, is_renormalized;
    const float *expert_scales; /* [num_experts]: of the weights, whoever is chosen; or NULL */
};

enum { MAX_GROUPS = 64 };

static float wanted(const struct route_args *args, const float *scores, int expert) {
    float value = scores[expert] + (args->bias ? args->bias[expert] : 0.0f);
    return value > -INFINITY ? value : -INFINITY;
}

/* The best of [first, stop) behind `last`, which is (value, expert) of the one before, or -1. */
static int next_best(const struct route_args *args, const float *scores, int first, int stop,
                     float last_value, int last, float *found) {
    int best = -1;
    for (int e = first; e < stop; e++) {
        float value = wanted(args, scores, e);
        int is_behind = last < 0 || value < last_value || (value == last_value && e > last);
        if (is_behind && (best < 0 || value > *found)) best = e, *found = value;
    }
    return best;
}

static void score(const struct route_args *args, float *scores) {
    int count = args->num_experts;
    float largest = -INFINITY, sum = 0.0f;
    for (int e = 0; e < count; e++) largest = scores[e] > largest ? scores[e] : largest;
    for (int e = 0; e < count; e += WIDTH) {
        floats x = f_load_first(scores + e, count - e), one = f_all(1.0f);
        floats y = args->is_sigmoid ? f_div(one, f_add(exp16(f_sub(f_zero(), x)), one))
                                    : exp16(f_sub(x, f_all(largest)));
        f_store_first(scores + e, count - e, y);
    }
    if (args->is_sigmoid) return;
    for (int e = 0; e < count; e++) sum += scores[e];
    for (int e = 0; e < count; e++) scores[e] /= sum;
}

/* Which groups may be chosen from. */
static void choose_groups(const struct route_args *args, const float *scores, char *is_in) {
    int size = args->num_experts / args->num_groups;
    float worth[MAX_GROUPS];
    for (int g = 0; g < args->num_groups; g++) {
        float sum = 0.0f, value = 0.0f;
        for (int i = 0, last = -1; i < args->best_of_group; i++) {
            last = next_best(args, scores, g * size, (g + 1) * size, value, last, &value);
            sum += value;
        }
        worth[g] = sum, is_in[g] = 0;
    }
    for (int i = 0; i < args->num_chosen_groups; i++) {
        int best = -1;
        for (int g = 0; g < args->num_groups; g++)
            if (!is_in[g] && (best < 0 || worth[g] > worth[best])) best = g;
        is_in[best] = 1;
    }
}

static void choose(const struct route_args *args, int token) {
    float *scores = args->scores + (size_t)token * args->num_experts;
    int32_t *chosen = args->chosen + (size_t)token * args->num_chosen;
    float *weights = args->weights + (size_t)token * args->num_chosen, value = 0.0f, sum = 0.0f;
    char is_in[MAX_GROUPS] = {1};
    int groups = args->num_groups, size = args->num_experts / groups;
    score(args, scores);
    if (groups > 1) choose_groups(args, scores, is_in);
    for (int i = 0, last = -1; i < args->num_chosen; i++) {
        int best = -1;
        float found = 0.0f, at = 0.0f;
        for (int g = 0; g < groups; g++) {
            if (!is_in[g]) continue;
            int own = next_best(args, scores, g * size, (g + 1) * size, value, last, &at);
            if (own >= 0 && (best < 0 || at > found)) best = own, found = at;
        }
        last = best, value = found;
        chosen[i] = best, weights[i] = scores[best];
        sum += scores[best];
    }
    for (int i = 0; i < args->num_chosen; i++) {
        float weight = args->is_renormalized ? weights[i] / sum : weights[i];
        if (args->expert_scales) weight *= args->expert_scales[chosen[i]];
        weights[i] = weight * args->scale;
    }
}

static void group(const struct route_args *args) {
    int count = args->num_tokens * args->num_chosen, at = 0;
    int32_t *starts = args->starts;
    memset(starts, 0, (size_t)(args->num_experts + 1) * sizeof *starts);
    for (int i = 0; i < count; i++) starts[args->chosen[i]]++;
    for (int e = 0; e <= args->num_experts; e++) {
        int own = starts[e];
        starts[e] = at, at += own;
    }
    for (int i = 0; i < count; i++) {
        int place = starts[args->chosen[i]]++;
        args->places[i] = place, args->tokens[place] = i / args->num_chosen;
    }
    memmove(starts + 1, starts, (size_t)args->num_experts * sizeof *starts);
    starts[0] = 0;
}

operation route, gather_rows, experts_linear, mix_experts;

void route(const void *data, struct team *team) {
    const struct route_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;) choose(args, token);
    barrier(team);
    if (team->thread == 0) group(args);
}

struct gather_rows_args {
    const float *x;       /* [., size] */
    float *y;             /* [num_tokens * num_chosen, size], grouped */
    const int32_t *places; /* [num_tokens, num_chosen] */
    const float *weights;  /* [num_tokens, num_chosen]: what a copy is multiplied by; or NULL */
    int num_tokens, num_chosen, size;
};

void gather_rows(const void *data, struct team *team) {
    const struct gather_rows_args *args = data;
    size_t size = (size_t)args->size;
    for (int item; (item = next_item(team)) < args->num_tokens * args->num_chosen;) {
        const float *x = args->x + (size_t)(item / args->num_chosen) * size;
        float *y = args->y + args->places[item] * size;
        memcpy(y, x, size * sizeof(float));
        if (!args->weights) continue;
        for (size_t i = 0; i < size; i++) y[i] *= args->weights[item];
    }
}

struct expert {
    const void *layer; /* the arguments of its operation, without rows */
    int kind;          /* of PRODUCTS */
};

struct experts_linear_args {
    const struct expert *experts;
    const int32_t *starts; /* [num_experts + 1] */
    const float *x;        /* [rows, in_features], grouped */
    float *y;              /* [rows, out_features] */
    void *scratch;
    int num_experts, in_features, out_features;
};

static expert_product *const PRODUCTS[] = {float_linear_of, int8_linear_of, stored_linear_of};

void experts_linear(const void *data, struct team *team) {
    const struct experts_linear_args *args = data;
    for (int e = 0, is_first = 1; e < args->num_experts; e++) {
        size_t start = (size_t)args->starts[e];
        struct expert_rows rows = {args->x + start * args->in_features,
                                   args->y + start * args->out_features, args->scratch,
                                   args->starts[e + 1] - args->starts[e]};
        if (!rows.num_tokens) continue;
        if (!is_first) barrier(team); /* the rows before are still being read */
        is_first = 0;
        PRODUCTS[args->experts[e].kind](args->experts[e].layer, &rows, team);
    }
}

struct mix_experts_args {
    const float *said;     /* [num_tokens * num_chosen, size], grouped */
    const int32_t *places; /* [num_tokens, num_chosen] */
    const float *weights;  /* [num_tokens, num_chosen]; or NULL: 1 */
    const float *beside;   /* [num_tokens, size]: what all tokens are told; or NULL */
    const float *gates;    /* [num_tokens]: by the sigmoid of which; or NULL */
    float *out;            /* [num_tokens, size] */
    int num_tokens, num_chosen, size;
};

void mix_experts(const void *data, struct team *team) {
    const struct mix_experts_args *args = data;
    size_t size = (size_t)args->size;
    for (int token; (token = next_item(team)) < args->num_tokens;) {
        const int32_t *places = args->places + (size_t)token * args->num_chosen;
        const float *weights = args->weights ? args->weights + (size_t)token * args->num_chosen : NULL;
        const float *beside = args->beside ? args->beside + token * size : NULL;
        float *out = args->out + token * size;
        floats gate = f_all(args->gates ? args->gates[token] : 0.0f), one = f_all(1.0f);
        gate = f_div(one, f_add(exp16(f_sub(f_zero(), gate)), one));
        for (int c = 0; c < args->size; c += WIDTH) {
            int count = args->size - c;
            floats sum = f_mul(f_load_first(args->said + places[0] * size + c, count),
                               f_all(weights ? weights[0] : 1.0f));
            for (int i = 1; i < args->num_chosen; i++)
                sum = f_add(sum, f_mul(f_load_first(args->said + places[i] * size + c, count),
                                       f_all(weights ? weights[i] : 1.0f)));
            if (beside) {
                floats more = f_load_first(beside + c, count);
                sum = f_add(sum, args->gates ? f_mul(more, gate) : more);
            }
            f_store_first(out + c, count, sum);
        }
    }
}
