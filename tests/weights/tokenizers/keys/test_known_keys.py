"""Every part that the `tokenizers` package has, with every option changed: ours is equal to it, or
refuses by name. So for every key of the files around."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_tokenizer import build
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.tokenizers.hugging_face.known_keys import MODELS, PARTS, TOP
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

TEXTS = ["Hello  the World's 123\n\n x=12", " été e\u0301 你好 ﬁ 👩\u200d💻 ", "!?- a_b", ""]
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {  # for classes that want some, or several forms
    "Replace": [("a", "b"), (Regex("[ab]"), "")], "Prepend": [("▁",), ("x",)],
    "Precompiled": [], "Sequence": [], "CharDelimiterSplit": [("a",)], "FixedLength": [(3,)],
    "Split": [(" ", how) for how in ("isolated", "removed", "merged_with_previous")],
    "Punctuation": [(how,) for how in ("isolated", "removed", "merged_with_next")],
    "Metaspace": [("▁", how) for how in ("always", "first", "never")] + [("_", "always")],
    "BertProcessing": [(("</s>", 2), ("<s>", 1))], "RobertaProcessing": [(("</s>", 2), ("<s>", 1))],
    "TemplateProcessing": [("<s> $A", None, [("<s>", 1)]), ("$A", None, []),
                           ("<s>:0 $A:0 </s>:0", None, [("<s>", 1), ("</s>", 2)])],
}  # fmt: skip
NO_PARTS = ("Normalizer", "PreTokenizer", "Decoder", "PostProcessor", "DecodeStream")
UNDECODED = ("Ġ", "Ċ", "▁", "<0x")  # what a decoder that lacks a part leaves of tokens: no text
MODULES = {"normalizer": normalizers, "pre_tokenizer": pre_tokenizers, "decoder": decoders,
           "post_processor": processors}  # fmt: skip


def forms(module: Any) -> Iterator[Any]:
    """Each class of it: as it comes, with each boolean the other way, and as above."""
    for name in dir(module):
        kind = getattr(module, name)
        if not isinstance(kind, type) or name in NO_PARTS:
            continue
        for arguments in ARGUMENTS.get(name, [()]):
            try:
                yield kind(*arguments)
            except TypeError:
                continue


def described(part: Any, key: str) -> dict[str, Any]:
    """A part alone as the file has it."""
    empty = tokenizers.Tokenizer(models.BPE())
    setattr(empty, key, part)
    found: dict[str, Any] = json.loads(empty.to_str())[key]
    return found


def variants(key: str) -> list[dict[str, Any]]:
    found = [described(part, key) for part in forms(MODULES[key])]
    turned = [
        {**part, name: not value}
        for part in found
        for name, value in part.items()
        if isinstance(value, bool)
    ]
    return found + turned


CASES = [(key, part) for key in MODULES for part in variants(key)]


def outcome(values: dict[str, Any], key: str) -> str:
    """ "equal", or why it is refused."""
    theirs = tokenizers.Tokenizer.from_str(json.dumps(values))  # raises a bare Exception
    try:
        ours: Tokenizer = build(values, vocab_size=pipelines.VOCAB_SIZE)
    except (ModelFormatError, ValueError) as refusal:
        return str(refusal)
    for text in TEXTS:
        expected = theirs.encode(text).ids
        try:
            ids = [*ours.prefix_ids, *ours.encode(text), *ours.suffix_ids]
        except ValueError:  # where theirs drops a character, or says <unk>
            continue
        assert ids == expected, text
        if key == "decoder":
            joined = b"".join(map(ours.token_bytes, expected)).decode()
            decoded = theirs.decode(expected, skip_special_tokens=False)
            if not any(mark in decoded for mark in UNDECODED):
                assert joined.removeprefix(" ") == decoded.removeprefix(" ")
    return "equal"


@pytest.mark.parametrize("base", ["gpt2", "llama"])
@pytest.mark.parametrize(("key", "part"), CASES, ids=[json.dumps(part)[:80] for _, part in CASES])
def test_every_part(base: str, key: str, part: dict[str, Any]) -> None:
    values = json.loads(
        vocabularies.train("gpt2").to_str() if base == "gpt2" else pipelines.train(base)
    )
    values[key] = part
    said = outcome(values, key)
    assert said == "equal" or "not supported" in said or "▁" in said or "is ByteLevel" in said
    known = PARTS[key].get(part["type"])
    assert known is None or part.keys() <= known


def test_every_class_of_the_package_was_tried() -> None:
    """A new one is tried without a word from here; what cannot be made so is listed."""
    for key, module in MODULES.items():
        tried = {part["type"] for kind, part in CASES if kind == key}
        there = {name for name in dir(module) if isinstance(getattr(module, name), type)}
        unmade = {name for name, forms in ARGUMENTS.items() if not forms}
        assert there - tried <= {*unmade, *NO_PARTS}, key


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_every_option_of_a_model(kind: str) -> None:
    base = "gpt2" if kind == "BPE" else "t5"
    text = vocabularies.train("gpt2").to_str() if base == "gpt2" else pipelines.train(base)
    model = json.loads(text)["model"]
    assert model.keys() <= MODELS[kind] | {"type"}
    others = {"dropout": 0.5, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "##",
              "end_of_word_suffix": "</w>", "unk_id": 3}  # fmt: skip
    for key, value in model.items():
        if key in ("type", "vocab", "merges"):
            continue
        values = json.loads(text)
        values["model"][key] = others.get(key, not value)
        if key in ("continuing_subword_prefix", "end_of_word_suffix"):  # theirs wants its merges
            with pytest.raises(ModelFormatError, match=rf"model\.{key}"):
                build(values)
        else:
            said = outcome(values, "model")
            assert said == "equal" or f"model.{key}" in said, key


@pytest.mark.parametrize(
    "place", ["", "model", "normalizer", "pre_tokenizer", "post_processor", "decoder"]
)
def test_a_key_of_tomorrow_is_refused_by_name(place: str) -> None:
    values = json.loads(pipelines.train("mistral" if place == "pre_tokenizer" else "llama"))
    if place == "post_processor":
        values[place] = described(processors.TemplateProcessing("$A", None, []), place)
    (values[place] if place else values)["of_tomorrow"] = 0.5
    with pytest.raises(ModelFormatError, match=r"of_tomorrow': is a setting that is not known"):
        build(values, vocab_size=pipelines.VOCAB_SIZE)
    (values[place] if place else values)["of_tomorrow"] = None
    build(values, vocab_size=pipelines.VOCAB_SIZE)


def test_the_top_level() -> None:
    assert set(json.loads(vocabularies.train("gpt2").to_str())) == TOP


@pytest.mark.parametrize(
    "post",
    [
        {"type": "TemplateProcessing", "single": 3, "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [3], "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": 3}], "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]},
        {"type": "TemplateProcessing", "single": []},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}] * 2},
        {"type": "BertProcessing", "cls": 3, "sep": None},
        {"type": "OfTomorrow"},
        {"type": "Sequence", "processors": 3},
        3,
    ],
    ids=str,
)
def test_a_post_processor_that_is_none(post: Any) -> None:
    values = json.loads(vocabularies.train("gpt2").to_str()) | {"post_processor": post}
    with pytest.raises(ModelFormatError, match="'post_processor'"):
        build(values)


def test_tokens_that_the_settings_call_special() -> None:
    """transformers makes them special, though tokenizer.json has them among the others."""
    values = json.loads(vocabularies.train("gpt2").to_str())
    kept = values["added_tokens"][:1]
    ours = build(
        values | {"added_tokens": kept},
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", {"content": "<|im_end|>s", "rstrip": True}],
        pad_token="!",
    )
    assert ours.special_tokens.keys() == set(vocabularies.SPECIAL)
    assert ours.eos_token_ids == {2}
    assert ours.strips == {"<|im_end|>s": (False, True)}
    assert ours.encode("!") == vocabularies.train("gpt2").encode("!").ids, "a sign is text"


@pytest.mark.parametrize("said", [True, False])
def test_a_space_in_front_that_only_the_settings_want(
    said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    build(json.loads(vocabularies.train("gpt2").to_str()), add_prefix_space=said)
    assert ("tokenizer.json says otherwise" in caplog.text) == said


def test_refusals_name_the_file() -> None:
    values = json.loads(vocabularies.train("gpt2").to_str()) | {"version": "2.0"}
    with pytest.raises(ModelFormatError, match=str(Path("tokenizer.json")) + ", 'version'"):
        build(values)
