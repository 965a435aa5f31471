"""Flags and variables become `Settings`, each value checked against its row.

`thirdeye serve --max-num-seqs 8` and `THIRDEYE_MAX_NUM_SEQS=8 thirdeye serve` say the same; a flag
wins, and a variable holds several values with commas between them. What comes out is frozen.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from thirdeye.server.settings.environment import variables
from thirdeye.server.settings.setting import Group, Setting, settings_of
from thirdeye.server.settings.settings import GROUPS, Settings, all_settings

OneGroup = TypeVar("OneGroup", bound=Group)


def read_settings(options: Mapping[str, object] | None = None) -> Settings:
    """`options` are the flags that were given, by name. Raises `pydantic.ValidationError`."""
    checked = _checker().model_validate(variables() | dict(options or {}))
    groups: dict[str, Any] = {
        name: group(**{row.name: getattr(checked, row.name) for row in settings_of(group)})
        for name, group in GROUPS.items()
    }
    return Settings(**groups)


def read_group(group: type[OneGroup], options: Mapping[str, object]) -> OneGroup:
    """A group of its own, which no variable tells of. Raises `pydantic.ValidationError`."""
    rows = list(settings_of(group))
    checked = _model_of(rows).model_validate(dict(options))
    return group(**{row.name: getattr(checked, row.name) for row in rows})


@cache
def _checker() -> type[BaseModel]:
    return _model_of(all_settings())


def _model_of(rows: Iterable[Setting]) -> type[BaseModel]:
    """A model with a field for each row; pydantic's words are what the operator reads."""
    config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
    fields: dict[str, Any] = {row.name: (_type_of(row), row.default) for row in rows}
    return create_model("Settings", __config__=config, **fields)


def _type_of(row: Setting) -> Any:
    rule = row.rule
    if rule.choices:
        return Literal[tuple(rule.choices)]
    check = [AfterValidator(_told(rule.check))] if rule.check else []
    if row.is_many:
        limit = Field(pattern=rule.pattern) if rule.pattern else Field(min_length=1)
        return tuple[Annotated[str, limit, *check], ...]
    limits = Field(ge=rule.at_least, gt=rule.above, le=rule.at_most, pattern=rule.pattern)
    return Annotated[row.type, limits, *check]


def _told(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Its ValueError in its own words, without pydantic's in front."""

    def checked(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise PydanticCustomError("unusable", "{reason}", {"reason": str(error)}) from None

    return checked
