"""The tokenizer part of GGUF metadata (`tokenizer.ggml.*`) as a `Vocabulary`."""

from collections.abc import Container
from enum import IntEnum

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile
from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.pretokenize import BY_GGUF_NAME, SUPPORTED
from thirdeye.weights.tokenizers.vocabulary import ByteDecoder, Vocabulary, split_merge

# End of sequence, of turn, of message: each ends a generation.
EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


class TokenType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


SPECIAL = (TokenType.UNKNOWN, TokenType.CONTROL)
ADDED = (*SPECIAL, TokenType.USER_DEFINED)


def read_vocabulary(
    file: GGUFFile, vocab_size: int, never_from_text: Container[str] = ()
) -> Vocabulary:
    """`never_from_text`: added tokens that text shall not become, special or not.

    Raises `ModelFormatError` for anything that is not byte-level BPE of a known family.
    """
    fields = Fields(file.path, file.metadata, "tokenizer.ggml.")
    if (model := fields.text("model")) != "gpt2":
        raise fields.error("model", f"'{model:.40}' is not supported; supported is {SUPPORTED}.")
    family = fields.text("pre")
    if family not in BY_GGUF_NAME:
        raise fields.error("pre", f"'{family:.40}' is not supported; supported is {SUPPORTED}.")
    pre_tokenizer = BY_GGUF_NAME[family]
    literals = _strings(fields, "tokens")
    if len(literals) > vocab_size:
        raise fields.error("tokens", f"has {len(literals)} tokens, the model has {vocab_size}.")
    types = _token_types(fields, len(literals))
    added = _added_tokens(fields, literals, types)
    special = {
        literal: token_id
        for literal, token_id in added.items()
        if types[token_id] in SPECIAL or literal in never_from_text
    }
    eos = {fields.optional_integer(key, high=vocab_size - 1) for key in EOS_KEYS} - {None}
    return Vocabulary(
        tokens=_ordinary_tokens(fields, literals, types),
        merges=_merges(fields),
        special_tokens=special,
        pre_tokenizer=pre_tokenizer,
        vocab_size=vocab_size,
        bos_token_id=fields.optional_integer("bos_token_id", high=vocab_size - 1),
        eos_token_ids=frozenset(id_ for id_ in eos if id_ is not None),
        add_bos=fields.boolean("add_bos_token", pre_tokenizer.add_bos),
        text_tokens=[AddedToken(*item) for item in added.items() if item[0] not in special],
    )


def _strings(fields: Fields, key: str) -> list[str]:
    value = fields.raw(key)
    if isinstance(value, list) and all(type(item) is str for item in value):
        return value
    raise fields.error(key, "must be an array of strings.")


def _token_types(fields: Fields, count: int) -> list[int]:
    types = fields.raw("token_type", None)
    if types is None:
        return [TokenType.NORMAL] * count
    if isinstance(types, list) or not hasattr(types, "tolist") or len(types) != count:
        raise fields.error("token_type", f"must be an array of {count} integers.")
    known = set(TokenType)
    numbers: list[int] = types.tolist()
    if unknown := set(numbers) - known:
        raise fields.error("token_type", f"type {min(unknown)} is not supported in byte-level BPE.")
    return numbers


def _ordinary_tokens(fields: Fields, literals: list[str], types: list[int]) -> dict[int, bytes]:
    decode = ByteDecoder()
    try:
        return {
            token_id: decode(literal)
            for token_id, (literal, kind) in enumerate(zip(literals, types, strict=True))
            if kind == TokenType.NORMAL
        }
    except ValueError as error:
        raise fields.error("tokens", str(error)) from error


def _added_tokens(fields: Fields, literals: list[str], types: list[int]) -> dict[str, int]:
    """Special ones, and words of the user's: the latter are found in text, as llama.cpp does."""
    added: dict[str, int] = {}
    for token_id, (literal, kind) in enumerate(zip(literals, types, strict=True)):
        if kind in ADDED:
            if literal in added:
                raise fields.error("tokens", f"the added token {literal!r:.60} appears twice.")
            added[literal] = token_id
    return added


def _merges(fields: Fields) -> list[tuple[bytes, bytes]]:
    decode = ByteDecoder()
    try:
        pairs = [split_merge(merge) for merge in _strings(fields, "merges")]
        return [(decode(left), decode(right)) for left, right in pairs]
    except ModelFormatError:
        raise
    except ValueError as error:
        raise fields.error("merges", str(error)) from error
