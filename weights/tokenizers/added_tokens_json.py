"""The added tokens of tokenizer.json, and those that tokenizer_config.json alone lists."""

import logging
from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.added_tokens import AddedToken

ADDED_TOKEN_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")
logger = logging.getLogger(__name__)


def read_added_tokens(
    tokenizer: Fields, settings: Fields | None, vocab_size: int
) -> list[tuple[AddedToken, bool]]:
    """Each with whether it is special: text never becomes those that are."""
    return _within(_listed(tokenizer, settings), tokenizer, vocab_size)


def _listed(tokenizer: Fields, settings: Fields | None) -> list[tuple[AddedToken, bool]]:
    """Some trainers list one in tokenizer_config.json alone."""
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
