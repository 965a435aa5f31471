"""Objects that come in several kinds, told apart by their `type`: one error for them, at one path.

    Item = Annotated[
        Annotated[Message, Tag("<message>")] | Annotated[Call, Tag("<call>")],
        *kinds("message", "call"),
    ]

The kind is looked at first, and then only its own model speaks, where pydantic's plain union would
report every branch. Tags stand in angle brackets so that they can be told from fields: pydantic
puts them into the paths of errors, and `thirdeye.server.api.requests.pydantic_errors` takes them
out again.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BeforeValidator, Discriminator

from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.requests.value_readers import fail, mapping

NO_WORDS: Mapping[str, str] = MappingProxyType({})


def kinds(
    *known: str,
    key: str = "type",
    default: str | None = None,
    code: str = "invalid_value",
    names_object: bool = False,
    instead: Mapping[str, str] = NO_WORDS,
) -> tuple[Discriminator, BeforeValidator]:
    """What makes a union of tagged models one field. `default` is the kind of an object without.

    An error names the object's `key`, or with `names_object` the object itself. `instead`: what to
    say of kinds that are not known.
    """

    def tag(value: Any) -> str:
        kind = value.get(key) if isinstance(value, dict) else getattr(value, key)
        return f"<{default if is_empty(kind) else kind}>"

    check = of_kind(
        *known, key=key, default=default, code=code, names_object=names_object, instead=instead
    )
    return Discriminator(tag), check


def of_kind(
    *known: str,
    key: str = "type",
    default: str | None = None,
    code: str = "invalid_value",
    names_object: bool = False,
    instead: Mapping[str, str] = NO_WORDS,
) -> BeforeValidator:
    """An object whose kind is a known one; see `kinds`."""
    names = ", ".join(f"'{name}'" for name in known)

    def check(value: object) -> object:
        given = mapping(value).get(key)
        kind = default if is_empty(given) else given
        if kind is None:
            fail("missing_required_parameter", "is missing.", f".{key}")
        if kind not in known:
            rule = instead.get(str(kind), f"must be {'one of ' if len(known) > 1 else ''}{names}.")
            fail(code, rule, "" if names_object else f".{key}")
        return value

    return BeforeValidator(check)


def is_tag(step: int | str) -> bool:
    """Whether a step of an error's location is a tag of such a union."""
    return isinstance(step, str) and step.startswith("<") and step.endswith(">")
