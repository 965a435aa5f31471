"""Hugging Face's tokenizer.json (with tokenizer_config.json) as a `Vocabulary`.

Byte-level BPE of a known family is tiktoken's; other BPE and Unigram go through a `Pipeline`. Only
settings whose meaning we reproduce exactly are accepted: a tokenizer that is almost right is a
wrong model. Everything else is refused by name.
"""

import logging
from collections.abc import Container, Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.affixes import read_affixes
from thirdeye.weights.tokenizers.pipeline_json import is_byte_level as is_byte_level_json
from thirdeye.weights.tokenizers.pipeline_json import read_pipeline
from thirdeye.weights.tokenizers.pretokenize import (
    BAILING,
    GPT2,
    GPT4O,
    LLAMA3,
    LLAMA3_REGEX,
    MINICPM5,
    QWEN2,
    QWEN35,
    SEED_CODER,
    SMOLLM,
    TEKKEN,
    PreTokenizer,
)
from thirdeye.weights.tokenizers.sentencepiece.pieces import piece_bytes
from thirdeye.weights.tokenizers.vocabulary import (
    ByteDecoder,
    Vocabulary,
    decode_byte_level,
    split_merge,
)

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The expressions of the Split steps, as checkpoints spell them.
SPLITS = {
    (family.regex,): family
    for family in (LLAMA3, QWEN2, QWEN35, GPT4O, TEKKEN, SEED_CODER, BAILING)
} | {
    (GPT2_SPLIT,): GPT2,
    (r"\p{N}{1,3}", LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}+")): MINICPM5,
}
MAX_HOLES = 1 << 16  # ids without a token: an encoder fills them, and one far id would be millions
logger = logging.getLogger(__name__)
ADDED_TOKEN_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")


def read_vocabulary(
    tokenizer: Fields,
    settings: Fields | None,
    vocab_size: int,
    bos: int | None,
    eos: frozenset[int],
    never_from_text: Container[str] = (),
) -> Vocabulary:
    """`settings` is tokenizer_config.json; `bos` and `eos` are what the model's config says of
    them. `never_from_text`: added tokens that text shall not become, special or not."""
    model = tokenizer.nested("model") or Fields(tokenizer.path, {})
    _check_model(model)
    added = _within(_added_tokens(tokenizer, settings), tokenizer, vocab_size)
    special = {
        token.literal: token.token_id
        for token, is_special in added
        if is_special or token.literal in never_from_text
    }
    ids = {token.literal: token.token_id for token, _ in added}
    bos = _settings_token(settings, "bos_token", ids, bos)
    end = _settings_token(settings, "eos_token", ids, None)
    prefix, suffix = read_affixes(
        _steps(tokenizer, "post_processor", "processors"), settings, bos, end
    )
    family = _pre_tokenizer(tokenizer, model)
    texts = _texts(model, ids)
    is_byte_level = family is not None or is_byte_level_json(tokenizer)
    tokens, unreachable = _token_bytes(model, texts, is_byte_level)
    num_ids = max([*texts, *ids.values()], default=0) + 1
    if num_ids > vocab_size:
        raise tokenizer.error("model.vocab", f"has the id {num_ids - 1}, the model {vocab_size}.")
    if (holes := num_ids - len(texts) - len(ids)) > MAX_HOLES:
        raise tokenizer.error(
            "model.vocab", f"leaves {holes:,} ids without a token, the limit is {MAX_HOLES:,}."
        )
    return Vocabulary(
        tokens=tokens,
        unreachable=unreachable,
        merges=_merges(model) if family is not None else (),
        special_tokens=special,
        pre_tokenizer=family or read_pipeline(tokenizer, model, num_ids),
        vocab_size=vocab_size,
        bos_token_id=bos,
        eos_token_ids=eos if end is None else eos | {end},
        eos_token_id=end,
        prefix_ids=prefix,
        suffix_ids=suffix,
        text_tokens=[token for token, _ in added if token.literal not in special],
        strips={
            token.literal: (token.lstrip, token.rstrip)
            for token, _ in added
            if token.literal in special and (token.lstrip or token.rstrip)
        },
    )


