"""The keys of generation_config.json: every one is obeyed, or named at the start, or cannot matter.

transformers passes over a key that it does not know. Here such a key is named like one that is
known and not obeyed: it may be what another program draws tokens by.
"""

from collections.abc import Iterator, Mapping

from thirdeye.weights.formats.fields import Fields

OBEYED = frozenset(
    ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "do_sample",
     "eos_token_id"]
)  # fmt: skip
# What else changes the tokens that are drawn, with the values that change nothing.
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_decoder_ids": ([],),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "length_penalty": (1,),
    "max_length": (20,),  # transformers' own default, which it does not mean
    "max_time": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ([], {}),
    "stop_strings": ([], ""),
    "suppress_tokens": ([],),
    "token_healing": (False,),
    "top_h": (),
    "typical_p": (1,),
    "watermarking_config": ({},),
}
BEAMS = "of beams, which are named when there are several"
GUESSES = "of speculation, which changes no answer"
MEMORY = "of how transformers computes, and keeps keys and values"
OUTPUT = "of what transformers returns beside tokens"
BOOKS = "of bookkeeping"
HARMLESS: Mapping[str, str] = {
    "assistant_confidence_threshold": GUESSES, "assistant_early_exit": GUESSES,
    "assistant_ensemble_weight": GUESSES, "assistant_lookbehind": GUESSES, "is_assistant": GUESSES,
    "max_matching_ngram_size": GUESSES, "num_assistant_tokens": GUESSES,
    "num_assistant_tokens_schedule": GUESSES, "prompt_lookup_num_tokens": GUESSES,
    "speculation_type": GUESSES, "target_lookbehind": GUESSES, "use_mtp": GUESSES,
    "bos_token_id": "the tokenizer's counts", "decoder_start_token_id": "there is no encoder",
    "pad_token_id": "no text is padded",
    "cache_config": MEMORY, "cache_implementation": MEMORY, "compile_config": MEMORY,
    "continuous_batching_config": MEMORY, "disable_compile": MEMORY, "low_memory": MEMORY,
    "max_cache_len": MEMORY, "prefill_chunk_size": MEMORY, "return_legacy_cache": MEMORY,
    "use_cache": MEMORY,
    "early_stopping": BEAMS,
    "output_attentions": OUTPUT, "output_hidden_states": OUTPUT, "output_logits": OUTPUT,
    "output_scores": OUTPUT, "return_dict_in_generate": OUTPUT,
    "remove_invalid_values": "of logits that are no numbers",
    "renormalize_logits": "of reported scores: what is drawn from is normalized",
    "_from_model_config": BOOKS, "transformers_version": BOOKS, "trust_remote_code": BOOKS,
}  # fmt: skip


def not_obeyed(generation: Fields, context: int | None) -> Iterator[str]:
    """Keys that say something and are not obeyed. `context`: of prompt and answer together, which
    a `max_length` of as much does not shorten."""
    for key, value in generation.values.items():
        if value is None or key in OBEYED or key in HARMLESS:
            continue
        is_context = key == "max_length" and context is not None and _at_least(value, context)
        if not is_context and value not in NEUTRAL.get(key, ()):
            yield key


def _at_least(value: object, limit: int) -> bool:
    return type(value) is int and value >= limit
