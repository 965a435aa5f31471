"""A small trained byte-level BPE vocabulary, as tokenizer.json and as GGUF would hold it."""

import functools
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from thirdeye.weights.tokenizers.pretokenize import (
    BAILING_REGEX,
    GPT4O_REGEX,
    LLAMA3_REGEX,
    QWEN2_REGEX,
    QWEN35_REGEX,
    SEED_CODER_REGEX,
    TEKKEN_REGEX,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|>s"]
SPLITS = {
    "llama3": [LLAMA3_REGEX],
    "qwen2": [QWEN2_REGEX],
    "qwen35": [QWEN35_REGEX],
    "gpt-4o": [GPT4O_REGEX],
    "tekken": [TEKKEN_REGEX],
    "seed-coder": [SEED_CODER_REGEX],
    "bailingmoe": [BAILING_REGEX],
    "minicpm5": [r"\p{N}{1,3}", LLAMA3_REGEX.replace("{1,3}", "+")],
}
FAMILIES = ["gpt2", "smollm", *SPLITS]
NORMALIZED = ("qwen2", "qwen35")


def split(*regexes: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in regexes),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def pre_tokenizer(family: str) -> pre_tokenizers.PreTokenizer:
    if family in SPLITS:
        return split(*SPLITS[family])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    return byte_level if family == "gpt2" else pre_tokenizers.Sequence([digits, byte_level])


def train(family: str, ignore_merges: bool = False) -> tokenizers.Tokenizer:
    """Hugging Face's own tokenizer of this family: 600 tokens from this project's tests' source.
    It is the caller's own: tokens may be added to it."""
    return tokenizers.Tokenizer.from_str(_trained(family, ignore_merges))


@functools.cache
def _trained(family: str, ignore_merges: bool) -> str:
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer(family)
    tokenizer.decoder = decoders.ByteLevel()
    if family in NORMALIZED:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    tokenizer.train_from_iterator([*texts, "été naïve 你好 '1234' \r\n\r\n  12"], trainer)
    return str(tokenizer.to_str())


def as_json(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(tokenizer.to_str())
    return loaded
