"""The tokenizer in GGUF metadata: equal to the same one in tokenizer.json, or refused by name."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.weights import vocabularies
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
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


def open_tokenizer(path: Path, values: dict[str, Any], rows: int = 640) -> Tokenizer:
    writer = gguf.GGUFWriter(path, "llama")
    for key, number in LLAMA.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
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


@pytest.mark.parametrize("family", vocabularies.FAMILIES)
def test_equals_hugging_face(tmp_path: Path, family: str) -> None:
    ours = open_tokenizer(tmp_path / "model.gguf", metadata(family))
    theirs = vocabularies.train(family)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        text = path.read_text().replace("<|", "<")  # in theirs, literals would become tokens
        assert ours.encode(text) == theirs.encode(text).ids
    assert ours.special_tokens == {name: n for n, name in enumerate(vocabularies.SPECIAL)}
    assert ours.eos_token_ids == {2, 3}
    assert ours.bos_token_id == 1
    assert ours.add_bos == (family in ("llama3", "tekken")), "llama.cpp's default for this family"
    assert ours.token_bytes(639) == b""


def test_add_bos_may_be_said(tmp_path: Path) -> None:
    values = metadata("gpt2") | {"add_bos_token": True}
    assert open_tokenizer(tmp_path / "model.gguf", values).add_bos


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
    with pytest.raises(ModelFormatError, match=r"byte-level BPE.*gpt2, .*llama3, .*qwen2"):
        open_tokenizer(tmp_path / "model.gguf", values)
