"""SentencePiece's pieces as a `Pipeline`: from `tokenizer.model` or from GGUF's arrays.

Merges are made of scores as transformers' converter makes them: every way to put a piece together
of two others, in the order of the pieces' scores.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thirdeye.weights.tokenizers.pipeline import Pipeline

SPACE = "\u2581"
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
REMOVE_EXTRA_SPACES = [
    {"type": "Replace", "pattern": {"Regex": expression}, "content": content}
    for expression, content in ((r"\A +| +\z", ""), (" +", " "))
]
REPLACE_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def piece_bytes(text: str, is_byte: bool) -> bytes:
    """What a piece says; `is_byte`: it stands for one byte, as `<0x0A>`."""
    if is_byte and (found := BYTE_PIECE.fullmatch(text)):
        return bytes([int(found[1], 16)])
    return text.replace(SPACE, " ").encode()


def spells_a_byte(merge: Sequence[str], byte_fallback: bool) -> bool:
    """Whether text that spells `<0x0A>` would become that byte."""
    return (
        byte_fallback
        and merge[-1].endswith(">")
        and BYTE_PIECE.fullmatch("".join(merge)) is not None
    )


def bpe_pipeline(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    prefix: str,
    byte_fallback: bool,
    num_ids: int,
    removes_extra_spaces: bool = False,
) -> Pipeline:
    """`vocab`: what text may become, pieces for bytes included. `prefix`: "always" puts a space in
    front of every stretch of text between special tokens, "first" in front of the text's first,
    "never" nowhere. `removes_extra_spaces`: of several spaces one stays, at the ends none."""
    model = {
        "type": "BPE",
        "vocab": dict(vocab),
        "merges": [list(merge) for merge in merges if not spells_a_byte(merge, byte_fallback)],
        "byte_fallback": byte_fallback,
        "fuse_unk": True,
    }
    normalizer, pre_tokenizer = space_rules(prefix)
    if removes_extra_spaces:
        steps = [*REMOVE_EXTRA_SPACES, normalizer]
        normalizer = {"type": "Sequence", "normalizers": steps}
    return Pipeline(model, normalizer, pre_tokenizer, num_ids=num_ids, shrinks=removes_extra_spaces)


def space_rules(prefix: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Normalizer and pre-tokenizer."""
    if prefix == "always":
        prepend = {"type": "Prepend", "prepend": SPACE}
        return {"type": "Sequence", "normalizers": [prepend, REPLACE_SPACES]}, None
    if prefix == "first":
        metaspace = {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": "first",
            "split": False,
        }
        return {"type": "Sequence", "normalizers": []}, metaspace
    return REPLACE_SPACES, None


def unigram_pipeline(
    entries: Sequence[tuple[str, float]],
    *,
    charsmap: bytes,
    byte_fallback: bool,
    removes_extra_spaces: bool,
    prefix: str,
) -> Pipeline:
    """`entries`: pieces and scores, by id."""
    normalizers: list[dict[str, Any]] = []
    if charsmap:
        encoded = base64.b64encode(charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if removes_extra_spaces:
        normalizers += [
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE},
        ]
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": prefix,
        "split": True,
    }
    model = {
        "type": "Unigram",
        "vocab": [list(entry) for entry in entries],
        "byte_fallback": byte_fallback,
    }
    return Pipeline(
        model,
        {"type": "Sequence", "normalizers": normalizers},
        metaspace,
        num_ids=len(entries),
        shrinks=bool(normalizers),
    )


def merges_of_scores(ids: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Best score first; of one piece's, and of equal scores, in transformers' order."""
    found: list[tuple[float, str, str]] = []
    for text, i in ids.items():
        pairs = sorted(_pairs(text, ids), key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(scores[i], left, right) for left, right in pairs]
    found.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in found]


def _pairs(text: str, ids: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    for cut in range(1, len(text)):
        if text[:cut] in ids and text[cut:] in ids:
            yield text[:cut], text[cut:]
