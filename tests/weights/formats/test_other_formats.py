"""What people have that is no checkpoint: each is told by what it is, with the way out."""

import json
from pathlib import Path

import pytest

from tests.weights.tiny import llama, save
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 98362432\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pytorch_model.bin", b"PK\x03\x04", r"\.bin, \.pt.*safe_serialization=True"),
        ("consolidated.00.pth", b"\x80\x02", r"\.bin, \.pt.*safe_serialization=True"),
        ("model.safetensors", b"\x08" + bytes(7) + b"{}      ", "Name the directory"),
        ("ggml-model-q4_0.bin", b"tjgg\x03" + bytes(40), "before GGUF"),
        ("model.gguf", POINTER.encode(), "git lfs pull"),
        ("sha256-1234", POINTER.encode(), "git lfs pull"),
    ],
)
def test_files(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=said):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"adapter_config.json": {"peft_type": "LORA"}}, "merge_and_unload"),
        ({"params.json": {"dim": 4096}, "tekken.json": {}}, r"has a config\.json"),
        ({"model_index.json": {}}, "pictures"),
        ({"config.json": {"model_type": "llama"}}, r"no \.safetensors files.*can run its code"),
    ],
    ids=str,
)
def test_directories(tmp_path: Path, files: dict[str, object], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match=said):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_clone_without_its_large_files(tmp_path: Path, name: str) -> None:
    path = save(llama(), tmp_path / "clone")
    (path / name).write_text(POINTER)
    with pytest.raises(ModelFormatError, match=f"{name}: is Git LFS's note.*git lfs pull"):
        open_checkpoint(path).tokenizer()
