"""Added tokens that merges use too: equal to the `tokenizers` package reading the same file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from tests.draws import draws
from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_gguf_vocabulary import metadata, open_tokenizer
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

from tests.weights.tokenizers.test_tokenizer import build  # isort: skip

TRAINED: dict[str, Callable[[], str]] = {
    "gpt2": lambda: vocabularies.train("gpt2").to_str(),
    "llama3": lambda: vocabularies.train("llama3", ignore_merges=True).to_str(),
    "llama": lambda: pipelines.train("llama"),
    "gemma": lambda: pipelines.train("gemma"),
    "falcon": lambda: pipelines.train("falcon"),
}
ADDED = {
    "special": AddedToken("", special=True, normalized=False),
    "text": AddedToken("", normalized=False),
    "a word": AddedToken("", single_word=True, normalized=False),
}


@pytest.fixture(scope="module", params=[(family, kind) for family in TRAINED for kind in ADDED])
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Any], str]:
    """A tokenizer whose token of two letters or more, that another is merged of, is added."""
    family, kind = request.param
    described = json.loads(TRAINED[family]())
    literal = used_in_merges(described)[0]
    theirs = tokenizers.Tokenizer.from_str(json.dumps(described))
    added = ADDED[kind]
    added.content = literal
    (theirs.add_special_tokens if added.special else theirs.add_tokens)([added])
    return json.loads(theirs.to_str()), literal


@pytest.fixture(scope="module")
def both(case: tuple[dict[str, Any], str]) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """Ours, and the package's."""
    return opened(case[0]), tokenizers.Tokenizer.from_str(json.dumps(case[0]))


def used_in_merges(described: dict[str, Any]) -> list[str]:
    merges = [tuple(merge) for merge in described["model"]["merges"]]
    results = {"".join(merge) for merge in merges}
    sides = [side for merge in merges for side in merge]
    return [side for side in sides if side in results and side.isascii() and side.isalpha()]


def opened(described: dict[str, Any]) -> Tokenizer:
    return build(described, vocab_size=pipelines.VOCAB_SIZE)


def test_equals_the_package(
    case: tuple[dict[str, Any], str], both: tuple[Tokenizer, tokenizers.Tokenizer]
) -> None:
    (_, literal), (ours, theirs) = case, both
    texts = [f"{a}{literal}{b}" for a in ("", "x", " ", "def ") for b in ("", "s", " it", ")\n")]
    texts += [path.read_text() for path in sorted(Path(__file__).parents[1].glob("test_[s-t]*.py"))]
    for text in texts:
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode_with_special(text) == expected
        assert ours.special_tokens.get(literal) not in ours.encode(text)


@draws(25, 100)
@given(data=st.data())
def test_any_text(
    case: tuple[dict[str, Any], str],
    both: tuple[Tokenizer, tokenizers.Tokenizer],
    data: st.DataObject,
) -> None:
    (_, literal), (ours, theirs) = case, both
    parts = [literal, *literal, *(literal[:n] for n in range(len(literal))), " ", "s", "1", "\n"]
    text = "".join(data.draw(st.lists(st.sampled_from(parts), max_size=12)))
    assert ours.encode_with_special(text) == theirs.encode(text, add_special_tokens=False).ids


def test_what_is_not_written_as_text_stays(
    case: tuple[dict[str, Any], str], both: tuple[Tokenizer, tokenizers.Tokenizer]
) -> None:
    """The bytes of an answer's token are the vocabulary's, and it is found in text."""
    (_, literal), (ours, _) = case, both
    assert ours.token_bytes(ours.added_tokens[literal]) == literal.encode()


@pytest.mark.parametrize("kind", [3, 4])
def test_in_gguf(tmp_path: Path, kind: int) -> None:
    """Control tokens, and the user's own."""
    values = metadata("gpt2")
    theirs = json.loads(vocabularies.train("gpt2").to_str())
    literal = used_in_merges(theirs)[0]
    values["token_type"][values["tokens"].index(literal)] = kind
    ours = open_tokenizer(tmp_path / "model.gguf", values)
    token_id = values["tokens"].index(literal)
    text = f"x{literal}s"
    assert (token_id in ours.encode(text)) == (kind == 4)
    assert token_id in ours.encode_with_special(text)
    plain = vocabularies.train("gpt2").encode("1 + 1").ids
    assert ours.encode("1 + 1") == plain


def test_the_end_of_a_text_ends_an_answer(tmp_path: Path) -> None:
    """Qwen's GGUF files name `<|im_end|>` alone, its generation_config.json `<|endoftext|>` too."""
    values = metadata("qwen2")
    del values["eot_token_id"]
    assert open_tokenizer(tmp_path / "a.gguf", values).eos_token_ids == {0, 2}
    values["token_type"][0] = 1  # an ordinary token of this name ends nothing
    assert open_tokenizer(tmp_path / "b.gguf", values).eos_token_ids == {2}
