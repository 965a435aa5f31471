"""The pre-tokenizers of tokenizer.json that tiktoken says exactly, recognized by their steps."""

from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.chains import GPT2_SPLIT
from thirdeye.weights.tokenizers.pretokenize import (
    BAILING,
    GPT2,
    GPT4O,
    LLAMA3,
    LLAMA3_REGEX,
    MINICPM5,
    QWEN2,
    QWEN35,
    SEED_CODER,
    SMOLLM,
    TEKKEN,
    PreTokenizer,
)

# The expressions of the Split steps, as checkpoints spell them.
SPLITS = {
    (family.regex,): family
    for family in (LLAMA3, QWEN2, QWEN35, GPT4O, TEKKEN, SEED_CODER, BAILING)
} | {
    (GPT2_SPLIT + r"|\s+",): GPT2,
    (r"\p{N}{1,3}", LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}+")): MINICPM5,
}


def known_family(tokenizer: Fields, model: Fields) -> PreTokenizer | None:
    """None for any other: its steps are a `Pipeline`."""
    if model.text("type", "BPE") != "BPE" or model.boolean("byte_fallback", False):
        return None
    found = _family(steps_of(tokenizer, "pre_tokenizer", "pretokenizers"))
    normalizers = [step.get("type") for step in steps_of(tokenizer, "normalizer", "normalizers")]
    if found is None or normalizers not in ([], ["NFC"]):
        return None
    ignore_merges = model.boolean("ignore_merges", False)
    return PreTokenizer(
        found.name, found.regex, nfc=normalizers == ["NFC"], ignore_merges=ignore_merges
    )


def steps_of(tokenizer: Fields, key: str, list_key: str) -> list[dict[str, Any]]:
    """A pipeline part as the list of its steps: none, one, or those of a `Sequence`."""
    part = tokenizer.raw(key, None)
    steps = (
        part.get(list_key) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    )
    if not isinstance(steps, list) or not all(isinstance(step, dict | None) for step in steps):
        raise tokenizer.error(key, "must be an object, or a Sequence of objects.")
    return [step for step in steps if step is not None]


def _family(steps: list[dict[str, Any]]) -> PreTokenizer | None:
    *first, last = steps or [{}]
    is_byte_level = last.get("type") == "ByteLevel" and last.get("add_prefix_space", True) is False
    if is_byte_level and last.get("use_regex", True) is True:
        if not first:
            return GPT2
        if first == [{"type": "Digits", "individual_digits": True}]:
            return SMOLLM
    if is_byte_level and last.get("use_regex") is False:
        regexes = tuple(map(_split_regex, first))
        if regexes in SPLITS:
            return SPLITS[regexes]
    return None


def _split_regex(step: dict[str, Any]) -> str:
    """The expression of a Split step that cuts out each match as a piece; "" if it is anything
    else."""
    isolates = (
        step.get("type") == "Split"
        and step.get("behavior") == "Isolated"
        and not step.get("invert")
    )
    pattern = step.get("pattern")
    regex = pattern.get("Regex") if isolates and isinstance(pattern, dict) else None
    return regex if isinstance(regex, str) else ""
