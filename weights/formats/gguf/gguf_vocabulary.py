"""The tokenizer part of GGUF metadata (`tokenizer.ggml.*`) as a `Vocabulary`."""

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.metadata_keys import TOKENIZER_HARMLESS, Noted, refuse_unread
from thirdeye.weights.formats.gguf.reader import GGUFFile
from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.chains import CHAINS, chain_pipeline
from thirdeye.weights.tokenizers.pipeline import Pipeline
from thirdeye.weights.tokenizers.pretokenize import BY_GGUF_NAME, SUPPORTED, PreTokenizer
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_model import (
    ModelType,
    Piece,
    PieceType,
)
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_vocabulary import (
    SPECIAL,
    Ends,
    SpaceRules,
    piece_vocabulary,
)
from thirdeye.weights.tokenizers.vocabulary import (
    ByteDecoder,
    Vocabulary,
    decode_byte_level,
    merges_of_text,
)

logger = logging.getLogger(__name__)

# End of sequence, of turn, of message: each ends a generation.
EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# So do these, which llama.cpp too knows by their names: ends of a text, which a converter leaves
# out where a turn's end is the first, and of a message that calls a tool, which it has no key for
# (Llama 3.1's, gpt-oss's, Gemma 4's). A template shows neither.
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>",
        "<|eom_id|>", "<|call|>", "<|return|>", "<|tool_response>")  # fmt: skip

ADDED = (*SPECIAL, PieceType.USER_DEFINED)  # "token_type" numbers them as SentencePiece does
PIECE_MODELS = {"llama": ModelType.BPE, "t5": ModelType.UNIGRAM, "gemma4": ModelType.BPE}
HAVE_MERGES = ("gemma4",)  # and scores that say nothing
SWALLOW_NOTHING = ("<unk>", "<s>", "<|endoftext|>")


def read_vocabulary(
    file: GGUFFile,
    vocab_size: int,
    never_from_text: Container[str] = (),
    *,
    swallow_space: bool = False,
) -> Vocabulary:
    """`never_from_text`: added tokens that text shall not become, special or not. `swallow_space`:
    those of a vocabulary of pieces take the white space behind them.

    Raises `ModelFormatError` for a kind of tokenizer that is not known.
    """
    noted = Noted(file.metadata)
    fields = Fields(file.path, noted, "tokenizer.ggml.")
    model = fields.text("model")
    literals = _strings(fields, "tokens")
    if len(literals) > vocab_size:
        raise fields.error("tokens", f"has {len(literals)} tokens, the model has {vocab_size}.")
    if model in PIECE_MODELS:
        found = _pieces(fields, literals, model, vocab_size, never_from_text)
        found = _swallowing(found) if swallow_space else found
    elif model == "gpt2":
        found = _byte_level(fields, literals, vocab_size, never_from_text)
    else:
        known = ", ".join(sorted(PIECE_MODELS))
        raise fields.error("model", f"'{model:.40}' is not supported; supported are gpt2, {known}.")
    refuse_unread(fields, noted, TOKENIZER_HARMLESS)
    return _ending(found)


def _ending(vocabulary: Vocabulary) -> Vocabulary:
    text = {token.literal: token.token_id for token in vocabulary.text_tokens}
    added = {**vocabulary.special_tokens, **text}
    ends = {added[literal] for literal in ENDS if literal in added}
    return replace(vocabulary, eos_token_ids=vocabulary.eos_token_ids | ends)


def _swallowing(vocabulary: Vocabulary) -> Vocabulary:
    literals = vocabulary.special_tokens.keys() - set(SWALLOW_NOTHING)
    return replace(
        vocabulary,
        strips=dict.fromkeys(sorted(literals), (False, True)),
        text_tokens=[replace(token, rstrip=True) for token in vocabulary.text_tokens],
    )


def _byte_level(
    fields: Fields, literals: list[str], vocab_size: int, never_from_text: Container[str]
) -> Vocabulary:
    types = _token_types(fields, len(literals))
    added = _added_tokens(fields, literals, types)
    special = {
        literal: token_id
        for literal, token_id in added.items()
        if types[token_id] in SPECIAL or literal in never_from_text
    }
    normal = {i: text for i, text in enumerate(literals) if types[i] == PieceType.NORMAL}
    rules = _rules(fields, normal, added, len(literals))
    tokens, unreachable = decode_byte_level(normal)
    ends = _ends(fields, vocab_size, isinstance(rules, PreTokenizer) and rules.add_bos)
    return Vocabulary(
        tokens=tokens,
        unreachable=unreachable,
        merges=_merges(fields, added, {normal[i]: text for i, text in tokens.items()}),
        special_tokens=special,
        pre_tokenizer=rules,
        vocab_size=vocab_size,
        bos_token_id=ends.bos,
        eos_token_ids=ends.eos,
        eos_token_id=ends.eos_token_id,
        prefix_ids=ends.prefix_ids,
        suffix_ids=ends.suffix_ids,
        text_tokens=[AddedToken(*item) for item in added.items() if item[0] not in special],
    )


