"""What a checkpoint suggests to sample with: generation_config.json, and GGUF's keys."""

from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.weights import tiny
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling, of_huggingface


def read(**values: Any) -> SuggestedSampling:
    return of_huggingface(Fields(Path("generation_config.json"), values))


def test_a_files_words_are_those_of_requests() -> None:
    found = read(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05,
        max_new_tokens=2048, eos_token_id=[1, 2], max_length=20, num_beams=1,
    )  # fmt: skip
    assert found.said() == {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
        "max_tokens": 2048,
    }  # fmt: skip
    assert found.not_obeyed == ()


def test_a_file_that_says_nothing_suggests_nothing() -> None:
    assert of_huggingface(None).said() == read(eos_token_id=2, temperature=None).said() == {}


def test_do_sample_false_is_greedy() -> None:
    assert read(do_sample=False, temperature=0.6).said() == {"temperature": 0.0}
    assert read(do_sample=False).said() == {"temperature": 0.0}


def test_what_is_not_obeyed_is_named() -> None:
    found = read(num_beams=4, begin_suppress_tokens=[7], no_repeat_ngram_size=0)
    assert found.not_obeyed == ("begin_suppress_tokens", "num_beams")


def test_ends_and_banned_tokens_are_those_of_requests() -> None:
    """An id that no token has is none, and the end of an answer is no bad word, as in
    transformers."""
    found = of_huggingface(
        Fields(
            Path("generation_config.json"),
            {"stop_strings": "\n\n", "min_new_tokens": 2, "suppress_tokens": [3, -1, 99],
             "bad_words_ids": [[5], [2]], "eos_token_id": 2},
        ),
        vocab_size=99,
    )  # fmt: skip
    assert found.said() == {
        "stop": ("\n\n",), "min_tokens": 2, "logit_bias": {3: -100.0, 5: -100.0},
    }  # fmt: skip
    assert read(stop_strings=["", ""], suppress_tokens=[], min_new_tokens=0).said() == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", "hot"), ("temperature", -1), ("temperature", 3), ("temperature", True),
        ("top_p", 1.5), ("top_k", -2), ("top_k", 2.5), ("min_p", -0.1),
        ("repetition_penalty", 0), ("do_sample", "yes"), ("max_new_tokens", 0),
        ("min_new_tokens", -1), ("stop_strings", 3), ("stop_strings", [3]),
        ("stop_strings", ["x"] * 17), ("stop_strings", "x" * 257), ("suppress_tokens", 7),
        ("suppress_tokens", [True]), ("suppress_tokens", [*range(1025)]),
    ],
)  # fmt: skip
def test_values_that_are_none(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=f"'{key}'"):
        read(**{key: value})


def test_top_k_of_minus_one_is_off() -> None:
    assert read(top_k=-1).said() == {"top_k": 0}


def test_ggufs_keys(tmp_path: Path) -> None:
    """Floats have 32 bits there: 0.6 shall not become 0.6000000238418579. Tokens that are never to
    be drawn are among the tokenizer's keys; an id that no token has is none."""
    path = tiny.llama_gguf(tiny.llama(), tmp_path / "plain.gguf")
    assert open_checkpoint(path).suggested_sampling() == SuggestedSampling()
    path = tmp_path / "tiny.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_context_length", _with_sampling)
        tiny.llama_gguf(tiny.llama(), path)
    found = open_checkpoint(path).suggested_sampling()
    assert found.said() == {
        "temperature": 0.6, "top_k": 20, "top_p": 0.95, "logit_bias": {5: -100.0},
    }  # fmt: skip
    assert found.not_obeyed == ("mirostat",)


_add_context_length = gguf.GGUFWriter.add_context_length


def _with_sampling(writer: gguf.GGUFWriter, length: int) -> None:
    _add_context_length(writer, length)
    writer.add_float32("general.sampling.temp", 0.6)
    writer.add_float32("general.sampling.top_p", 0.95)
    writer.add_int32("general.sampling.top_k", 20)
    writer.add_int32("general.sampling.mirostat", 2)
    writer.add_array("tokenizer.ggml.suppress_tokens", [5, 300])
