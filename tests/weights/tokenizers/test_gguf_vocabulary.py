"""The tokenizer in GGUF metadata: equal to the same one in tokenizer.json, or refused by name."""

import json
import mmap
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers

from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines, strings
from thirdeye.server.text.templates.special_tokens import SpecialTokens
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.gguf_vocabulary import read_vocabulary
from thirdeye.weights.formats.gguf.reader import GGUFFile
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

LLAMA = {
    "context_length": 128, "embedding_length": 4, "block_count": 1, "feed_forward_length": 8,
    "attention.head_count": 1,
}  # fmt: skip


def metadata(family: str) -> dict[str, Any]:
    """What a converter writes for a trained tokenizer."""
    tokenizer = vocabularies.as_json(vocabularies.train(family))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    return {
        "model": "gpt2",
        "pre": {"gpt2": "gpt-2", "llama3": "llama-bpe"}.get(family, family),
        "tokens": tokens,
        "token_type": [3 if token in special else 1 for token in tokens],
        "merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "eot_token_id": 3,
    }


def open_tokenizer(
    path: Path, values: dict[str, Any], rows: int = 640, architecture: str = "llama"
) -> Tokenizer:
    writer = gguf.GGUFWriter(path, architecture)
    for key, number in LLAMA.items():
        writer.add_uint32(f"{architecture}.{key}", number)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    for key, value in values.items():
        key = f"tokenizer.ggml.{key}"
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_int32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    writer.add_tensor("token_embd.weight", np.zeros((rows, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_checkpoint(path).tokenizer()


CALL_ENDS = ["<|eom_id|>", "<|call|>", "<|return|>", "<|tool_response>", "</s>", "<eos>"]


@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("literal", CALL_ENDS)
def test_ends_that_no_key_names(tmp_path: Path, literal: str, kind: int) -> None:
    """A converter writes the end of a turn alone: an answer that calls a tool would run on."""
    values = metadata("gpt2")
    values["tokens"] = [*values["tokens"], literal]
    values["token_type"] = [*values["token_type"], kind]
    ours = open_tokenizer(tmp_path / "model.gguf", values)
    assert len(values["tokens"]) - 1 in ours.eos_token_ids


@pytest.mark.parametrize("family", vocabularies.FAMILIES)
def test_equals_hugging_face(tmp_path: Path, family: str) -> None:
    ours = open_tokenizer(tmp_path / "model.gguf", metadata(family))
    theirs = vocabularies.train(family)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        text = path.read_text().replace("<|", "<")  # in theirs, literals would become tokens
        assert ours.encode(text) == theirs.encode(text).ids
    assert ours.special_tokens == {name: n for n, name in enumerate(vocabularies.SPECIAL)}
    assert ours.eos_token_ids == {0, 2, 3}  # <|endoftext|> by its name
    assert ours.bos_token_id == 1
    has_bos = family in ("llama3", "tekken")  # by llama.cpp's default for this family
    assert ours.prefix_ids == ((1,) if has_bos else ())
    assert ours.suffix_ids == ()
    assert ours.token_bytes(639) == b""


def test_bos_and_eos_may_be_said(tmp_path: Path) -> None:
    values = metadata("gpt2") | {"add_bos_token": True, "add_eos_token": True}
    ours = open_tokenizer(tmp_path / "model.gguf", values)
    assert (ours.prefix_ids, ours.suffix_ids) == ((1,), (2,))


def test_unused_tokens_have_no_text(tmp_path: Path) -> None:
    values = metadata("gpt2")
    values["tokens"] += ["[PAD600]", "[PAD601]"]
    values["token_type"] += [5, 5]
    tokenizer = open_tokenizer(tmp_path / "model.gguf", values)
    assert tokenizer.token_bytes(600) == b""
    assert tokenizer.encode_with_special("[PAD600]") == tokenizer.encode("[PAD600]")


REFUSED = {
    "sentencepiece": ("model", "llama"),
    "wordpiece": ("model", "bert"),
    "model missing": ("model", None),
    "unknown family": ("pre", "superbpe"),
    "tokens missing": ("tokens", None),
    "tokens are numbers": ("tokens", [1, 2, 3]),
    "merges missing": ("merges", None),
    "merges are numbers": ("merges", [1, 2, 3]),
    "merge of one": ("merges", ["a"]),
    "merge of three": ("merges", ["a b c"]),
    "merge of unknown tokens": ("merges", ["zzzz qqqq"]),
    "too few types": ("token_type", [1, 1]),
    "types are strings": ("token_type", ["a"] * 600),
    "byte tokens": ("token_type", [6] * 600),
    "type 99": ("token_type", [99] * 600),
    "bos too large": ("bos_token_id", 640),
    "eos negative": ("eos_token_id", -1),
    "eos a string": ("eos_token_id", "2"),
    "add_bos a number": ("add_bos_token", 1),
    "not byte-level": ("tokens", ["▁the", "a"]),
    "a token twice": ("tokens", ["a", "a"]),
}


@pytest.mark.parametrize(("key", "value"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_byte_level_bpe_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    values = metadata("gpt2") | {key: value}
    if key == "tokens" and value is not None:
        values["token_type"] = None
    with pytest.raises(ModelFormatError, match=r"tokenizer\.ggml"):
        open_tokenizer(tmp_path / "model.gguf", values)


def test_more_tokens_than_the_model_has(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"has 600 tokens, the model has 599"):
        open_tokenizer(tmp_path / "model.gguf", metadata("gpt2"), rows=599)


def test_the_refusal_says_what_is_supported(tmp_path: Path) -> None:
    values = metadata("gpt2") | {"model": "bert"}
    with pytest.raises(
        ModelFormatError, match="'bert' is not supported; supported are gpt2, gemma4, llama, t5"
    ):
        open_tokenizer(tmp_path / "model.gguf", values)


def in_memory(values: dict[str, Any]) -> Tokenizer:
    """The vocabulary alone."""
    arrays = {key: np.array(values[key]) for key in ("scores", "token_type") if key in values}
    metadata = {f"tokenizer.ggml.{key}": value for key, value in (values | arrays).items()}
    file = GGUFFile(Path("model.gguf"), metadata, {}, 0, mmap.mmap(-1, 1))
    return Tokenizer(read_vocabulary(file, 1000))


def byte_pieces() -> dict[str, Any]:
    """Phi-3's special tokens before a vocabulary of single bytes."""
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>", "<|endoftext|>"]
    return {
        "model": "llama",
        "tokens": [*special, *(f"<0x{byte:02X}>" for byte in range(256)), pipelines.SPACE],
        "scores": [0.0] * (len(special) + 257),
        "token_type": [2, 3, 4, 3, 3, 3, 3] + [6] * 256 + [1],
        "add_space_prefix": False,
    }


def test_phi3s_tokens_swallow_the_white_space_behind_them(tmp_path: Path) -> None:
    """As its tokenizer.json says, and no GGUF file. In the template's text as well."""
    text = "<s> <|user|>\nHi<|end|>\n</s>\n\n<|assistant|>\n"
    phi3, llama = (
        open_tokenizer(tmp_path / f"{name}.gguf", byte_pieces(), architecture=name)
        for name in ("phi3", "llama")
    )
    plain = b"".join(map(llama.token_bytes, llama.encode_with_special(text)))
    assert plain == text.encode()
    swallowed = b"".join(map(phi3.token_bytes, phi3.encode_with_special(text)))
    assert swallowed == b"<s> <|user|>Hi<|end|></s><|assistant|>"
    assert SpecialTokens(phi3).encode(text) == phi3.encode_with_special(text)


def test_gemma4_has_merges_over_text(tmp_path: Path) -> None:
    """And spaces as its pieces write them, and bytes for what has no token; scores say nothing."""
    described = json.loads(pipelines.train("gemma"))
    vocab = described["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.__getitem__)
    kinds = dict.fromkeys(pipelines.SPECIAL, 3) | dict.fromkeys(pipelines.BYTES, 6)
    ours = in_memory(
        {
            "model": "gemma4",
            "tokens": tokens,
            "scores": [-1000.0] * len(tokens),
            "token_type": [kinds.get(token, 1) for token in tokens],
            "merges": [" ".join(merge) for merge in described["model"]["merges"]],
            "add_space_prefix": False,
        },
    )
    described["added_tokens"] = []
    described["pre_tokenizer"] = None
    theirs = tokenizers.Tokenizer.from_str(json.dumps(described))
    for text in islice(strings.texts(4), 300):
        if not any(literal in text for literal in [*pipelines.SPECIAL, "<0x"]):
            assert ours.encode(text) == theirs.encode(text).ids, repr(text)
