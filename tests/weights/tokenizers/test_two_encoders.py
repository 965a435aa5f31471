"""The two encoders held to each other, and what each falls back to: where ranks cannot say what the
merges say, where text spells a byte's name, where a file removes spaces."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from tests.draws import also_at_night, count, draws
from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines, strings
from tests.weights.tokenizers.test_tokenizer import build
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.pipeline import PipelineEncoder
from thirdeye.weights.tokenizers.sentencepiece.tokenizer_model import read_vocabulary
from thirdeye.weights.tokenizers.tiktoken_encoder import TiktokenEncoder
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

NUM_TEXTS = count(100, 1000)
NORMAL, BYTE = 1, 6


def encoded(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def spelled(tokenizer: Tokenizer, text: str) -> bytes:
    return b"".join(map(tokenizer.token_bytes, tokenizer.encode(text)))


@also_at_night
@pytest.mark.parametrize("family", vocabularies.FAMILIES)
def test_both_encoders_agree(family: str) -> None:
    described = vocabularies.as_json(vocabularies.train(family))
    described["added_tokens"] = [
        token for token in described["added_tokens"] if token["content"] == "<|endoftext|>"
    ]
    ours, theirs = build(described), tokenizers.Tokenizer.from_str(json.dumps(described))
    assert isinstance(ours._encoder, TiktokenEncoder)
    for text in islice(strings.texts(1), NUM_TEXTS):
        assert ours.encode(text) == encoded(theirs, text), repr(text)


def unranked(family: str) -> dict[str, Any]:
    """Two ways to one token, the second of them later than a merge of another token: no order of
    tokens says that."""
    described = vocabularies.as_json(vocabularies.train(family))
    model = described["model"]
    vocab, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    made = {left + right: (left, right) for left, right in merges}
    other = next(
        (text[:k], text[k:])
        for text in made
        for k in range(1, len(text))
        if {text[:k], text[k:]} <= vocab.keys() and made[text] != (text[:k], text[k:])
    )
    model["merges"] = [list(merge) for merge in [*merges, other]]
    described["added_tokens"] = []
    return described


@also_at_night
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "llama3"])
def test_merges_that_are_no_ranks_go_to_the_second_encoder(family: str) -> None:
    described = unranked(family)
    ours, theirs = build(described), tokenizers.Tokenizer.from_str(json.dumps(described))
    assert isinstance(ours._encoder, PipelineEncoder)
    for text in islice(strings.texts(2), NUM_TEXTS):
        assert ours.encode(text) == encoded(theirs, text), repr(text)


PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=8)


@draws(50, 1000)
@given(
    pairs=PAIRS,
    whole=st.lists(st.text("abc", min_size=2, max_size=4), max_size=2),
    ignore_merges=st.booleans(),
    text=st.text("abc ", max_size=12),
)
def test_merges_that_nobody_trained(
    pairs: list[tuple[int, int]], whole: list[str], ignore_merges: bool, text: str
) -> None:
    """Lists that were extended by hand have tokens that do not come out of their own text, and
    tokens that no merge gives: tiktoken would merge whatever is a token together."""
    described = vocabularies.as_json(vocabularies.train("gpt2"))
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = ["a", "b", "c", "Ġ"], []
    for i, j in pairs:
        merge = tokens[i % len(tokens)], tokens[j % len(tokens)]
        if "".join(merge) not in tokens:
            tokens.append("".join(merge))
            merges.append(list(merge))
    ids = dict.fromkeys([*characters, *tokens, *whole])
    vocab = {token: i for i, token in enumerate(ids)}
    described["model"] |= {"vocab": vocab, "merges": merges, "ignore_merges": ignore_merges}
    described["added_tokens"] = []
    ours, theirs = build(described), tokenizers.Tokenizer.from_str(json.dumps(described))
    assert ours.encode(text) == encoded(theirs, text)


# --- bytes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unigram() -> dict[str, Any]:
    """A Unigram whose characters without a token become bytes."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(pipelines.SPACE, "always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(
        ["the name of a byte is <0x0A>, 0123456789 ABCDEF x"] * 3, trainer
    )
    described: dict[str, Any] = json.loads(tokenizer.to_str())
    vocab = described["model"]["vocab"]
    vocab += [[text, -9.0] for text in pipelines.BYTES]
    described["model"]["byte_fallback"] = True
    return described


