"""Whatever transformers or llama.cpp has a name for is served, or refused with a reason and a way
out: in one line, and never by the list of all that is served."""

from pathlib import Path

import gguf
import pytest
from transformers import CONFIG_MAPPING

from thirdeye.weights.architectures.refused import REFUSED
from thirdeye.weights.architectures.registry import ARCHITECTURES, by_gguf_name, by_model_type
from thirdeye.weights.architectures.wrappers.table import WRAPPERS
from thirdeye.weights.architectures.wrappers.text_part import text_part
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

SERVED = {name for one in ARCHITECTURES for name in (*one.model_types, *one.other_types)}
IN_GGUF = {name for one in ARCHITECTURES for name in one.gguf_architectures}
NO_MODELS = {"gpt-sw3"}  # a tokenizer's


def said(name: str, *, is_whole: bool = False) -> str:
    """Of a config.json that says so; `is_whole`: as of a model that also sees."""
    whole = {"text_config": {"hidden_size": 8}} if is_whole else {}
    fields = Fields(Path("config.json"), {"model_type": name} | whole)
    with pytest.raises(ModelFormatError) as refused:
        by_model_type(text_part(fields).fields)
    return str(refused.value)


def is_helpful(message: str, name: str) -> bool:
    has_reason = f"'{name}' is not supported: " in message
    return has_reason and " work" in message and "\n" not in message and len(message) < 300


def test_every_model_of_transformers() -> None:
    others = set(CONFIG_MAPPING) - SERVED - WRAPPERS.keys() - NO_MODELS
    assert len(others) > 500
    assert [name for name in sorted(others) if not is_helpful(said(name), name)] == []


def test_every_whole_of_transformers() -> None:
    """With its text's settings apart, as of models that also see."""
    others = set(CONFIG_MAPPING) - SERVED - WRAPPERS.keys() - NO_MODELS
    assert [
        name for name in sorted(others) if not is_helpful(said(name, is_whole=True), name)
    ] == []


def test_every_model_of_llama_cpp() -> None:
    others = set(gguf.MODEL_ARCH_NAMES.values()) - IN_GGUF
    for name in sorted(others):
        fields = Fields(Path("m.gguf"), {"general.architecture": name})
        with pytest.raises(ModelFormatError) as refused:
            by_gguf_name(fields)
        assert is_helpful(str(refused.value), name)


def test_what_is_refused_is_not_served() -> None:
    """A name may be read in one of the two forms alone; then the reason names the other."""
    assert REFUSED.keys() & (SERVED | WRAPPERS.keys()) == set()
    assert [name for name in REFUSED.keys() & IN_GGUF if "GGUF" not in REFUSED[name]] == []


def test_a_name_that_nobody_knows_is_told_what_there_is() -> None:
    assert "supported are llama" in said("lama").replace("gpt2, ", "") or "nearest" in said("lama")
    assert "The nearest name is 'qwen3'" in said("qwen33")


@pytest.mark.parametrize("name", ["_" * 1_000_000, "sam_" * 100_000, "-"])
def test_a_name_of_any_length_is_told_at_once(name: str) -> None:
    """Not in a time that grows with the square of it."""
    assert len(said(name)) < 2_000
