r"""Byte-level families that cut text in several steps, or leave stretches between the matches.

By their name in GGUF (`tokenizer.ggml.pre`). Each expression cuts inside the pieces of the one
before; what it does not match is a piece too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from thirdeye.weights.tokenizers.pipeline import Pipeline
from thirdeye.weights.tokenizers.pretokenize import PreTokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary, byte_characters

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
DEEPSEEK_V3 = (r"\p{N}{1,3}", r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+", DEEPSEEK_WORDS)
DEEPSEEK_CODER = (
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"[\x{800}-\x{9FA5}\x{AC00}-\x{D7FF}]+",
    r"\p{N}",
)
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2_SPLIT, "[0-9][0-9][0-9]")
# Punctuation of Chinese and Japanese, of Hindi, of Urdu and of Arabic beside the European.
BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
# llama.cpp's, for files that name none.
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", "[0-9][0-9][0-9]")

CHAINS: Mapping[str, Sequence[str]] = {
    "default": DEFAULT,
    "deepseek-v3": DEEPSEEK_V3,
    "hunyuan-dense": DEEPSEEK_V3,
    "joyai-llm": DEEPSEEK_V3,
    "deepseek-coder": DEEPSEEK_CODER,
    "falcon": FALCON,
    "bloom": (BLOOM,),
    "gpt3-finnish": (BLOOM,),
    "poro-chat": (BLOOM,),
    "viking": (BLOOM, r"\p{N}"),
}


def chain_pipeline(
    name: str, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], num_ids: int
) -> Pipeline:
    model = {"type": "BPE", "vocab": dict(vocab), "merges": [list(merge) for merge in merges]}
    return Pipeline(model, None, _cuts(CHAINS[name]), num_ids=num_ids)


def unranked_pipeline(vocabulary: Vocabulary, family: PreTokenizer) -> Pipeline:
    """A family of one expression whose merges are no ranks."""
    characters = byte_characters()

    def spelled(raw: bytes) -> str:
        return "".join(map(characters.__getitem__, raw))

    model = {
        "type": "BPE",
        "vocab": {spelled(raw): i for i, raw in vocabulary.tokens.items()},
        "merges": [[spelled(left), spelled(right)] for left, right in vocabulary.merges],
        "ignore_merges": family.ignore_merges,
    }
    normalizer = {"type": "NFC"} if family.nfc else None
    return Pipeline(
        model,
        normalizer,
        _cuts([family.regex]),
        num_ids=vocabulary.vocab_size,
        shrinks=family.nfc,
    )


def _cuts(expressions: Sequence[str]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {
            "type": "Split",
            "pattern": {"Regex": expression},
            "behavior": "Isolated",
            "invert": False,
        }
        for expression in expressions
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    return {"type": "Sequence", "pretokenizers": [*steps, byte_level]}
