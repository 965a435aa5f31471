"""Tokenizers that are no list of ranks: the `tokenizers` package over the checkpoint's own rules.

Byte fallback, Unigram, several cuts in a row, normalizers: what tiktoken cannot say. The package
runs exactly what the model's makers ran; what it would do beyond that is taken away first. It is
given no special token, and the vocabulary's entries of that name are renamed to what no text holds,
so text never becomes one. What it would drop in silence, or turn into `<unk>`, is an error here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thirdeye.weights.tokenizers.added_tokens import AddedToken

# Behind this stands an entry that text must not reach; a text that holds it is refused.
UNREACHABLE = "\U0010ffff\U0010fffe"
NO_PATH = "the text holds characters for which this model's vocabulary has no token"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of a tokenizer.json that turn text into ids.

    `model` is of type BPE or Unigram. `shrinks`: its normalizer may take bytes away. `num_ids`: one
    more than the largest id of any token. A Unigram's own tokens for single bytes, which the
    package would find in text that spells `<0x0A>`, are taken from it.
    """

    model: Mapping[str, Any]
    normalizer: Mapping[str, Any] | None
    pre_tokenizer: Mapping[str, Any] | None
    num_ids: int
    shrinks: bool = False

    def rules(self) -> bytes:
        """What two equal tokenizers have in common, for a fingerprint."""
        parts = (self.model, self.normalizer, self.pre_tokenizer)
        return json.dumps(parts, sort_keys=True).encode()


class PipelineEncoder:
    """Text to ids, added tokens in it included. Immutable, and safe to share between threads."""

    def __init__(
        self, pipeline: Pipeline, special: Mapping[str, int], text_tokens: Sequence[AddedToken]
    ) -> None:
        """Raises ValueError if the package does not take it."""
        model = _without(pipeline, special.values())
        self._unknown = pipeline.num_ids
        self._ids_of_bytes = _ids_of_bytes(pipeline.model)
        self._forbidden = frozenset(special.values()) | {pipeline.num_ids}
        self._forbidden -= {token.token_id for token in text_tokens}
        self._at_start = _build(model, pipeline, pipeline.pre_tokenizer, text_tokens)
        inside = _never_first(pipeline.pre_tokenizer)
        self._inside = (
            self._at_start
            if inside == pipeline.pre_tokenizer
            else _build(model, pipeline, inside, text_tokens)
        )
        theirs = {self._at_start.token_to_id(token.literal): token for token in text_tokens}
        self._renamed = {i: token.token_id for i, token in theirs.items() if i != token.token_id}

    def merge_rank(self, token_id: int) -> int | None:  # noqa: ARG002
        """Not told by these rules."""
        return None

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:
        """Raises ValueError for text that has no tokens."""
        encoder = self._inside if follows_special else self._at_start
        try:
            encoded = encoder.encode(text, add_special_tokens=False)
        except BaseException as error:
            if not _is_of_the_package(error):
                raise
            raise ValueError(f"{NO_PATH} ({error}).") from error
        ids: list[int] = encoded.ids
        if self._ids_of_bytes and self._unknown in ids:
            ids = self._fall_back(ids, encoded.tokens)
        if not self._forbidden.isdisjoint(ids):
            raise ValueError(f"{NO_PATH}.")
        return [self._renamed.get(i, i) for i in ids] if self._renamed else ids

    def _fall_back(self, ids: Sequence[int], tokens: Sequence[str]) -> list[int]:
        """Characters without a token become their bytes' tokens."""
        found: list[int] = []
        for token_id, text in zip(ids, tokens, strict=True):
            if token_id == self._unknown:
                found += [self._ids_of_bytes[byte] for byte in text.encode()]
            else:
                found.append(token_id)
        return found


def _is_of_the_package(error: BaseException) -> bool:
    """It raises bare exceptions; and panics, which are no `Exception` and cannot be imported."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _build(
    model: Mapping[str, Any],
    pipeline: Pipeline,
    pre_tokenizer: Mapping[str, Any] | None,
    text_tokens: Sequence[AddedToken],
) -> Any:
    import tokenizers  # noqa: PLC0415 (12 MB that most models do without)

    parts: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": pipeline.normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": model,
    }
    try:
        built = tokenizers.Tokenizer.from_str(json.dumps(parts))
    except BaseException as error:
        if not _is_of_the_package(error):
            raise
        raise ValueError(f"the 'tokenizers' package refuses it: {error!s:.200}") from error
    _check_found(built, text_tokens)
    built.add_tokens(
        [
            tokenizers.AddedToken(
                token.literal,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                single_word=token.single_word,
                normalized=token.normalized,
            )
            for token in text_tokens
        ]
    )
    return built


def _check_found(built: Any, text_tokens: Iterable[AddedToken]) -> None:
    """A literal of which the normalizer leaves nothing is found everywhere: the package panics, or
    takes all the memory there is."""
    rules = built.normalizer
    for token in text_tokens:
        if token.normalized and rules is not None and not rules.normalize_str(token.literal):
            raise ValueError(
                f"the added token {token.literal!r:.60} is looked for in normalized text, and the "
                "normalizer leaves nothing of it; say '\"normalized\": false' of it."
            )


def _without(pipeline: Pipeline, special: Iterable[int]) -> dict[str, Any]:
    """The model with its special entries out of reach, every id taken, and one more for unknown
    characters: so the package numbers its added tokens beyond, and drops nothing in silence."""
    if pipeline.model["type"] == "Unigram":
        return _unigram_without(pipeline, set(special))
    hidden = set(special)
    vocab = {text: i for text, i in pipeline.model["vocab"].items() if i not in hidden}
    free = set(range(pipeline.num_ids + 1)) - set(vocab.values())
    vocab |= {f"{UNREACHABLE}{i}": i for i in free}
    return {**pipeline.model, "vocab": vocab, "unk_token": f"{UNREACHABLE}{pipeline.num_ids}"}


def _unigram_without(pipeline: Pipeline, special: set[int]) -> dict[str, Any]:
    hidden = special | set(_ids_of_bytes(pipeline.model))
    entries = [
        [f"{UNREACHABLE}{i}" if i in hidden else text, score]
        for i, (text, score) in enumerate(pipeline.model["vocab"])
    ]
    first = len(entries)
    # A score of 0 leaves the smallest one, which unknown characters are measured by, as it is.
    entries += [[f"{UNREACHABLE}{i}", 0.0] for i in range(first, pipeline.num_ids + 1)]
    return {
        **pipeline.model,
        "vocab": entries,
        "unk_id": pipeline.num_ids,
        "byte_fallback": False,
    }


def _ids_of_bytes(model: Mapping[str, Any]) -> list[int]:
    """By byte, of a Unigram that falls back to them; empty for any other model."""
    if model["type"] != "Unigram" or not model.get("byte_fallback"):
        return []
    ids = {text: i for i, (text, _) in enumerate(model["vocab"])}
    return [ids[f"<0x{byte:02X}>"] for byte in range(256)]


def _never_first(part: Any) -> Any:
    """Behind a special token a text does not start: no space in front of its first word."""
    if isinstance(part, list):
        return [_never_first(item) for item in part]
    if isinstance(part, Mapping):
        changed = {key: _never_first(value) for key, value in part.items()}
        if changed.get("type") == "Metaspace" and changed.get("prepend_scheme") == "first":
            changed["prepend_scheme"] = "never"
        return changed
    return part