def _check_model(model: Fields) -> None:
    if (kind := model.text("type", "BPE")) not in ("BPE", "Unigram"):
        raise model.error("type", f"'{kind:.40}' is not supported; supported are BPE and Unigram.")
    model.refuse("dropout", 0, 0.0)
    model.refuse("continuing_subword_prefix", "")
    model.refuse("end_of_word_suffix", "")


def _pre_tokenizer(tokenizer: Fields, model: Fields) -> PreTokenizer | None:
    """A family that tiktoken says exactly, recognized by its steps; None for any other."""
    if model.text("type", "BPE") != "BPE" or model.boolean("byte_fallback", False):
        return None
    found = _family(_steps(tokenizer, "pre_tokenizer", "pretokenizers"))
    normalizers = [step.get("type") for step in _steps(tokenizer, "normalizer", "normalizers")]
    if found is None or normalizers not in ([], ["NFC"]):
        return None
    ignore_merges = model.boolean("ignore_merges", False)
    return PreTokenizer(
        found.name, found.regex, nfc=normalizers == ["NFC"], ignore_merges=ignore_merges
    )


def _steps(tokenizer: Fields, key: str, list_key: str) -> list[dict[str, Any]]:
    """A pipeline part as the list of its steps: none, one, or those of a `Sequence`."""
    part = tokenizer.raw(key, None)
    steps = (
        part.get(list_key) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    )
    if not isinstance(steps, list) or not all(isinstance(step, dict | None) for step in steps):
        raise tokenizer.error(key, "must be an object, or a Sequence of objects.")
    return [step for step in steps if step is not None]


def _family(steps: list[dict[str, Any]]) -> PreTokenizer | None:
    *first, last = steps or [{}]
    is_byte_level = last.get("type") == "ByteLevel" and last.get("add_prefix_space", True) is False
    if is_byte_level and last.get("use_regex", True) is True:
        if not first:
            return GPT2
        if first == [{"type": "Digits", "individual_digits": True}]:
            return SMOLLM
    if is_byte_level and last.get("use_regex") is False:
        regexes = tuple(map(_split_regex, first))
        if regexes in SPLITS:
            return SPLITS[regexes]
    return None


def _split_regex(step: dict[str, Any]) -> str:
    """The expression of a Split step that cuts out each match as a piece; "" if it is anything
    else."""
    isolates = (
        step.get("type") == "Split"
        and step.get("behavior") == "Isolated"
        and not step.get("invert")
    )
    pattern = step.get("pattern")
    regex = pattern.get("Regex") if isolates and isinstance(pattern, dict) else None
    return regex if isinstance(regex, str) else ""


def _added_tokens(tokenizer: Fields, settings: Fields | None) -> list[tuple[AddedToken, bool]]:
    """Each with whether it is special: text never becomes those that are. Some trainers list one in
    tokenizer_config.json alone."""
    added = tokenizer.raw("added_tokens", [])
    if not isinstance(added, list):
        raise tokenizer.error("added_tokens", "must be a list.")
    names = [item.get("content") for item in added if isinstance(item, dict)]
    added = [*added, *(item for item in _in_settings(settings) if item["content"] not in names)]
    tokens: dict[str, tuple[AddedToken, bool]] = {}
    for item in added:
        literal, token_id = (
            (item.get("content"), item.get("id")) if isinstance(item, dict) else (None, None)
        )
        if type(literal) is not str or type(token_id) is not int or literal in tokens:
            raise tokenizer.error("added_tokens", f"{item!r:.80} is not a token of its own.")
        flags = {name: item.get(name, False) for name in ADDED_TOKEN_FLAGS}
        if not all(type(flag) is bool for flag in flags.values()):
            raise tokenizer.error("added_tokens", f"{item!r:.80} has a flag that is no boolean.")
        is_special = flags.pop("special")
        if is_special and flags["single_word"]:
            raise tokenizer.error("added_tokens", f"{literal!r:.40} is special and a single word.")
        tokens[literal] = (AddedToken(literal, token_id, **flags), is_special)
    return list(tokens.values())


