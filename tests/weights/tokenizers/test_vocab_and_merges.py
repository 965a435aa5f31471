"""vocab.json with merges.txt: equal to what transformers makes of the same directory."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.weights import tiny, vocabularies
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.huggingface_tokenizer import Ids, read_tokenizer
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

TEXTS = [
    "",
    " the  cat's 1234\n\n\tdef f(x): return x",
    "été e\u0301 你好 👩\u200d💻",
    "#version # #",
]
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
CHAT = {"<|im_start|>": 1, "<|im_end|>": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tiny.llama(vocab_size=640, bos_token_id=1, eos_token_id=2), tmp_path / "model")


def write(folder: Path, family: str, **files: Any) -> Path:
    """A trained tokenizer in its old form; `files` are the JSON files beside, by name."""
    trained = vocabularies.as_json(vocabularies.train(family))["model"]
    (folder / "vocab.json").write_text(json.dumps(trained["vocab"]))
    lines = ["#version: 0.2", *map(" ".join, trained["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def opened(folder: Path) -> Tokenizer:
    return open_checkpoint(folder).tokenizer()


def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def check(ours: Tokenizer, expected: Any, literals: list[str]) -> None:
    texts = [*TEXTS, *(f"a{literal} \n b{literal}{literal}" for literal in literals)]
    texts += [path.read_text() for path in sorted(Path(__file__).parent.glob("test_v*.py"))]
    for text in texts:
        ids = expected(text, add_special_tokens=False)["input_ids"]
        assert ours.encode_with_special(text) == ids, text
    for literal in literals:
        assert ours.added_tokens[literal] == expected.convert_tokens_to_ids(literal)


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}}),
    "opt": (
        "gpt2",
        {
            "tokenizer_config": {
                "tokenizer_class": "GPT2Tokenizer", "add_bos_token": True,
                "add_prefix_space": False, "bos_token": "<|im_start|>",
                "eos_token": {"__type": "AddedToken", "content": "<|im_end|>", **FLAGS},
            },
            "special_tokens_map": {"pad_token": {"content": "<|im_end|>s", **FLAGS}},
        },
    ),
    "qwen2": (
        "qwen2",
        {
            "tokenizer_config": {
                "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None,
                "added_tokens_decoder": {
                    "600": {"content": "<|turn|>", "special": True, **FLAGS, "rstrip": True},
                    "601": {"content": "<tool>", "special": False, **FLAGS},
                    "1": {"content": "<|im_start|>", "special": True, **FLAGS},
                },
            }
        },
    ),
    "added_tokens.json": (
        "gpt2",
        {
            "tokenizer_config": {"tokenizer_class": "GPT2TokenizerFast"},
            "added_tokens": {"<|turn|>": 600, "BTCUSD": 601},
            "special_tokens_map": {"sep_token": "<|turn|>"},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_equals_transformers(folder: Path, case: str) -> None:
    family, files = SETTINGS[case]
    write(folder, family, **files)
    ours, expected = opened(folder), theirs(folder)
    literals = [str(token) for token in expected.added_tokens_decoder.values()]
    check(ours, expected, literals)
    named = {str(name) for name in expected.all_special_tokens}
    assert set(ours.special_tokens) >= named
    with_bos = expected("a")["input_ids"]
    assert [*ours.prefix_ids, *ours.encode("a")] == with_bos


def test_digits_of_starcoder(folder: Path) -> None:
    """Its class is GPT-2's; its own tokenizer.json, which llama.cpp follows, cuts digits."""
    write(folder, "smollm", tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    ids = Ids(640, None, frozenset())
    ours = read_tokenizer(Directory(folder), "starcoder2", ids, ())
    text = "x =  12345\n"
    assert ours.encode(text) == vocabularies.train("smollm").encode(text).ids


@pytest.mark.parametrize(
    ("model_type", "family"), [("opt", "gpt2"), ("phi", "gpt2"), ("qwen3", "qwen2")]
)
def test_without_a_class_the_model_says_it(folder: Path, model_type: str, family: str) -> None:
    """OPT's and GPT-2's directories have no tokenizer_config.json that names one."""
    write(folder, family)
    ours = read_tokenizer(Directory(folder), model_type, Ids(640, None, frozenset()), ())
    assert ours.special_tokens == {"<|endoftext|>": 0}
    for text in TEXTS:
        assert ours.encode(text) == vocabularies.train(family).encode(text).ids


REFUSED = {
    "another class": (
        {"tokenizer_config": {"tokenizer_class": "LEDTokenizer"}},
        "'LEDTokenizer' cuts",
    ),
    "no class": ({}, r"how '' cuts text is not known.*AutoTokenizer\.from_pretrained"),
    "a space in front": (
        {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}},
        "'add_prefix_space': is not supported",
    ),
    "an id that is none": (
        {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}, "added_tokens": {"x": "y"}},
        "'added_tokens'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused(folder: Path, case: str) -> None:
    files, problem = REFUSED[case]
    with pytest.raises(ModelFormatError, match=problem):
        opened(write(folder, "gpt2", **files))


def test_a_merge_that_is_none(folder: Path) -> None:
    write(folder, "gpt2", tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    with (folder / "merges.txt").open("a") as file:
        file.write("a b c\n")
    with pytest.raises(ModelFormatError, match="'a b c' is not a pair of tokens"):
        opened(folder)


def test_its_files_are_in_the_fingerprint(folder: Path) -> None:
    write(folder, "gpt2", tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    before = open_checkpoint(folder).fingerprint
    (folder / "added_tokens.json").write_text('{"BTCUSD": 600}')
    assert open_checkpoint(folder).fingerprint != before
