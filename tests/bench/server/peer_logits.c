/* What llama.cpp or ik_llama.cpp say about each token of a text, for `peer_logits.py`.
 *
 *     peer_logits MODEL TOKENS WINDOW VOCAB THREADS OUT [BACKENDS]
 *
 * TOKENS is int32s. Each window of so many is read from an empty cache, at once; OUT gets its logits,
 * float32 [tokens, VOCAB]. BACKENDS is the folder of libraries that are loaded at run time, where a
 * build has such (-DBACKENDS).
 */
#include <stdio.h>
#include <stdlib.h>

#include "llama.h"
#ifdef BACKENDS
#include "ggml-backend.h"
#endif

static void die(const char *what) {
    fprintf(stderr, "peer_logits: %s\n", what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc < 7) die("MODEL TOKENS WINDOW VOCAB THREADS OUT [BACKENDS]");
    int window = atoi(argv[3]), vocab = atoi(argv[4]), threads = atoi(argv[5]);
    FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[6], "wb");
    if (!in || !out) die("a file cannot be opened");
    static llama_token tokens[1 << 20];
    int n = (int)fread(tokens, sizeof *tokens, 1 << 20, in);

#ifdef BACKENDS
    if (argc > 7) ggml_backend_load_all_from_path(argv[7]);
#endif
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) die("the model cannot be loaded");
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = (uint32_t)window;
    params.n_threads = params.n_threads_batch = threads;
    for (int start = 0; start < n - 1; start += window) {
        int size = n - start < window ? n - start : window;
        struct llama_context *context = llama_init_from_model(model, params);
        struct llama_batch batch = llama_batch_init(size, 0, 1);
        if (!context) die("no context");
        batch.n_tokens = size;
        for (int i = 0; i < size; i++) {
            batch.token[i] = tokens[start + i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch)) die("a step failed");
        for (int i = 0; i < size; i++)
            if (fwrite(llama_get_logits_ith(context, i), sizeof(float), vocab, out) != (size_t)vocab)
                die("the logits cannot be written");
        llama_batch_free(batch);
        llama_free(context);
    }
    return fclose(out) ? 1 : 0;
}
