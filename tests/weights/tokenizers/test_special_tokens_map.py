"""special_tokens_map.json beside a tokenizer.json: what transformers takes from it, we take."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.weights import vocabularies
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.huggingface_tokenizer import Ids, read_tokenizer, tokenizer_files

OLD = {"bos_token": "<|a|>", "eos_token": {"content": "<|b|>", "lstrip": False, "rstrip": False,
                                           "normalized": False, "single_word": False}}  # fmt: skip
SETTINGS = {
    "none": None,
    "that name no token": {"model_max_length": 64},
    "that name another": {"bos_token": "<|c|>", "eos_token": "<|c|>"},
    "of transformers since 4.34": {"bos_token": "<|c|>", "eos_token": "<|c|>",
                                   "added_tokens_decoder": {}},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_equals_transformers(tmp_path: Path, settings: dict[str, object] | None) -> None:
    trained = vocabularies.train("gpt2")
    trained.add_special_tokens(["<|a|>", "<|b|>", "<|c|>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(OLD))
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    ids = Ids(trained.get_vocab_size(), None, frozenset())
    ours = read_tokenizer(Directory(tmp_path), "gpt2", ids, ())
    assert ours.eos_token == theirs.eos_token
    assert ours.bos_token_id == theirs.bos_token_id
    assert ours.eos_token_ids == {theirs.eos_token_id}


def test_it_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "special_tokens_map.json" in tokenizer_files(Directory(tmp_path))
