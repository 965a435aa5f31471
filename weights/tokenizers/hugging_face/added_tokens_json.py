"""The added tokens of tokenizer.json, and those that tokenizer_config.json alone lists."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.added_tokens import AddedToken

FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
ADDED_TOKEN_FLAGS = ("special", *FLAGS)
PURPOSES = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)
logger = logging.getLogger(__name__)


def read_added_tokens(
    tokenizer: Fields, settings: Fields | None, vocab: Mapping[str, int], vocab_size: int
) -> list[tuple[AddedToken, bool]]:
    """Each with whether it is special: text never becomes those that are. `vocab`: the ids of the
    model's own tokens, of which tokenizer_config.json may call some special."""
    return _within(_listed(tokenizer, settings, vocab), tokenizer, vocab_size)


def named_tokens(settings: Fields | None) -> dict[str, dict[str, Any]]:
    """Those that tokenizer_config.json names for a purpose, with their flags: special ones."""
    items: list[Any] = []
    fields = settings or Fields(Path(), {})
    for key in PURPOSES:
        value = fields.raw(key, None)
        items += value if isinstance(value, list) else [value]
    tokens = [item if isinstance(item, dict) else {"content": item} for item in items]
    return {
        token["content"]: {key: token[key] for key in ("content", *FLAGS) if key in token}
        for token in tokens
        if isinstance(token.get("content"), str) and token["content"]
    }


def tokens_by_purpose(settings: Fields | None) -> dict[str, str] | None:
    """The text of each that tokenizer_config.json names for a purpose; None where there is none."""
    if settings is None:
        return None
    found = {key: settings.raw(key, None) for key in PURPOSES}
    texts = {k: v.get("content") if isinstance(v, dict) else v for k, v in found.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _listed(
    tokenizer: Fields, settings: Fields | None, vocab: Mapping[str, int]
) -> list[tuple[AddedToken, bool]]:
    """Some trainers list one in tokenizer_config.json alone; of one that both list, the flags there
    count, as in transformers, and the id of tokenizer.json."""
    added = tokenizer.raw("added_tokens", [])
    if not isinstance(added, list):
        raise tokenizer.error("added_tokens", "must be a list.")
    listed = {item["content"]: item for item in _in_settings(settings)}
    added = [_with_flags(item, listed) for item in added]
    names = [item.get("content") for item in added if isinstance(item, dict)]
    added = [*added, *(item for literal, item in listed.items() if literal not in names)]
    named = named_tokens(settings)
    names = [item.get("content") for item in added if isinstance(item, dict)]
    added += [
        {**flags, "id": vocab[literal]}
        for literal, flags in named.items()
        if literal in vocab and literal not in names
    ]
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
        is_special = (flags.pop("special") or literal in named) and not _is_text(literal)
        if is_special and flags["single_word"]:
            raise tokenizer.error("added_tokens", f"{literal!r:.40} is special and a single word.")
        tokens[literal] = (AddedToken(literal, token_id, **flags), is_special)
    return list(tokens.values())


def _with_flags(item: Any, listed: Mapping[str, Mapping[str, Any]]) -> Any:
    """A token that one of the files calls special is special."""
    literal = item.get("content") if isinstance(item, dict) else None
    if not isinstance(literal, str) or literal not in listed:
        return item
    said = listed[literal]
    flags = {flag: said.get(flag, False) for flag in FLAGS}
    special = said.get("special") is True or item.get("special", False)
    return {**item, **flags, "special": special}


def _is_text(literal: str) -> bool:
    """A sign that somebody made the padding is still a sign: '!' is in many texts."""
    return len(literal) == 1


def _in_settings(settings: Fields | None) -> list[dict[str, Any]]:
    """`added_tokens_decoder` of tokenizer_config.json, in the form of tokenizer.json's list."""
    listed = settings.raw("added_tokens_decoder", {}) if settings is not None else {}
    if settings is None or not isinstance(listed, dict):
        return []
    for key, item in listed.items():
        if not key.isdecimal() or not isinstance(item, dict) or "content" not in item:
            raise settings.error("added_tokens_decoder", f"{key!r:.40} is not a token's id and it.")
    unsaid = {key: {"normalized": not item.get("special", False)} for key, item in listed.items()}
    return [{**unsaid[key], **item, "id": int(key)} for key, item in listed.items()]


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