def _in_settings(settings: Fields | None) -> list[dict[str, Any]]:
    """`added_tokens_decoder` of tokenizer_config.json, in the form of tokenizer.json's list."""
    listed = settings.raw("added_tokens_decoder", {}) if settings is not None else {}
    if settings is None or not isinstance(listed, dict):
        return []
    for key, item in listed.items():
        if not key.isdecimal() or not isinstance(item, dict) or "content" not in item:
            raise settings.error("added_tokens_decoder", f"{key!r:.40} is not a token's id and it.")
    return [{**item, "id": int(key)} for key, item in listed.items()]


def _within(
    added: list[tuple[AddedToken, bool]], tokenizer: Fields, vocab_size: int
) -> list[tuple[AddedToken, bool]]:
    """Without those that the model has no logits for: padding that a trainer added, mostly."""
    beyond = [token for token, _ in added if token.token_id >= vocab_size]
    if beyond:
        logger.warning(
            "%s: left out are %d added tokens that the model, of %d, does not have: %s",
            tokenizer.path,
            len(beyond),
            vocab_size,
            ", ".join(repr(token.literal)[:40] for token in beyond[:4]),
        )
    return [item for item in added if item[0].token_id < vocab_size]


def _texts(model: Fields, added: Mapping[str, int]) -> dict[int, str]:
    """id -> token as the file writes it, without the added ones."""
    vocab = model.raw("vocab")
    if model.text("type", "BPE") == "Unigram":
        vocab = _unigram_ids(model, vocab)
    if not isinstance(vocab, dict) or not all(type(token_id) is int for token_id in vocab.values()):
        raise model.error("vocab", "must map tokens to integers.")
    texts: dict[int, str] = {}
    for literal, token_id in vocab.items():
        if added.get(literal) == token_id:
            continue
        if token_id in texts or token_id < 0:
            raise model.error("vocab", f"the id {token_id} appears twice, or is below 0.")
        texts[token_id] = literal
    return texts


def _unigram_ids(model: Fields, vocab: object) -> dict[str, int]:
    if not isinstance(vocab, list) or not vocab or not all(map(_is_scored, vocab)):
        raise model.error("vocab", "must be a list of tokens and their scores.")
    ids = {text: i for i, (text, _) in enumerate(vocab)}
    if len(ids) != len(vocab):
        raise model.error("vocab", "two tokens have the same text.")
    return ids


def _is_scored(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and type(entry[1]) in (int, float)
    )


def _token_bytes(
    model: Fields, texts: Mapping[int, str], is_byte_level: bool
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Tokens, and those that no text becomes, as they are not written in characters for bytes."""
    if not is_byte_level:
        has_bytes = model.boolean("byte_fallback", False)
        return {i: piece_bytes(text, has_bytes) for i, text in texts.items()}, {}
    return decode_byte_level(texts)


def _merges(model: Fields) -> list[tuple[bytes, bytes]]:
    merges = model.raw("merges")
    if not isinstance(merges, list):
        raise model.error("merges", "must be a list.")
    decode = ByteDecoder()
    try:
        pairs = [split_merge(merge) for merge in merges]
        return [(decode(left), decode(right)) for left, right in pairs]
    except ValueError as error:
        raise model.error("merges", str(error)) from error


def _settings_token(
    settings: Fields | None, key: str, special: Mapping[str, int], default: int | None
) -> int | None:
    """A token that tokenizer_config.json names: a string, or an object with its `content`."""
    value = settings.raw(key, None) if settings is not None else None
    literal = value.get("content") if isinstance(value, dict) else value
    return special.get(literal, default) if isinstance(literal, str) else default
