"""How text is cut into pieces before byte-pair merging: one regular expression per family.

A checkpoint names its family: GGUF by `tokenizer.ggml.pre`, tokenizer.json by its pre-tokenizer,
whose own expression must be one of those below. Expressions from a checkpoint are never run.
"""

from dataclasses import dataclass

GPT2_REGEX = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Digits are cut out one by one *before* GPT-2's expression sees the text, so the look-ahead must
# leave white space before a digit whole: `\s+(?!\S)` here would tokenize "x =  12" wrongly.
SMOLLM_REGEX = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"

LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """`nfc`: text is normalized to NFC first. `ignore_merges`: a piece that is a token stays whole,
    whether or not merges lead to it. `add_bos`: prompts start with the BOS token unless the
    checkpoint says otherwise."""

    name: str
    regex: str
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False


GPT2 = PreTokenizer("gpt2", GPT2_REGEX)
SMOLLM = PreTokenizer("smollm", SMOLLM_REGEX)
LLAMA3 = PreTokenizer("llama3", LLAMA3_REGEX, ignore_merges=True, add_bos=True)
QWEN2 = PreTokenizer("qwen2", QWEN2_REGEX, nfc=True)

BY_GGUF_NAME = {
    "gpt-2": GPT2,
    "gpt2": GPT2,
    "smollm": SMOLLM,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
}

SUPPORTED = "byte-level BPE with the pre-tokenizers gpt2, smollm, llama3 and qwen2"
