"""vocab.json and merges.txt, as GPT-2's and Qwen's first files were, in the form of tokenizer.json.

They say which tokens there are and what merges to them. How a text is cut before, and which tokens
are special, the class of the tokenizer knows, or the files beside: tokenizer_config.json,
special_tokens_map.json, added_tokens.json.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.added_tokens_json import named_tokens
from thirdeye.weights.tokenizers.pretokenize import QWEN2_REGEX

VOCAB, MERGES = "vocab.json", "merges.txt"
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"
FILES = (VOCAB, MERGES, SPECIAL_TOKENS, ADDED_TOKENS)
END = "<|endoftext|>"  # a special token of all these classes, said or not
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


@dataclass(frozen=True, slots=True)
class Cuts:
    """How a class of tokenizers cuts a text."""

    pre_tokenizers: tuple[Mapping[str, Any], ...]
    normalizer: Mapping[str, Any] | None = None


GPT2 = Cuts((BYTE_LEVEL,))
STARCODER = Cuts((DIGITS, BYTE_LEVEL))
QWEN2 = Cuts(
    (
        {
            "type": "Split",
            "pattern": {"Regex": QWEN2_REGEX},
            "behavior": "Isolated",
            "invert": False,
        },
        {**BYTE_LEVEL, "use_regex": False},
    ),
    {"type": "NFC"},
)
# StarCoder's class is said to be GPT-2's, and its own tokenizer.json cuts digits out first.
BY_MODEL_TYPE = {"gpt_bigcode": STARCODER, "starcoder2": STARCODER}
BY_CLASS = {"GPT2Tokenizer": GPT2, "CodeGenTokenizer": GPT2, "Qwen2Tokenizer": QWEN2}
CLASS_OF = {
    **dict.fromkeys(("gpt2", "opt", "gptj", "phi"), "GPT2Tokenizer"),
    **dict.fromkeys(("qwen2", "qwen3"), "Qwen2Tokenizer"),
}


def read_vocab_and_merges(
    directory: Directory, settings: Fields | None, model_type: str
) -> tuple[Fields, Fields] | None:
    """As tokenizer.json and tokenizer_config.json (`settings`) would say it; None without the two
    files. Raises `ModelFormatError`."""
    vocab, merges = directory.fields(VOCAB), directory.text(MERGES)
    if vocab is None or merges is None:
        return None
    special = directory.fields(SPECIAL_TOKENS)
    said = {**(special.values if special else {}), **(settings.values if settings else {})}
    merged = Fields(settings.path if settings else vocab.path, said)
    cuts = _cuts(merged, model_type)
    tokenizer = {
        "model": {"type": "BPE", "vocab": dict(vocab.values), "merges": _lines(merges)},
        "normalizer": cuts.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts.pre_tokenizers]},
        "added_tokens": list(_added(directory, vocab, merged)),
    }
    return Fields(vocab.path, tokenizer), merged


def _cuts(settings: Fields, model_type: str) -> Cuts:
    if model_type in BY_MODEL_TYPE:
        return BY_MODEL_TYPE[model_type]
    settings.refuse("add_prefix_space", False)
    name = settings.text("tokenizer_class", CLASS_OF.get(model_type, "")).removesuffix("Fast")
    if name not in BY_CLASS:
        raise settings.error(
            "tokenizer_class",
            f"how '{name:.40}' cuts text is not known from {VOCAB} and {MERGES}; known are "
            f"{', '.join(BY_CLASS)}. transformers makes a tokenizer.json: AutoTokenizer"
            ".from_pretrained(directory).save_pretrained(directory).",
        )
    return BY_CLASS[name]


def _lines(merges: str) -> list[str]:
    """A first line tells the version. A line may begin with '#' and be a merge."""
    lines = merges.removeprefix("\ufeff").split("\n")
    kept = [line.removesuffix("\r") for line in lines if not line.startswith("#version")]
    return kept[:-1] if kept and not kept[-1] else kept


def _added(directory: Directory, vocab: Fields, settings: Fields) -> Iterator[dict[str, Any]]:
    """Those of added_tokens.json with their ids, and special ones of the vocabulary; but for what
    tokenizer_config.json lists with ids of its own, which is read with it."""
    decoder = settings.raw("added_tokens_decoder", {})
    known = decoder.values() if isinstance(decoder, dict) else ()
    own = [item.get("content") for item in known if isinstance(item, dict)]
    listed = directory.fields(ADDED_TOKENS)
    ids = {**vocab.values, **(listed.values if listed else {})}
    found = {END: {"content": END}} | named_tokens(settings)
    for literal, token in found.items():
        if literal in ids and literal not in own:
            yield {**token, "id": ids[literal], "special": True}
    for literal, token_id in (listed.values if listed else {}).items():
        if literal not in found:
            yield {"content": literal, "id": token_id, "normalized": True}
