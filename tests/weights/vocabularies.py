"""A small trained byte-level BPE vocabulary, as tokenizer.json and as GGUF would hold it."""

import functools
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from thirdeye.weights.tokenizers.pretokenize import LLAMA3_REGEX, QWEN2_REGEX

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|>s"]


def split(regex: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def pre_tokenizer(family: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "gpt2": byte_level,
        "smollm": pre_tokenizers.Sequence([digits, byte_level]),
        "llama3": split(LLAMA3_REGEX),
        "qwen2": split(QWEN2_REGEX),
    }[family]


@functools.cache
def train(family: str, ignore_merges: bool = False) -> tokenizers.Tokenizer:
    """Hugging Face's own tokenizer of this family: 600 tokens from this project's tests' source."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer(family)
    tokenizer.decoder = decoders.ByteLevel()
    if family == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    tokenizer.train_from_iterator([*texts, "été naïve 你好 '1234' \r\n\r\n  12"], trainer)
    return tokenizer


def as_json(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(tokenizer.to_str())
    return loaded
