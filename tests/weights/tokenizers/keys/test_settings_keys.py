"""No key of tokenizer_config.json is passed over in silence, and what is called harmless is."""

import inspect
import json
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import transformers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_sentencepiece import pieces
from tests.weights.tokenizers.test_tokenizer import build
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.settings_keys import (
    HARMLESS,
    OBEYED,
    REFUSED,
    unknown_keys,
)
from thirdeye.weights.tokenizers.sentencepiece.tokenizer_model import read_vocabulary

TEXTS = ["Hello  the World's 123\n\n x=12 .", " été 你好 !?", "<|im_start|>a <|im_end|> b"]
NOT_IN_A_FILE = {  # arguments of calls, and contents that have files of their own
    *("self", "args", "kwargs", "vocab", "merges", "_spm_precompiled_charsmap", "tokenizer_object"),
    *("_from_auto", "_from_pipeline", "cache_dir", "commit_message", "files_loaded", "init_inputs"),
    *("max_target_length", "proxies", "repo_id", "save_jinja_files", "token"),
}
OTHER_PURPOSES = {"unk_id", "additional_special_tokens"}
READ = re.compile(r'(?:kwargs|tokenizer_config)(?:\.pop|\.get)?[\[(]"(\w+)"')


def class_names() -> set[str]:
    """Of the tokenizers of all models that are served here."""
    types = [name for one in ARCHITECTURES for name in one.model_types]
    found = [TOKENIZER_MAPPING_NAMES.get(name) for name in types]
    return {name for name in found if isinstance(name, str) and hasattr(transformers, name)}


def keys_of_transformers() -> Iterator[str]:
    for name in class_names():
        yield from inspect.signature(getattr(transformers, name).__init__).parameters
    yield from READ.findall(inspect.getsource(PreTrainedTokenizerBase))


def test_every_key_of_transformers_is_known(tmp_path: Path) -> None:
    """What the classes take, what their base reads, and what is saved."""
    known = [*OBEYED, *REFUSED, *HARMLESS]
    assert len(known) == len(set(known)), "each in one list"
    assert len(class_names()) > 5
    theirs().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    found = {*saved, *keys_of_transformers()} - NOT_IN_A_FILE
    assert {key for key in found if not key.endswith("_token")} <= set(known)
    assert {"model_max_length", "add_prefix_space", "split_special_tokens"} <= found


def theirs(**settings: object) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=vocabularies.train("gpt2"), **settings)


@cache
def plain_ids() -> tuple[list[int], list[list[int]]]:
    """Ours of the first text, and transformers' of all, without a setting."""
    plain, values = theirs(), json.loads(vocabularies.train("gpt2").to_str())
    return build(values).encode(TEXTS[0]), [plain(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("key", HARMLESS)
def test_what_is_harmless_changes_no_ids(key: str) -> None:
    """Neither of transformers, nor ours."""
    values, tried = json.loads(vocabularies.train("gpt2").to_str()), 0
    for value in (True, False, 3, "left", "max_length", ["x"], {"x": "y"}):
        assert build(values, **{key: value}).encode(TEXTS[0]) == plain_ids()[0]
        try:
            other = theirs(**{key: value})
            ids = [other(text)["input_ids"] for text in TEXTS]
        except (TypeError, ValueError, AttributeError):  # it is no such value
            continue
        assert ids == plain_ids()[1], value
        tried += 1
    assert tried


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_would_change_the_cut(key: str) -> None:
    values = json.loads(vocabularies.train("gpt2").to_str())
    for neutral in REFUSED[key]:
        build(values, **{key: neutral})
    with pytest.raises(ModelFormatError, match=rf"tokenizer_config\.json, '{key}': is not supp"):
        build(values, **{key: {"x": 1}})


def test_they_are_refused_beside_tokenizer_model_too(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(pipelines.sentencepiece(pieces("llama"), model_type=2))
    for settings in ({}, {"do_lower_case": True}):
        fields = Fields(tmp_path / "tokenizer_config.json", settings)
        if not settings:
            read_vocabulary(path, fields, len(pieces("llama")), None, frozenset())
            continue
        with pytest.raises(ModelFormatError, match="'do_lower_case': is not supported"):
            read_vocabulary(path, fields, len(pieces("llama")), None, frozenset())


def test_unknown_keys_are_named(caplog: pytest.LogCaptureFixture) -> None:
    values = json.loads(vocabularies.train("gpt2").to_str())
    with caplog.at_level(logging.WARNING):
        build(values, of_tomorrow=1, image_token="<image>", name_or_path="x", nothing=None)
    assert "also says of_tomorrow, which are not known here" in caplog.text
    assert [*unknown_keys(Fields(Path(), {"of_tomorrow": 0.5, "off": False}))] == ["of_tomorrow"]
