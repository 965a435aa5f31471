"""Settings that our readers need not read: those of transformers' configuration classes that no
logit depends on, each with the reason."""

TRAINING = "of training: nothing is dropped or initialized when a model is served"
TOKENS = "of tokenization and generation: read there, by another name or not at all"
OUTPUT = "of what transformers returns beside logits"
BOOKS = "of bookkeeping"
CLASSIFIER = "of another head than a language model's"
CUT = "of how transformers cuts a prompt, whose sums are the same"
PRECISION = "of rounding: we take softmax in 32 bits whatever it says"

HARMLESS = {
    "attention_dropout": TRAINING, "attn_pdrop": TRAINING, "embd_pdrop": TRAINING,
    "resid_pdrop": TRAINING, "hidden_dropout": TRAINING, "residual_dropout": TRAINING,
    "resid_dropout": TRAINING, "embed_dropout": TRAINING,
    "embedding_dropout": TRAINING, "dropout": TRAINING, "layerdrop": TRAINING,
    "initializer_range": TRAINING, "init_std": TRAINING,
    "bos_token_id": TOKENS, "eos_token_id": TOKENS, "pad_token_id": TOKENS, "eod_token_id": TOKENS,
    "output_attentions": OUTPUT, "output_hidden_states": OUTPUT, "return_dict": OUTPUT,
    "output_router_logits": OUTPUT, "router_aux_loss_coef": TRAINING,
    "router_jitter_noise": TRAINING,
    "use_cache": OUTPUT, "chunk_size_feed_forward": "of memory: an MLP row by row is the same MLP",
    "_name_or_path": BOOKS, "architectures": BOOKS, "transformers_version": BOOKS,
    "model_type": "how the reader was found",
    "dtype": "of how it is stored, which the tensors say themselves",
    "id2label": CLASSIFIER, "label2id": CLASSIFIER, "problem_type": CLASSIFIER,
    "classifier_dropout": CLASSIFIER, "summary_activation": CLASSIFIER,
    "summary_first_dropout": CLASSIFIER, "summary_proj_to_labels": CLASSIFIER,
    "summary_type": CLASSIFIER, "summary_use_proj": CLASSIFIER,
    "is_encoder_decoder": "these classes have no encoder, whatever it says",
    "is_decoder": "these classes are decoders, whatever it says",
    "pretraining_tp": "of how a product is cut into pieces, whose sum is the same",
    "reorder_and_upcast_attn": PRECISION, "attention_softmax_in_fp32": PRECISION,
    "scale_attention_softmax_in_fp32": PRECISION,
}  # fmt: skip

HARMLESS_IN = {  # one class
    "gemma3_text": {"_sliding_window_pattern": "transformers' own note, which it does not read"},
    "phi3": {"rope_parameters.original_max_position_embeddings": "the one outside counts"},
    "ministral3": {
        "rope_parameters.max_position_embeddings": "transformers does not read it either",
        "rope_parameters.type": "`rope_type` says it",
    },
    "youtu": {"embedding_initializer_range": TRAINING},
    "mistral4": {
        "rope_parameters.max_position_embeddings": "transformers does not read it either",
        "rope_parameters.type": "`rope_type` says it",
    },
    "hunyuan_v1_dense": {"rope_parameters.factor": "`alpha` is the whole scaling"},
    "codegen": {"n_ctx": "transformers reads it and makes nothing of it"},
    "gpt_bigcode": {"num_key_value_heads": "`multi_query` says it"},
    "mpt": {
        "attn_config.attn_impl": "of who computes",
        "emb_pdrop": TRAINING,
        "embedding_fraction": TRAINING,
        "init_device": TRAINING,
        "learned_pos_emb": "beside ALiBi there are none, whatever it says",
    },
    "qwen2_moe": dict.fromkeys(
        ("sliding_window", "max_window_layers"), "of `use_sliding_window`, which is refused"
    ),
    "falcon_h1": {
        "mamba_chunk_size": CUT,
        "num_logits_to_keep": OUTPUT,
        "layer_types": "all layers are alike, whatever it says",
    },
    "granitemoehybrid": {"mamba_chunk_size": CUT},
    "nemotron_h": {
        "chunk_size": CUT,
        "num_logits_to_keep": OUTPUT,
        "expand": "the heads' number and size say it",
        "time_step_max": TRAINING,
        "time_step_floor": TRAINING,
        "time_step_min": TRAINING + "; transformers cuts a prompt's steps there, an answer's not",
        "rescale_prenorm_residual": TRAINING,
        "mamba_ssm_cache_dtype": "of rounding: we keep states in 32 bits whatever it says",
        "use_mamba_kernels": "of who computes",
        "moe_shared_expert_overlap": "of what is computed at the same time",
        "n_shared_experts": "transformers has one whatever it says, as wide as its own setting",
        "num_nextn_predict_layers": "of layers that guess more tokens, which change no answer",
        "mtp_layers_block_type": "of layers that guess more tokens, which change no answer",
    },
    "smollm3": {"sliding_window": "of `use_sliding_window`, which is refused"},
}


def harmless(model_type: str) -> set[str]:
    return {*HARMLESS, *HARMLESS_IN.get(model_type, ())}
