"""What a tokenizer puts in front of a text and behind it: BOS, EOS, or as [gMASK]<sop> several."""

from collections.abc import Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.tokenizers.hugging_face.known_keys import parts_of

Ids = tuple[int, ...]


def read_affixes(
    tokenizer: Fields, settings: Fields | None, bos: int | None, eos: int | None
) -> tuple[Ids, Ids]:
    """Ids in front and behind. `add_bos_token` and `add_eos_token` of tokenizer_config.json
    (`settings`) count before the post-processor's steps."""
    steps = [_of_step(tokenizer, step) for step in parts_of(tokenizer, "post_processor")]
    adding = [step for step in steps if any(step)]
    if len(adding) > 1:
        raise tokenizer.error("post_processor", "has two steps that add tokens; one is supported.")
    prefix, suffix = adding[0] if adding else (Ids(), Ids())
    return (
        _said(settings, "add_bos_token", bos, prefix),
        _said(settings, "add_eos_token", eos, suffix),
    )


def _said(settings: Fields | None, key: str, token_id: int | None, otherwise: Ids) -> Ids:
    if settings is None or key not in settings:
        return otherwise
    return (token_id,) if settings.boolean(key) and token_id is not None else ()


def _of_step(tokenizer: Fields, step: Mapping[str, Any]) -> tuple[Ids, Ids]:
    if step["type"] == "TemplateProcessing":
        return _of_template(tokenizer, step)
    if step["type"] in ("BertProcessing", "RobertaProcessing"):
        cls, sep = (_integers(_item(tokenizer, step.get(key), list)[1:]) for key in ("cls", "sep"))
        return cls, sep
    return (), ()


def _of_template(tokenizer: Fields, step: Mapping[str, Any]) -> tuple[Ids, Ids]:
    """Of the template for one text: each item a special token, or the text."""
    parts: tuple[list[int], list[int]] = ([], [])
    tokens = _item(tokenizer, step.get("special_tokens") or {}, dict)
    texts = 0
    for item in _item(tokenizer, step.get("single"), list):
        kind, named = next(iter(_item(tokenizer, item, dict).items()), ("", {}))
        if kind == "Sequence":
            texts += 1
            continue
        name = _item(tokenizer, named, dict).get("id")
        token = tokens.get(name) if isinstance(name, str) else None
        parts[texts > 0].extend(_integers(_item(tokenizer, token, dict).get("ids")))
    if texts != 1:
        raise tokenizer.error("post_processor", f"has the text {texts} times in its template.")
    return tuple(parts[0]), tuple(parts[1])


def _item(tokenizer: Fields, value: object, kind: type) -> Any:
    if not isinstance(value, kind):
        raise tokenizer.error("post_processor", f"{shown(value)} is not what is expected there.")
    return value


def _integers(value: object) -> Ids:
    items = value if isinstance(value, list) else []
    return tuple(item for item in items if type(item) is int)
