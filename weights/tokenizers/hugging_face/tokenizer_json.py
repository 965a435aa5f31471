"""Hugging Face's tokenizer.json (with tokenizer_config.json) as a `Vocabulary`.

Byte-level BPE of a known family is tiktoken's; other BPE and Unigram go through a `Pipeline`. Only
settings whose meaning we reproduce exactly are accepted: a tokenizer that is almost right is a
wrong model. Everything else is refused by name.
"""

from collections.abc import Container, Iterable, Mapping

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.added_tokens_json import (
    read_added_tokens,
    tokens_by_purpose,
)
from thirdeye.weights.tokenizers.hugging_face.affixes import read_affixes
from thirdeye.weights.tokenizers.hugging_face.known_families import known_family
from thirdeye.weights.tokenizers.hugging_face.known_keys import check_keys
from thirdeye.weights.tokenizers.hugging_face.pipeline_json import (
    is_byte_level as is_byte_level_json,
)
from thirdeye.weights.tokenizers.hugging_face.pipeline_json import read_pipeline
from thirdeye.weights.tokenizers.sentencepiece.pieces import piece_bytes
from thirdeye.weights.tokenizers.vocabulary import (
    ByteDecoder,
    Vocabulary,
    decode_byte_level,
    merges_of_text,
)

MAX_HOLES = 1 << 16  # ids without a token: an encoder fills them, and one far id would be millions


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
    check_keys(tokenizer, settings)
    model = tokenizer.nested("model") or Fields(tokenizer.path, {})
    _check_model(model)
    vocab = _vocab_ids(model)
    _check_count(tokenizer, vocab, vocab_size)
    added = read_added_tokens(tokenizer, settings, vocab, vocab_size)
    special = {
        token.literal: token.token_id
        for token, is_special in added
        if is_special or token.literal in never_from_text
    }
    ids = {token.literal: token.token_id for token, _ in added}
    bos = _settings_token(settings, "bos_token", ids, bos)
    end = _settings_token(settings, "eos_token", ids, None)
    prefix, suffix = read_affixes(tokenizer, settings, bos, end)
    family = known_family(tokenizer, model)
    texts = _texts(model, vocab, special)
    _check_shared(tokenizer, texts, ids)
    is_byte_level = family is not None or is_byte_level_json(tokenizer)
    tokens, unreachable = _token_bytes(model, texts, is_byte_level)
    num_ids = max([*texts, *ids.values()], default=0) + 1
    if num_ids > vocab_size:
        raise tokenizer.error("model.vocab", f"has the id {num_ids - 1}, the model {vocab_size}.")
    if (holes := num_ids - len({*texts, *ids.values()})) > MAX_HOLES:
        raise tokenizer.error(
            "model.vocab", f"leaves {holes:,} ids without a token, the limit is {MAX_HOLES:,}."
        )
    return Vocabulary(
        tokens=tokens,
        unreachable=unreachable,
        merges=_merges(model, special) if family is not None else (),
        special_tokens=special,
        pre_tokenizer=family or read_pipeline(tokenizer, model, num_ids, special),
        vocab_size=vocab_size,
        bos_token_id=bos,
        eos_token_ids=eos if end is None else eos | {end},
        eos_token_id=end,
        named_tokens=tokens_by_purpose(settings),
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


def _vocab_ids(model: Fields) -> dict[str, int]:
    vocab = model.raw("vocab")
    if model.text("type", "BPE") == "Unigram":
        vocab = _unigram_ids(model, vocab)
    if not isinstance(vocab, dict) or not all(type(token_id) is int for token_id in vocab.values()):
        raise model.error("vocab", "must map tokens to integers.")
    return vocab


def _check_count(tokenizer: Fields, vocab: Mapping[str, int], vocab_size: int) -> None:
    """Before tables of that size are made: what the model has no logits for can only be added
    tokens, which are left out."""
    added = tokenizer.raw("added_tokens", [])
    if len(vocab) > vocab_size + (len(added) if isinstance(added, list) else 0):
        raise tokenizer.error(
            "model.vocab", f"has the id {max(vocab.values())}, the model {vocab_size}."
        )


def _texts(model: Fields, vocab: Mapping[str, int], special: Mapping[str, int]) -> dict[int, str]:
    """id -> token as the file writes it, without the special ones."""
    texts: dict[int, str] = {}
    for literal, token_id in vocab.items():
        if special.get(literal) == token_id:
            continue
        if token_id in texts or token_id < 0:
            raise model.error("vocab", f"the id {token_id} appears twice, or is below 0.")
        texts[token_id] = literal
    return texts


def _check_shared(tokenizer: Fields, texts: Mapping[int, str], added: Mapping[str, int]) -> None:
    """An added token may be one of the vocabulary's, but then it is the same."""
    for literal, token_id in added.items():
        if texts.get(token_id, literal) != literal:
            raise tokenizer.error(
                "added_tokens",
                f"{literal!r:.40} has the id {token_id} of {texts[token_id]!r:.40}.",
            )


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


def _merges(model: Fields, special: Iterable[str]) -> list[tuple[bytes, bytes]]:
    merges = model.raw("merges")
    if not isinstance(merges, list):
        raise model.error("merges", "must be a list.")
    decode = ByteDecoder()
    try:
        pairs = merges_of_text(merges, special)
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
