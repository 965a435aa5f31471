"""What every request's model is made of: strict (no coercion, no NaN), closed (an unknown field is
an error), and what asks for nothing is "not given". A model also says which fields it knows and
cannot obey.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from thirdeye.server.api.field_rules.hints import Hint, hints_of
from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.field_rules.unsupported_fields import Refusal
from thirdeye.server.api.requests.value_readers import json_type

MAX_INT = 2**31 - 1


def lowered(value: object) -> object:
    """A limit above what any model can do is as good as the largest that is counted with."""
    return MAX_INT if type(value) is int and value > MAX_INT else value


def limit_schema(fewest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": fewest})


Limit = Annotated[int, Field(ge=1), BeforeValidator(lowered), limit_schema(1)]
LimitOrOff = Annotated[int, Field(ge=0), BeforeValidator(lowered), limit_schema(0)]
LimitOrAny = Annotated[int, Field(ge=-1), BeforeValidator(lowered), limit_schema(-1)]

TokenId = Annotated[int, Field(ge=0, le=MAX_INT, json_schema_extra={"format": "token-id"})]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    refused: ClassVar[Mapping[str, Refusal]] = {}  # known, and taken only where they ask nothing
    names_model: ClassVar[bool] = False  # its `model` is what an answer comes from
    other_names: ClassVar[Mapping[str, str]] = {}  # other servers' names of fields
    _hints: ClassVar[Mapping[str, Hint]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._hints = hints_of(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        """The names of hints go into the context, and those of unknown fields if it is lenient.
        Else the first of these is kept, to be refused: a body may hold a hundred thousand."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name: name for name, field in cls.model_fields.items()}
        unknown = [name for name in value if name not in known]
        ignored: Ignored = info.context or Ignored()
        ignored.names.update(
            name for name, hint in cls._hints.items() if hint.is_asked(value.get(name))
        )
        if ignored.is_lenient:
            ignored.names.update(unknown)
        elif unknown:
            known[unknown[0]] = ""
        return {
            name: item
            for name, item in value.items()
            if name in known and not (is_empty(item) and asks_nothing(cls, known[name], item))
        }


def asks_nothing(model: type[Strict], name: str, value: Any) -> bool:
    """Of an empty value of a field (an unknown one has no name): null always does, the others where
    the field may be left out and has no meaning of its own for them, as a choice has none for an
    empty text."""
    if not name:
        return False
    if value is None:
        return True
    return not model.model_fields[name].is_required() and not _means(model, name, json_type(value))


@cache
def _means(model: type[Strict], name: str, kind: str) -> bool:
    """Whether a field takes the empty value of a kind."""
    field = model.model_fields[name]
    wanted: Any = field.annotation
    if field.metadata:
        wanted = Annotated[wanted, *field.metadata]
    try:
        TypeAdapter(wanted).validate_python({"string": "", "array": [], "object": {}}[kind])
    except ValidationError:
        return False
    return True
