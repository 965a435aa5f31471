"""Fields that are hints: taken, checked, and named in `X-Ignored-Params`.

    cache_control: AnyHint = None
    verbosity: Annotated[Literal["low", "medium"] | None, Hint(neutral=("medium",))] = None

A hint says how the caller would like to be served and not what the answer is: an answer without it
is as right as one with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic.fields import FieldInfo

from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.field_rules.same_value import is_one_of


@dataclass(frozen=True, slots=True)
class Hint:
    """Marks a field of a request. Values in `neutral` ask for what happens anyway, and those with
    nothing in them for nothing."""

    neutral: tuple[object, ...] = ()

    def is_asked(self, value: object) -> bool:
        """Whether the value asks for something, which the answer will not have."""
        return not is_empty(value) and not is_one_of(value, self.neutral)


AnyHint = Annotated[Any, Hint()]
Switch = Annotated[Any, Hint((False,))]  # off unless it is asked for


def hints_of(fields: Mapping[str, FieldInfo]) -> dict[str, Hint]:
    """The hints among a model's fields, by the names that callers use."""
    return {
        field.alias or name: mark
        for name, field in fields.items()
        for mark in field.metadata
        if isinstance(mark, Hint)
    }
