"""One valid checkpoint of each layout, to be damaged: small, and with every kind of description."""

import json
from dataclasses import dataclass
from pathlib import Path

import gguf

from tests.tiny import CHAT_TEMPLATE, tiny_llama
from tests.weights import tiny
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_gguf_vocabulary import metadata
from tests.weights.tokenizers.test_sentencepiece import pieces

SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Original:
    """A checkpoint to open and the file of it to damage."""

    checkpoint: Path
    file: Path

    @property
    def kind(self) -> str:
        """How its contents are made: by its name."""
        return self.file.name


def write_originals(folder: Path) -> dict[str, Original]:
    """By the name of the format."""
    sharded = folder / "sharded"
    model = tiny_llama(sharded)
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="300KB")
    (sharded / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [2, 0], "temperature": 0.6, "top_k": 20, "top_p": 0.9})
    )
    settings = json.loads((sharded / "tokenizer_config.json").read_text())
    templates = [{"name": "default", "template": CHAT_TEMPLATE}]
    settings |= {"chat_template": templates, "add_bos_token": False}
    (sharded / "tokenizer_config.json").write_text(json.dumps(settings))
    descriptions = ("config.json", "generation_config.json", "tokenizer_config.json")
    found = {name: Original(sharded, sharded / name) for name in (*descriptions, "tokenizer.json")}
    found |= {
        "safetensors": Original(sharded, sharded / SHARD),
        "index": Original(sharded, sharded / INDEX),
    }
    pieced = folder / "pieced"
    tiny.save(tiny.llama(vocab_size=len(pieces("llama"))), pieced)
    raw = pipelines.sentencepiece(pieces("llama"), model_type=2)
    (pieced / "tokenizer.model").write_bytes(raw)
    found["tokenizer.model"] = Original(pieced, pieced / "tokenizer.model")
    whole = write_gguf(folder / "whole.gguf")
    return found | {"GGUF": Original(whole, whole)}


def write_gguf(path: Path) -> Path:
    """A Llama with its tokenizer and its template, as a converter writes it."""
    return tiny.llama_gguf(tiny.llama(vocab_size=640), path, describe=add_text)


def add_text(writer: gguf.GGUFWriter) -> None:
    for key, value in metadata("llama3").items():
        match value:
            case int():
                writer.add_uint32(f"tokenizer.ggml.{key}", value)
            case str():
                writer.add_string(f"tokenizer.ggml.{key}", value)
            case list():
                writer.add_array(f"tokenizer.ggml.{key}", value)
    writer.add_chat_template(CHAT_TEMPLATE)
