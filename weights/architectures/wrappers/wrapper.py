"""What is said of a whole that sees or hears: where its text part's settings and tensors are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.formats.fields import Fields

Names = Callable[[NameTable], NameTable]
WITHIN = ("model.language_model.", "model.text_model.", "language_model.")
EYES = ("vision_tower.", "multi_modal_projector.")


def as_they_are(table: NameTable) -> NameTable:
    return table


def within(table: NameTable) -> NameTable:
    """The names that any text model's tensors have in a whole, whatever it has before its own."""
    inner = ["language_model." + prefix for prefix in table.prefixes]
    known = {
        *table.prefixes,
        *inner,
        "model.language_model.",
        "model.text_model.",
        "language_model.",
    }
    return replace(table, prefixes=tuple(sorted(known, key=len, reverse=True)))


@dataclass(frozen=True, slots=True)
class ServedPart:
    """Of a checkpoint: the settings of the model that reads and writes text, how the names of all
    other tensors begin, and what the whole calls differently."""

    fields: Fields
    unread: tuple[str, ...] = ()
    names: Names = as_they_are


Rebuild = Callable[[ServedPart], ServedPart]


@dataclass(frozen=True, slots=True)
class Wrapper:
    """`text`, `is_tied`: what transformers' class takes where the file does not say."""

    text: str  # the text part's `model_type`
    is_tied: bool | None  # whether the head is the embeddings; None: only the text part says it
    others: tuple[str, ...] = EYES  # how names begin that are not the text part's
    plain: Mapping[str, str] = field(default_factory=dict)  # text parts that are read as another's
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of these, where they differ
    is_flat: bool = False  # older files have the text part's settings beside all others
    within: str | None = None  # the part of the whole that has the text part in it
    text_key: str = "text_config"  # and where its settings are there
    rebuild: Rebuild | None = None  # what no setting can say

    @property
    def unread(self) -> tuple[str, ...]:
        return tuple(prefix + part for prefix in ("", "model.") for part in self.others)
