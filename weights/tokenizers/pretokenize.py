r"""How text is cut into pieces before byte-pair merging: one regular expression per family.

A checkpoint names its family: GGUF by `tokenizer.ggml.pre`, tokenizer.json by its pre-tokenizer,
whose own expression is one of those below. Some families cut in several steps, each inside the
pieces of the one before; where one expression can say the same it stands here, with the look-ahead
`(?!\S)` as it reads when a step before has ended the text there.
"""

from dataclasses import dataclass

GPT2_REGEX = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Digits are cut out one by one *before* GPT-2's expression sees the text, so the look-ahead must
# leave white space before a digit whole: `\s+(?!\S)` here would tokenize "x =  12" wrongly.
SMOLLM_REGEX = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3_REGEX = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35_REGEX = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEED_CODER_REGEX = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BAILING_REGEX = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
# Groups of three digits are cut out first, then Llama 3's expression: white space before them ends
# its piece, as with SmolLM's.
MINICPM5_REGEX = LLAMA3_REGEX.replace(r"\s+(?!\S)", r"\s+(?![^\s\p{N}])")

CAPITALS, SMALL = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
TEKKEN_REGEX = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{CAPITALS}]*[{SMALL}]+|[^\r\n\p{{L}}\p{{N}}]?[{CAPITALS}]+[{SMALL}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O_REGEX = TEKKEN_REGEX.replace("+|[^", f"+{CONTRACTIONS}?|[^", 1).replace(
    r"]*|\p{N}|", rf"]*{CONTRACTIONS}?|\p{{N}}{{1,3}}|", 1
)


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
COMMAND_R = PreTokenizer("command-r", SMOLLM_REGEX, nfc=True)
LLAMA3 = PreTokenizer("llama3", LLAMA3_REGEX, ignore_merges=True, add_bos=True)
CL100K = PreTokenizer("cl100k", LLAMA3_REGEX)
GLM4 = PreTokenizer("glm4", LLAMA3_REGEX, ignore_merges=True)
QWEN2 = PreTokenizer("qwen2", QWEN2_REGEX, nfc=True)
DIGIT_BY_DIGIT = PreTokenizer("hunyuan", QWEN2_REGEX)
QWEN35 = PreTokenizer("qwen35", QWEN35_REGEX, nfc=True)
GPT4O = PreTokenizer("gpt-4o", GPT4O_REGEX)
TEKKEN = PreTokenizer("tekken", TEKKEN_REGEX, ignore_merges=True, add_bos=True)
SEED_CODER = PreTokenizer("seed-coder", SEED_CODER_REGEX)
BAILING = PreTokenizer("bailingmoe", BAILING_REGEX)
MINICPM5 = PreTokenizer("minicpm5", MINICPM5_REGEX, ignore_merges=True)

_GGUF_NAMES = {
    GPT2: "gpt-2 gpt2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4",
    SMOLLM: "smollm starcoder refact codeshell exaone minerva-7b mellum2",
    COMMAND_R: "command-r",
    LLAMA3: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    CL100K: "dbrx smaug-bpe chatglm-bpe",
    GLM4: "glm4 glm5",
    QWEN2: "qwen2 deepseek-r1-qwen kormo megrez",
    DIGIT_BY_DIGIT: "stablelm2 hunyuan solar-open grok-2",
    QWEN35: "qwen35",
    GPT4O: "gpt-4o llama4 kanana2 minimax-m2",
    TEKKEN: "tekken",
    SEED_CODER: "seed-coder",
    BAILING: "bailingmoe bailingmoe2 llada-moe",
    MINICPM5: "minicpm5",
}
BY_GGUF_NAME = {name: family for family, names in _GGUF_NAMES.items() for name in names.split()}

SUPPORTED = "byte-level BPE with the pre-tokenizers " + ", ".join(sorted(BY_GGUF_NAME))