def test_a_unigram_falls_back_to_bytes_as_the_package_does(unigram: dict[str, Any]) -> None:
    ours = build(unigram, vocab_size=600)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(unigram | {"added_tokens": []}))
    compared = 0
    for text in islice(strings.texts(3), NUM_TEXTS):
        if "<0x" not in text:
            assert ours.encode(text) == encoded(theirs, text), repr(text)
            compared += 1
    assert compared > NUM_TEXTS // 2


@pytest.mark.parametrize("text", ["<0x0A>", "a <0x0A>b", "<<0x0A>>", "🙂<0x0A>🙂", "<0xF0>"])
def test_text_that_spells_a_byte_stays_text(unigram: dict[str, Any], text: str) -> None:
    """In SentencePiece pieces for bytes are never found in text."""
    ours = build(unigram, vocab_size=600)
    assert spelled(ours, text) == f" {text}".encode()


@pytest.mark.parametrize("model_type", [1, 2])
def test_nor_do_merges_make_a_byte(tmp_path: Path, model_type: int) -> None:
    """Though there are the pieces to put one together of."""
    parts = ["<", "0", "x", "A", ">", "<0", "<0x", "<0x0", "A>", pipelines.SPACE]
    pieces = [("<unk>", 0.0, 2)] + [(text, -1.0 - i, NORMAL) for i, text in enumerate(parts)]
    pieces += [(text, 0.0, BYTE) for text in pipelines.BYTES]
    ours = from_pieces(tmp_path, pieces, model_type=model_type)
    assert spelled(ours, "<0x0A>").strip() == b"<0x0A>"
    assert spelled(ours, "é").strip() == "é".encode()


def from_pieces(
    path: Path, pieces: list[tuple[str, float, int]], model_type: int = 2, normalizer: bytes = b""
) -> Tokenizer:
    file = path / "tokenizer.model"
    file.write_bytes(pipelines.sentencepiece(pieces, model_type=model_type, normalizer=normalizer))
    settings = Fields(Path("tokenizer_config.json"), {})
    return Tokenizer(read_vocabulary(file, settings, len(pieces), None, frozenset()))


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a", "a"), ("a  b", "a b"), ("  a   b  ", "a b"), ("   ", ""), ("a\n\n b", "a\n\n b")],
)
def test_spaces_that_a_file_removes(tmp_path: Path, text: str, kept: str) -> None:
    """`remove_extra_whitespaces` of a BPE: of several spaces one stays, at the ends none."""
    pieces = [("<unk>", 0.0, 2), (pipelines.SPACE, -1.0, NORMAL), ("a", -2.0, NORMAL)]
    pieces += [(text, 0.0, BYTE) for text in pipelines.BYTES]
    removing = from_pieces(tmp_path, pieces, normalizer=b"\x18\x00\x20\x01")
    assert spelled(removing, text).decode() == kept
    keeping = from_pieces(tmp_path, pieces, normalizer=b"\x18\x00\x20\x00")
    assert spelled(keeping, text).decode() == text


def test_special_tokens_marked_as_normalized_are_found_as_they_stand() -> None:
    """Old Llama files mark them so; the package then looks for `▁</s>`, and never finds it."""
    plain = json.loads(pipelines.train("llama"))
    marked = json.loads(pipelines.train("llama"))
    for token in marked["added_tokens"]:
        token["normalized"] = True
    text = "<s> [INST] Hi [/INST] there</s>"
    expected = build(plain, vocab_size=900).encode_with_special(text)
    found = build(marked, vocab_size=900).encode_with_special(text)
    assert found == expected
    assert (found[0], found[-1]) == (1, 2)
