"""What a tokenizer puts in front of a text and behind it: BOS, EOS, or as [gMASK]<sop> several."""

from collections.abc import Iterable, Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields

Ids = tuple[int, ...]


def read_affixes(
    processors: Iterable[Mapping[str, Any]],
    settings: Fields | None,
    bos: int | None,
    eos: int | None,
) -> tuple[Ids, Ids]:
    """Ids in front and behind. `add_bos_token` and `add_eos_token` of tokenizer_config.json
    (`settings`) count before the post-processor's steps."""
    prefix, suffix = Ids(), Ids()
    for step in processors:
        before, behind = _of_step(step)
        prefix, suffix = before + prefix, suffix + behind
    return (
        _said(settings, "add_bos_token", bos, prefix),
        _said(settings, "add_eos_token", eos, suffix),
    )


def _said(settings: Fields | None, key: str, token_id: int | None, otherwise: Ids) -> Ids:
    if settings is None or key not in settings:
        return otherwise
    return (token_id,) if settings.boolean(key) and token_id is not None else ()


def _of_step(step: Mapping[str, Any]) -> tuple[Ids, Ids]:
    kind = step.get("type")
    if kind == "TemplateProcessing":
        return _of_template(step)
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = step.get("cls"), step.get("sep")
        if isinstance(cls, list) and isinstance(sep, list):
            return _integers(cls[1:]), _integers(sep[1:])
    return (), ()


def _of_template(step: Mapping[str, Any]) -> tuple[Ids, Ids]:
    """Of the template for one text: each item a special token, or the text."""
    parts: tuple[list[int], list[int]] = ([], [])
    tokens, single = step.get("special_tokens"), step.get("single")
    is_behind = False
    for item in single if isinstance(single, list) else ():
        if not isinstance(item, dict):
            continue
        is_behind |= "Sequence" in item
        name = item.get("SpecialToken", {}).get("id")
        found = tokens.get(name) if isinstance(tokens, dict) and isinstance(name, str) else None
        if isinstance(found, dict):
            parts[is_behind].extend(_integers(found.get("ids")))
    return tuple(parts[0]), tuple(parts[1])


def _integers(value: object) -> Ids:
    items = value if isinstance(value, list) else []
    return tuple(item for item in items if type(item) is int)