def _rules(
    fields: Fields, texts: dict[int, str], added: Iterable[str], num_ids: int
) -> PreTokenizer | Pipeline:
    if (name := fields.optional_text("pre")) is None:
        logger.warning(
            "%s does not say how it cuts text ('tokenizer.ggml.pre' is missing): llama.cpp's "
            "default is used, and answers may be worse. A newer conversion of the model says it.",
            fields.path.name,
        )
        name = "default"
    if name in BY_GGUF_NAME:
        return BY_GGUF_NAME[name]
    if name not in CHAINS:
        raise fields.error(
            "pre",
            f"'{name:.40}' is not supported; supported is {SUPPORTED}, "
            f"{', '.join(sorted(CHAINS))}.",
        )
    merges = _pairs(fields, added)
    return chain_pipeline(name, {text: i for i, text in texts.items()}, merges, num_ids)


def _ends(fields: Fields, vocab_size: int, add_bos: bool, add_eos: bool = False) -> Ends:
    """`add_bos`, `add_eos`: what such a model does unless its file says otherwise."""
    ids = [fields.optional_integer(key, high=vocab_size - 1) for key in EOS_KEYS]
    return Ends(
        bos=fields.optional_integer("bos_token_id", high=vocab_size - 1),
        eos=frozenset(id_ for id_ in ids if id_ is not None),
        add_bos=fields.boolean("add_bos_token", add_bos),
        add_eos=fields.boolean("add_eos_token", add_eos),
        eos_token_id=ids[0],
    )


def _pieces(
    fields: Fields,
    literals: list[str],
    model: str,
    vocab_size: int,
    never_from_text: Container[str],
) -> Vocabulary:
    """SentencePiece's vocabulary, or one like it.

    As llama.cpp does, a space goes in front of every stretch of text between special tokens, unless
    the file says otherwise.
    """
    model_type, merges = PIECE_MODELS[model], None
    if model in HAVE_MERGES:
        merges = _pairs(fields)
    types = _token_types(fields, len(literals))
    scores = fields.raw("scores")
    if not hasattr(scores, "tolist") or len(scores) != len(literals):
        raise fields.error("scores", f"must be an array of {len(literals)} numbers.")
    charsmap = fields.raw("precompiled_charsmap", None)
    if charsmap is not None and not hasattr(charsmap, "tobytes"):
        raise fields.error("precompiled_charsmap", "must be an array of bytes.")
    rules = SpaceRules(
        prefix="always" if fields.boolean("add_space_prefix", True) else "never",
        removes_extra=fields.boolean("remove_extra_whitespaces", False),
        charsmap=b"" if charsmap is None else bytes(charsmap.tobytes()),
    )
    pieces = [Piece(*item) for item in zip(literals, scores.tolist(), types, strict=True)]
    is_unigram = model_type == ModelType.UNIGRAM
    ends = _ends(fields, vocab_size, add_bos=not is_unigram, add_eos=is_unigram)
    try:
        return piece_vocabulary(
            pieces, model_type, rules, ends, vocab_size, never_from_text, merges
        )
    except ModelFormatError:
        raise
    except ValueError as error:
        raise fields.error("tokens", str(error)) from error


def _strings(fields: Fields, key: str) -> list[str]:
    value = fields.raw(key)
    if isinstance(value, list) and all(type(item) is str for item in value):
        return value
    raise fields.error(key, "must be an array of strings.")


def _token_types(fields: Fields, count: int) -> list[int]:
    types = fields.raw("token_type", None)
    if types is None:
        return [PieceType.NORMAL] * count
    if isinstance(types, list) or not hasattr(types, "tolist") or len(types) != count:
        raise fields.error("token_type", f"must be an array of {count} integers.")
    known = set(PieceType)
    numbers: list[int] = types.tolist()
    if unknown := set(numbers) - known:
        raise fields.error("token_type", f"type {min(unknown)} is not known.")
    return numbers


def _added_tokens(fields: Fields, literals: list[str], types: list[int]) -> dict[str, int]:
    """Special ones, and words of the user's: the latter are found in text, as llama.cpp does."""
    added: dict[str, int] = {}
    for token_id, (literal, kind) in enumerate(zip(literals, types, strict=True)):
        if kind in ADDED:
            if literal in added:
                raise fields.error("tokens", f"the added token {literal!r:.60} appears twice.")
            added[literal] = token_id
    return added


def _pairs(fields: Fields, added: Iterable[str] = ()) -> list[tuple[str, str]]:
    merges = _strings(fields, "merges")
    try:
        return merges_of_text(merges, added)
    except ValueError as error:
        raise fields.error("merges", str(error)) from error


def _merges(
    fields: Fields, added: Iterable[str], known: Mapping[str, bytes]
) -> list[tuple[bytes, bytes]]:
    """`known`: tokens that are decoded already, as nearly all are that are merged."""
    decode = ByteDecoder()
    try:
        return [
            (known.get(left) or decode(left), known.get(right) or decode(right))
            for left, right in _pairs(fields, added)
        ]
    except ValueError as error:
        raise fields.error("merges", str(error)) from error
