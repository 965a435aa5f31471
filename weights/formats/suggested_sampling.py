"""How a checkpoint's author suggests to draw tokens: generation_config.json, `general.sampling.*`.

What is suggested and cannot be obeyed is listed by name, so that whoever starts the model can say
so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.generation_keys import banned_ids, not_obeyed, stop_strings

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
NEVER = -100.0  # a `logit_bias` that bans a token, as OpenAI's clients know it
MAX_TEMPERATURE = 2.0
MAX_INT = 2**31 - 1
GGUF_PREFIX, GGUF_TOKENIZER = "general.sampling.", "tokenizer.ggml."
GGUF_NAMES = {"temp": "temperature", "penalty_repeat": "repetition_penalty"}
GGUF_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "mirostat": (0,),
    "mirostat_eta": (0.1,),  # like the next two, nothing without the one it belongs to
    "mirostat_tau": (5,),
    "xtc_threshold": (0.1,),
    "xtc_probability": (0,),
    "penalty_last_n": (64, -1),
}


@dataclass(frozen=True, slots=True)
class SuggestedSampling:
    """By the names of requests; None: the files do not say. `not_obeyed`: the other keys that say
    something. A `max_tokens` is that of an answer whose request names none. Tokens that are never
    to be drawn are in `logit_bias`."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: Mapping[int, float] | None = None
    not_obeyed: tuple[str, ...] = ()

    def said(self) -> dict[str, object]:
        names = (*SAMPLED, "max_tokens", "min_tokens", "stop", "logit_bias")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def of_huggingface(
    generation: Fields | None, context: int | None = None, vocab_size: int = MAX_INT
) -> SuggestedSampling:
    """`generation`: generation_config.json, of a model whose `context` has so many tokens. Where it
    says `do_sample: false`, the likeliest token is taken. Raises `ModelFormatError` for a value
    that is none."""
    if generation is None:
        return SuggestedSampling()
    found = _read(
        generation,
        {name: name for name in SAMPLED} | {"max_tokens": "max_new_tokens"},
        tuple(not_obeyed(generation, context)),
        is_greedy=not generation.boolean("do_sample", True),
    )
    key = "min_new_tokens"
    fewest = generation.integer(key, low=0, high=MAX_INT) if key in generation else 0
    return replace(
        found,
        min_tokens=fewest or None,
        stop=stop_strings(generation) or None,
        logit_bias=dict.fromkeys(banned_ids(generation, vocab_size), NEVER) or None,
    )


def of_gguf(metadata: Fields, vocab_size: int = MAX_INT) -> SuggestedSampling:
    """`metadata`: with the prefix `general.sampling.`; tokens never to be drawn stand among the
    tokenizer's keys."""
    keys = {GGUF_NAMES.get(key, key): key for key in ("temp", "top_p", "top_k", "min_p")}
    keys |= {"repetition_penalty": "penalty_repeat"}
    ours = {metadata.prefix + key for key in (*keys.values(), "sequence")}
    others = [
        key.removeprefix(metadata.prefix)
        for key in metadata.values
        if key.startswith(metadata.prefix) and key not in ours
    ]
    says = [key for key in others if _says(metadata, key, GGUF_NEUTRAL.get(key, ()))]
    found = _read(metadata, keys, says)
    name = f"{GGUF_TOKENIZER}suppress_tokens"
    banned: Any = metadata.values.get(name)
    listed = banned.tolist() if hasattr(banned, "tolist") else banned
    tokens = Fields(metadata.path, {name: listed}, GGUF_TOKENIZER)
    return replace(found, logit_bias=dict.fromkeys(banned_ids(tokens, vocab_size), NEVER) or None)


def _read(
    fields: Fields, keys: Mapping[str, str], not_obeyed: Sequence[str], is_greedy: bool = False
) -> SuggestedSampling:
    """`keys`: a request's name of a value -> the file's."""

    def number(name: str, low: float, high: float) -> float | None:
        return _number(fields, keys[name], low, high)

    top_k = fields.raw(keys["top_k"], None)
    if top_k is not None:
        top_k = max(fields.integer(keys["top_k"], low=-1, high=MAX_INT), 0)
    max_tokens = keys.get("max_tokens")
    return SuggestedSampling(
        temperature=0.0 if is_greedy else number("temperature", 0, MAX_TEMPERATURE),
        top_p=number("top_p", 0, 1),
        top_k=top_k,
        min_p=number("min_p", 0, 1),
        repetition_penalty=number("repetition_penalty", 1e-3, 1e3),
        max_tokens=fields.integer(max_tokens, high=MAX_INT)
        if max_tokens is not None and max_tokens in fields
        else None,
        not_obeyed=tuple(sorted(not_obeyed)),
    )


def _number(fields: Fields, key: str, low: float, high: float) -> float | None:
    value = fields.raw(key, None)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:
        raise fields.error(
            key,
            f"must be a number between {low:g} and {high:g}, got {value!r:.40}. "
            "'--generation-config none' leaves it alone.",
        )
    return float(f"{float(value):.7g}")  # GGUF's have 32 bits: 0.6, not 0.6000000238


def _says(fields: Fields, key: str, neutral: tuple[object, ...]) -> bool:
    value = fields.raw(key, None)
    return value is not None and value not in neutral
