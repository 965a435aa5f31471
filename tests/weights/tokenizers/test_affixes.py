"""What stands in front of a text and behind it: held to the package's own post-processors."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import processors

from tests.weights import vocabularies
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.tokenizer_json import read_vocabulary
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IDS = [(END, 0), (START, 1), (STOP, 2)]
PROCESSORS = {
    "none": None,
    "bos": processors.TemplateProcessing(f"{START} $A", special_tokens=IDS),
    "both": processors.TemplateProcessing(f"{START} $A {STOP}", special_tokens=IDS),
    "two in front, as GLM": processors.TemplateProcessing(f"{END} {START} $A", special_tokens=IDS),
    "eos alone, as Qwen's embedder": processors.TemplateProcessing(f"$A {END}", special_tokens=IDS),
    "roberta": processors.RobertaProcessing((STOP, 2), (START, 1)),
    "bert": processors.BertProcessing((STOP, 2), (START, 1)),
    "a sequence": processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"{START} $A {STOP}", special_tokens=IDS),
        ]
    ),
}


def described(processor: Any) -> dict[str, Any]:
    tokenizer = tokenizers.Tokenizer.from_str(vocabularies.train("gpt2").to_str())
    if processor is not None:
        tokenizer.post_processor = processor
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    return found


def read(values: dict[str, Any], **settings: Any) -> Tokenizer:
    fields = Fields(Path("tokenizer.json"), values)
    more = Fields(Path("tokenizer_config.json"), settings)
    return Tokenizer(read_vocabulary(fields, more, 640, None, frozenset()))


@pytest.mark.parametrize("name", PROCESSORS)
def test_as_the_package_does(name: str) -> None:
    values = described(PROCESSORS[name])
    ours, theirs = read(values), tokenizers.Tokenizer.from_str(json.dumps(values))
    text = "Once upon a time"
    assert [*ours.prefix_ids, *ours.encode(text), *ours.suffix_ids] == theirs.encode(text).ids


def test_the_settings_come_first() -> None:
    """`add_bos_token` and `add_eos_token`; without such a token they say nothing."""
    ends: dict[str, Any] = {"bos_token": START, "eos_token": {"content": STOP}}
    plain, both = described(None), described(PROCESSORS["both"])
    asked = read(plain, add_bos_token=True, add_eos_token=True, **ends)
    assert (asked.prefix_ids, asked.suffix_ids) == ((1,), (2,))
    without = read(both, add_bos_token=False, add_eos_token=False, **ends)
    assert (without.prefix_ids, without.suffix_ids) == ((), ())
    assert read(plain, add_bos_token=True).prefix_ids == ()
    assert read(both, add_bos_token=None, **ends).prefix_ids == (1,)


def test_two_steps_that_add_tokens_are_refused() -> None:
    """The package leaves the second one out, or says that it is not implemented."""
    both = processors.Sequence([PROCESSORS["bos"], PROCESSORS["both"]])
    with pytest.raises(ModelFormatError, match="'post_processor': has two steps"):
        read(described(both))
