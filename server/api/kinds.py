"""Objects that come in several kinds, told apart by their `type`: one error for them, at one path.

    Item = Annotated[
        Annotated[Message, Tag("<message>")] | Annotated[Call, Tag("<call>")],
        *kinds("message", "call"),
    ]

The kind is looked at first, and then only its own model speaks, where pydantic's plain union would
report every branch. Tags stand in angle brackets so that they can be told from fields: pydantic
puts them into the paths of errors, and `server.api.validation` takes them out again.
"""

from typing import Any

from pydantic import BeforeValidator, Discriminator

from server.api.fields import fail, json_type


def kinds(
    *known: str, default: str | None = None, code: str = "invalid_value", at: str = ".type"
) -> tuple[Discriminator, BeforeValidator]:
    """What makes a union of tagged models one field. `default` is the kind of an object without.

    `at` leads from the object to what the error names: its type, or "" for the object itself.
    """

    def tag(value: Any) -> str:
        kind = value.get("type", default) if isinstance(value, dict) else value.type
        return f"<{kind}>"

    return Discriminator(tag), of_kind(*known, default=default, code=code, at=at)


def of_kind(
    *known: str, default: str | None = None, code: str = "invalid_value", at: str = ".type"
) -> BeforeValidator:
    """An object whose type is a known one; see `kinds`."""
    names = ", ".join(f"'{name}'" for name in known)

    def check(value: object) -> object:
        if not isinstance(value, dict):
            fail("invalid_type", f"must be an object, got {json_type(value)}.")
        kind = value.get("type", default)
        if kind is None:
            fail("missing_required_parameter", "is missing.", ".type")
        if kind not in known:
            fail(code, f"must be {'one of ' if len(known) > 1 else ''}{names}.", at)
        return value

    return BeforeValidator(check)


def is_tag(step: int | str) -> bool:
    """Whether a step of an error's location is a tag of such a union."""
    return isinstance(step, str) and step.startswith("<") and step.endswith(">")
