"""What a tokenizer.json may say: every key is read, or harmless, or refused.

The `tokenizers` package passes over a key that it does not know; so a newer file would be read
wrongly without a word.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.tokenizers.hugging_face.settings_keys import check_settings
from thirdeye.weights.tokenizers.sentencepiece.pieces import SPACE

logger = logging.getLogger(__name__)
TOP = frozenset(
    ["version", "truncation", "padding",  # the latter two are off unless a caller asks
     "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"]
)  # fmt: skip
MODELS = {
    "BPE": {"type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
            "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"},
    "Unigram": {"type", "vocab", "unk_id", "byte_fallback"},
}  # fmt: skip
METASPACE = {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"}
BYTE_LEVEL = {"type", "add_prefix_space", "trim_offsets", "use_regex"}
PARTS: Mapping[str, Mapping[str, set[str]]] = {
    "normalizer": {
        "Sequence": {"type", "normalizers"}, "NFC": {"type"}, "NFD": {"type"}, "NFKC": {"type"},
        "NFKD": {"type"}, "Replace": {"type", "pattern", "content"}, "Prepend": {"type", "prepend"},
        "Strip": {"type", "strip_left", "strip_right"},
        "Precompiled": {"type", "precompiled_charsmap"},
        "Lowercase": {"type"}, "StripAccents": {"type"}, "Nmt": {"type"},
    },
    "pre_tokenizer": {
        "Sequence": {"type", "pretokenizers"}, "Metaspace": METASPACE, "ByteLevel": BYTE_LEVEL,
        "Split": {"type", "pattern", "behavior", "invert"}, "Digits": {"type", "individual_digits"},
        "Punctuation": {"type", "behavior"}, "WhitespaceSplit": {"type"},
    },
    "decoder": {
        "Sequence": {"type", "decoders"}, "Replace": {"type", "pattern", "content"},
        "ByteFallback": {"type"}, "Fuse": {"type"}, "Strip": {"type", "content", "start", "stop"},
        "Metaspace": METASPACE, "ByteLevel": BYTE_LEVEL,
    },
    "post_processor": {
        "Sequence": {"type", "processors"}, "ByteLevel": BYTE_LEVEL,
        "TemplateProcessing": {"type", "single", "pair", "special_tokens"},
        "BertProcessing": {"type", "sep", "cls"},
        "RobertaProcessing": {"type", "sep", "cls", "trim_offsets", "add_prefix_space"},
    },
}  # fmt: skip
INNER = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders",
         "post_processor": "processors"}  # fmt: skip
MAX_DEPTH = 4


def check_keys(tokenizer: Fields, settings: Fields | None) -> None:
    """Raises `ModelFormatError` for the first key that is not known, or means what we do not do."""
    _refuse_others(tokenizer, "", tokenizer.values, TOP)
    tokenizer.refuse("version", "1.0")
    model = tokenizer.nested("model")
    if model is not None and (kind := model.text("type", "BPE")) in MODELS:
        keys = {key.removeprefix(model.prefix): value for key, value in model.values.items()}
        _refuse_others(tokenizer, "model.", keys, MODELS[kind])
    for key in PARTS:
        parts_of(tokenizer, key)
    for part in parts_of(tokenizer, "decoder"):
        _check_decoder(tokenizer, part)
    if settings is not None:
        check_settings(settings)
        _compare_prefix_space(tokenizer, settings)


def parts_of(tokenizer: Fields, key: str) -> list[Mapping[str, Any]]:
    """A part and all those inside of it; each of a known type, with known keys."""
    parts = list(_walk(tokenizer, key, tokenizer.raw(key, None)))
    known = PARTS[key]
    for part in parts:
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in known:
            names = ", ".join(sorted(known))
            raise tokenizer.error(key, f"{kind!r:.40} is not supported; supported are {names}.")
        _refuse_others(tokenizer, f"{key}.{kind}.", part, known[kind])
    return parts


def _walk(tokenizer: Fields, key: str, part: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if part is None:
        return
    if not isinstance(part, dict) or depth > MAX_DEPTH:
        raise tokenizer.error(key, "must be an object, or a Sequence of objects.")
    yield part
    if part.get("type") == "Sequence":
        inner = part.get(INNER[key])
        if not isinstance(inner, list):
            raise tokenizer.error(key, f"a Sequence must have a list of '{INNER[key]}'.")
        for item in inner:
            yield from _walk(tokenizer, key, item, depth + 1)


def _refuse_others(
    tokenizer: Fields, prefix: str, values: Mapping[str, Any], known: "frozenset[str] | set[str]"
) -> None:
    for name, value in values.items():
        if name not in known and value not in (None, False):
            raise tokenizer.error(
                f"{prefix}{name}", f"is a setting that is not known here (value {shown(value)})."
            )


def _check_decoder(tokenizer: Fields, part: Mapping[str, Any]) -> None:
    """Tokens are bytes here, whose spaces are spaces: a decoder that makes them something else
    would be passed over. Those of SentencePiece drop the first space of a text, which we keep."""
    kind, content = part["type"], part.get("content")
    ours = {
        "Replace": part.get("pattern") == {"String": SPACE} and content == " ",
        "Strip": content == " " and part.get("stop") == 0 and part.get("start") in (0, 1),
        "Metaspace": part.get("replacement") == SPACE,
    }
    if not ours.get(kind, True):
        raise tokenizer.error(f"decoder.{kind}", f"is not supported (value {shown(dict(part))}).")


def _compare_prefix_space(tokenizer: Fields, settings: Fields) -> None:
    """tokenizer.json is what the model's makers ran; transformers' classes differ over this one."""
    if "add_prefix_space" not in settings:
        return
    said = settings.boolean("add_prefix_space")
    is_done = any(map(_puts_a_space, parts_of(tokenizer, "normalizer"))) or any(
        map(_puts_a_space, parts_of(tokenizer, "pre_tokenizer"))
    )
    if said != is_done:
        logger.warning(
            "%s: 'add_prefix_space' is %s, but %s says otherwise, and counts",
            settings.path,
            str(said).lower(),
            tokenizer.path.name,
        )


def _puts_a_space(part: Mapping[str, Any]) -> bool:
    match part["type"]:
        case "Prepend":
            return True
        case "ByteLevel":
            return part.get("add_prefix_space", True) is True
        case "Metaspace":
            return bool(part.get("prepend_scheme", "always") != "never")
    return False
