"""SentencePiece's vocabularies: from tokenizer.model and from GGUF, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from transformers.convert_slow_tokenizer import generate_merges

from tests.draws import draws
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_gguf_vocabulary import metadata, open_tokenizer
from tests.weights.tokenizers.test_pipeline import BOTH, encode_or_refuse
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_model import read_sentencepiece
from thirdeye.weights.tokenizers.sentencepiece.tokenizer_model import read_vocabulary
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

UNKNOWN, CONTROL, BYTE = 2, 3, 6


def pieces(family: str) -> list[tuple[str, float, int]]:
    """The trained vocabulary as SentencePiece lists it: text, score, type."""
    described = json.loads(pipelines.train(family))
    vocab = described["model"]["vocab"]
    if family == "t5":
        return [(text, score, kind(text)) for text, score in vocab]
    texts = sorted(vocab, key=vocab.__getitem__)
    return [(text, -float(i), kind(text)) for i, text in enumerate(texts)]


def kind(text: str) -> int:
    if text in pipelines.SPECIAL:
        return UNKNOWN if text == "<unk>" else CONTROL
    return BYTE if text in pipelines.BYTES else 1


def expected(family: str) -> tokenizers.Tokenizer:
    """The package over the merges that transformers makes of the scores."""
    described = json.loads(pipelines.train(family))
    if family != "t5":
        scores = {text: score for text, score, type_ in pieces(family) if type_ in (1, BYTE)}
        vocab = described["model"]["vocab"]
        merges = generate_merges(vocab, scores, skip_tokens=pipelines.SPECIAL)
        described["model"]["merges"] = merges
    return tokenizers.Tokenizer.from_str(json.dumps(described))


def write(path: Path, family: str) -> Path:
    file = path / "tokenizer.model"
    model_type = 1 if family == "t5" else 2
    file.write_bytes(pipelines.sentencepiece(pieces(family), model_type=model_type))
    return file


def from_model(path: Path, **settings: object) -> Tokenizer:
    fields = Fields(Path("tokenizer_config.json"), settings)
    return Tokenizer(read_vocabulary(path, fields, 900, None, frozenset()))


def from_gguf(path: Path, family: str, **change: Any) -> Tokenizer:
    listed = pieces(family)
    values = {
        "model": "t5" if family == "t5" else "llama",
        "tokens": [text for text, _, _ in listed],
        "scores": [score for _, score, _ in listed],
        "token_type": [type_ for _, _, type_ in listed],
        "add_space_prefix": family != "gemma",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return open_tokenizer(path / "model.gguf", values | change, rows=900)


@pytest.fixture(scope="module", params=["llama", "mistral", "t5"])
def from_model_pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    file = write(tmp_path_factory.mktemp("spm"), request.param)
    return from_model(file, legacy=request.param == "llama"), expected(request.param)


@pytest.fixture(scope="module", params=["llama", "gemma", "t5"])
def from_gguf_pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    folder = tmp_path_factory.mktemp("gguf")
    return from_gguf(folder, request.param), expected(request.param)


@draws(60, 300)
@given(text=BOTH)
def test_tokenizer_model_equals_transformers(
    from_model_pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str
) -> None:
    check(*from_model_pair, text)


@draws(60, 300)
@given(text=BOTH)
def test_gguf_equals_transformers(
    from_gguf_pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str
) -> None:
    check(*from_gguf_pair, text)


def check(ours: Tokenizer, theirs: tokenizers.Tokenizer, text: str) -> None:
    """In a chat too; what Unigram has no token for is refused."""
    for wrapped in (text, f"<s>{text}[/INST]{text}"):
        ids = theirs.encode(wrapped, add_special_tokens=False).ids
        if ours.special_tokens["<unk>"] not in ids:
            assert ours.encode_with_special(wrapped) == ids
        else:
            assert encode_or_refuse(ours, text) is None


def test_ends_and_special_tokens(tmp_path: Path) -> None:
    ours = from_model(write(tmp_path, "llama"), bos_token="<s>", eos_token={"content": "</s>"})
    assert (ours.bos_token_id, ours.eos_token_ids, ours.prefix_ids) == (1, {2}, (1,))
    assert ours.special_tokens == {text: i for i, text in enumerate(pipelines.SPECIAL)}
    assert from_model(write(tmp_path, "llama"), add_bos_token=False).prefix_ids == ()
    ending = from_model(write(tmp_path, "llama"), add_eos_token=True, eos_token="</s>")
    assert ending.suffix_ids == (2,)


def test_a_gguf_without_pre_takes_the_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = metadata("gpt2")
    del values["pre"]
    tokenizer = open_tokenizer(tmp_path / "model.gguf", values)
    assert "'tokenizer.ggml.pre' is missing" in caplog.text
    named = open_tokenizer(tmp_path / "named.gguf", values | {"pre": "default"})
    assert tokenizer.encode("x = 12345 + 'y'!") == named.encode("x = 12345 + 'y'!")


def test_tokens_beside_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"adds the id 5000.*needs its tokenizer\.json"):
        from_model(write(tmp_path, "llama"), added_tokens_decoder={"5000": {"content": "<x>"}})


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", [None, "<|turn|>"])
def test_pieces_that_the_settings_list_are_added_tokens(
    tmp_path: Path, special: bool, name: str | None
) -> None:
    """By another name too: a placeholder that somebody gave a use."""
    listed = [text for text, _, _ in pieces("mistral")]
    token_id = next(i for i, text in enumerate(listed) if len(text) > 3 and text.isalpha())
    literal = name or listed[token_id]
    flags = {"lstrip": False, "rstrip": True, "single_word": False, "normalized": False}
    item = {"content": literal, "special": special, **flags}
    settings = {"added_tokens_decoder": {str(token_id): item}}
    ours = from_model(write(tmp_path, "mistral"), **settings)
    described = json.loads(expected("mistral").to_str())
    model = described["model"]
    vocab = {literal if i == token_id else text: i for text, i in model["vocab"].items()}
    model["vocab"], cut_out = vocab, {listed[token_id], literal}
    model["merges"] = [m for m in model["merges"] if cut_out.isdisjoint((*m, "".join(m)))]
    described["added_tokens"].append({"id": token_id, **item})
    theirs = tokenizers.Tokenizer.from_str(json.dumps(described))
    for text in (f"a {literal}  b{literal}", f"{literal}\nHi", "the name of it"):
        found = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode_with_special(text) == found, text
    assert (literal in ours.special_tokens) == special
    assert (token_id in ours.encode(literal)) != special


def test_every_truncation_is_refused_or_smaller(tmp_path: Path) -> None:
    """No cut gives a traceback, and none gives the whole vocabulary."""
    raw = write(tmp_path, "llama").read_bytes()
    file = tmp_path / "cut.model"
    whole = len(pieces("llama"))
    for size in [*range(300), len(raw) // 2, len(raw) - 9]:
        file.write_bytes(raw[:size])
        try:
            assert len(read_sentencepiece(file).pieces) < whole
        except ModelFormatError as error:
            assert "is no SentencePiece model" in str(error)  # noqa: PT017 (either is right)


HOSTILE = {
    "a length beyond the file": (b"\x0a\xff\xff\xff\xff\x0f", "bytes are announced"),
    "a number without end": (b"\x0a" + b"\xff" * 11, "more than 64 bits"),
    "a group": (b"\x0b", "unknown kind 3"),
    "nothing": (b"", "no pieces"),
    "a number for a piece": (b"\x08\x01", "a number stands"),
    "a piece of no text": (b"\x0a\x00", "a piece has 0 bytes"),
    "no UTF-8": (b"\x0a\x03\x0a\x01\xff", "utf-8"),
    "a score that is none": (pipelines.sentencepiece([("a", float("nan"), 1)]), "score nan"),
    "an unknown type": (pipelines.sentencepiece([("a", 0.0, 9)]), "unknown type 9"),
    "a word model": (pipelines.sentencepiece([("a", 0.0, 1)], model_type=3), "type 3"),
    "some bytes": (pipelines.sentencepiece([("<0x00>", 0.0, BYTE)]), "1 tokens for single"),
    "one text twice": (pipelines.sentencepiece([("a", 0.0, 1), ("a", 0.0, 1)]), "same text"),
}


@pytest.mark.parametrize(("raw", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(raw)
    with pytest.raises((ModelFormatError, ValueError), match=problem):
        from_model(file)


def test_gguf_scores_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"scores': must be an array of"):
        from_gguf(tmp_path, "llama", scores=[1.0])
