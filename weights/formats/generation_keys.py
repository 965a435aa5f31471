"""The keys of generation_config.json: every one is obeyed, or named at the start, or cannot matter.

transformers passes over a key that it does not know. Here such a key is named like one that is
known and not obeyed: it may be what another program draws tokens by.
"""

from collections.abc import Iterator, Mapping

from thirdeye.weights.formats.fields import Fields

OBEYED = frozenset(
    ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "do_sample",
     "eos_token_id", "min_new_tokens", "stop_strings", "suppress_tokens"]
)  # fmt: skip
MAX_STOPS, MAX_STOP_CHARS, MAX_BANNED = 16, 256, 1024  # as many as a request may name
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
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ([], {}),
    "token_healing": (False,),
    "top_h": (),
    "typical_p": (1,),
    "watermarking_config": ({},),
}
WORDS = "bad_words_ids"  # obeyed where each is one token
LEAVE = " '--generation-config none' leaves it alone."
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
        is_banned = key == WORDS and _single_ids(value) is not None
        if not is_context and not is_banned and value not in NEUTRAL.get(key, ()):
            yield key


def stop_strings(generation: Fields) -> tuple[str, ...]:
    """Texts that end an answer. Raises `ModelFormatError`."""
    key = "stop_strings"
    value = generation.raw(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise generation.error(key, f"must be a string or a list of strings.{LEAVE}")
    kept = tuple(filter(None, texts))
    if len(kept) > MAX_STOPS or any(len(text) > MAX_STOP_CHARS for text in kept):
        limit = f"{MAX_STOPS} strings of {MAX_STOP_CHARS} characters"
        raise generation.error(key, f"must be at most {limit}, got {len(kept)}.{LEAVE}")
    return kept


def banned_ids(generation: Fields, vocab_size: int) -> list[int]:
    """Tokens that are never to be drawn. Raises `ModelFormatError`. An id that no token has is
    none, as transformers takes it; an end of `bad_words_ids` stays one, as there."""
    key = "suppress_tokens"
    value = generation.raw(key, [])
    if not isinstance(value, list) or not all(type(token_id) is int for token_id in value):
        raise generation.error(key, f"must be a list of token ids.{LEAVE}")
    ends = generation.raw("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    words = [i for i in _single_ids(generation.raw(WORDS, [])) or [] if i not in ends]
    found = sorted({i for i in (*value, *words) if 0 <= i < vocab_size})
    if len(found) > MAX_BANNED:
        raise generation.error(key, f"must be at most {MAX_BANNED}, got {len(found)}.{LEAVE}")
    return found


def _single_ids(words: object) -> list[int] | None:
    """Of words that are a token each; None if any is longer."""
    if not isinstance(words, list) or not all(isinstance(word, list) for word in words):
        return None
    ids = [word[0] for word in words if len(word) == 1 and type(word[0]) is int]
    return ids if len(ids) == len(words) else None


def _at_least(value: object, limit: int) -> bool:
    return type(value) is int and value >= limit
