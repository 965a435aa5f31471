"""What llama.cpp's converter writes of a tokenizer, by the `gguf` package's own part of it: every
key that a usual checkpoint makes it write is one that is read or known."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.weights import vocabularies
from tests.weights.tiny import llama, llama_gguf
from thirdeye.weights.checkpoint import open_checkpoint

TEXT = "The quick brown fox"
LITERALS = {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>", "pad_token": "<|im_end|>"}


def around(*ends: str) -> dict[str, Any]:
    """A post-processor with these in front of one text, and in front of both of a pair."""
    special = [{"SpecialToken": {"id": end, "type_id": 0}} for end in ends]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    tokens = {end: {"id": end, "ids": [1], "tokens": [end]} for end in ends}
    return {
        "type": "TemplateProcessing",
        "single": [*special, first],
        "pair": [*special, first, *special, second],
        "special_tokens": tokens,
    }


@pytest.mark.parametrize(
    "post", [None, around(), around("<|im_start|>")], ids=["none", "nothing", "BOS"]
)
@pytest.mark.parametrize(
    "says", [{}, {"add_bos_token": True, "add_sep_token": True}], ids=["", "said"]
)
def test_opens(tmp_path: Path, post: dict[str, Any] | None, says: dict[str, Any]) -> None:
    tokenizer = vocabularies.as_json(vocabularies.train("gpt2")) | {"post_processor": post}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = LITERALS | says | {"chat_template": "{{ messages[0].content }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    vocabulary = tokenizer["model"]["vocab"] | {
        t["content"]: t["id"] for t in tokenizer["added_tokens"]
    }
    special = {t["content"] for t in tokenizer["added_tokens"]}

    def describe(writer: gguf.GGUFWriter) -> None:
        literals = sorted(vocabulary, key=vocabulary.__getitem__)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(literals)
        writer.add_token_types([3 if literal in special else 1 for literal in literals])
        gguf.SpecialVocab(tmp_path, load_merges=True).add_to_gguf(writer, quiet=True)

    model = llama(vocab_size=len(vocabulary))
    model.config.head_dim = 8
    file = llama_gguf(model, tmp_path / "m.gguf", describe=describe)
    found = open_checkpoint(file)
    assert found.chat_template == settings["chat_template"]
    ids = found.tokenizer().encode(TEXT)
    assert ids == vocabularies.train("gpt2").encode(TEXT, add_special_tokens=False).ids
    has_bos = bool(says) or post == around("<|im_start|>")
    assert found.tokenizer().prefix_ids == ((vocabulary["<|im_start|>"],) if has_bos else ())
