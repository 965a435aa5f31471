"""From a config.json to the text part of what it describes.

Its settings stand in `text_config`, in older files beside all others, and what belongs to the other
senses is left where it is.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from thirdeye.weights.architectures.refused import why_refused
from thirdeye.weights.architectures.wrappers.table import WRAPPERS
from thirdeye.weights.architectures.wrappers.wrapper import ServedPart, Wrapper, within
from thirdeye.weights.formats.fields import Fields

SECTIONS = ("mrope_section", "mrope_interleaved", "xdrope_section")
SECTIONED = {"mrope": "default", "xdrope": "dynamic"}  # kinds of rotary positions, without sections


def text_part(fields: Fields) -> ServedPart:
    """The settings of the model that reads and writes text, which may be one of several. Raises
    `ModelFormatError` for a whole that is not known."""
    name = fields.text("model_type")
    wrapper = WRAPPERS.get(name)
    if wrapper is None:
        if "text_config" not in fields:
            return ServedPart(fields)
        if why := why_refused(name, WRAPPERS.keys()):
            raise fields.error("model_type", f"'{name}' is not supported: {why}.")
        served = ", ".join(WRAPPERS)
        problem = f"'{name:.60}' is not supported; of models that also see or hear, the text part "
        raise fields.error("model_type", f"{problem}is served of {served}.")
    text = _text(fields, wrapper)
    kind = text.text("model_type", wrapper.text)
    said: dict[str, Any] = {"model_type": kind} | _tied(fields, text, wrapper)
    if kind in wrapper.plain:
        missing = {key: value for key, value in wrapper.defaults.items() if key not in text}
        said |= missing | dict(_unsectioned(text)) | {"model_type": wrapper.plain[kind]}
    named = {text.prefix + key: value for key, value in said.items()}
    part = ServedPart(replace(text, values={**text.values, **named}), wrapper.unread, within)
    return part if wrapper.rebuild is None else wrapper.rebuild(part)


def _text(fields: Fields, wrapper: Wrapper) -> Fields:
    whole = fields
    if wrapper.within is not None:
        within = fields.nested(wrapper.within)
        if within is None:
            raise fields.error(wrapper.within, "is required and missing.")
        whole = within
    text = whole.nested(wrapper.text_key)
    if text is None and not wrapper.is_flat:
        raise whole.error(wrapper.text_key, "is required and missing.")
    return text or replace(fields, values={**fields.values, "model_type": wrapper.text})


def _tied(fields: Fields, text: Fields, wrapper: Wrapper) -> dict[str, Any]:
    """Whether the head is the embeddings: said for the whole, or of the part where the whole's
    class knows nothing of it."""
    if wrapper.is_tied is None:
        return {}
    is_tied = fields.boolean("tie_word_embeddings", wrapper.is_tied)
    is_tied = fields.boolean("tie_embedding", is_tied)  # LFM2-VL's name of it
    if wrapper.is_flat:  # transformers looks in both places
        is_tied = is_tied or text.boolean("tie_word_embeddings", False)
    return {"tie_word_embeddings": is_tied}


def _unsectioned(text: Fields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rotary settings without the sections of channels that text turns alike."""
    for key in ("rope_scaling", "rope_parameters"):
        settings = text.raw(key, None)
        if isinstance(settings, dict):
            kept = {k: v for k, v in settings.items() if k not in SECTIONS}
            kinds = {k: kept.get(k) for k in ("type", "rope_type")}
            yield key, kept | {k: SECTIONED[str(v)] for k, v in kinds.items() if v in SECTIONED}
