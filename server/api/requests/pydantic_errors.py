"""Pydantic's findings as one of our errors: the first problem, in one sentence, at one path.

The only place that knows pydantic's error vocabulary. Unknown fields are reported before types and
ranges. Numbers come back in the message, text never does.
"""

from typing import Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.known_names import names_at
from thirdeye.server.api.field_rules.other_names import as_sent, with_our_names
from thirdeye.server.api.field_rules.suggestions import suggestion
from thirdeye.server.api.field_rules.unsupported_fields import drop_refused
from thirdeye.server.api.http.json_body import JsonObject
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import is_tag
from thirdeye.server.api.requests.value_readers import json_type, printable
from thirdeye.server.errors import InvalidRequest

Model = TypeVar("Model", bound=Strict)
Location = tuple[int | str, ...]

_TYPES = {
    "bool_type": "a boolean",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "an array",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
_NUMBERS = ("int_type", "float_type", "finite_number")
_LENGTHS = {
    "string_too_long": "string_above_max_length",
    "string_too_short": "empty_string",
    "too_long": "array_above_max_length",
    "too_short": "array_below_min_length",
}
_UNSUPPORTED_CHOICES = ("service_tier",)
_ROLES = "system, developer, user, assistant, tool, function"
_ROLE_TAGS = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def parse(model: type[Model], body: JsonObject, ignored: Ignored | None = None) -> Model:
    """The body as `model`. Raises `InvalidRequest` naming the first field that is wrong.

    Hints are named in `ignored`, and unknown fields if it is lenient; else these are wrong, too.
    """
    given, sent = with_our_names(drop_refused(body, model.refused), model.other_names)
    with as_sent(sent):
        try:
            return model.model_validate(given, context=ignored)
        except ValidationError as error:
            # The errors' own texts and inputs are never shown.
            details = error.errors(include_url=False)
            raise translate(min(details, key=_rank), model) from None


def _rank(error: ErrorDetails) -> bool:
    """Unknown fields first; otherwise in the order of the schema."""
    return error["type"] != "extra_forbidden"


def translate(error: ErrorDetails, model: type[Strict]) -> InvalidRequest:
    """One pydantic error in the words of the error table."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    location = _without_tags(error["loc"])
    path = _path(location)
    if kind == "extra_forbidden":
        return _unknown(path, error["loc"], model)
    if kind == "missing":
        return missing(path)
    if kind == "refused":
        path += context["path"]
        return _bad(path, context["code"], f"'{path}' {context['rule']}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _role(f"{path}.role", value)
    if kind in _TYPES:
        got = _what(value, wants_number=kind in _NUMBERS)
        return _bad(path, "invalid_type", f"'{path}' must be {_TYPES[kind]}, got {got}.")
    if kind in _LENGTHS:
        return _length(path, kind, context)
    if kind == "literal_error":
        return _choice(path, context)
    if kind == "none_required":
        return _bad(path, "unsupported_parameter", f"'{path}' is not supported here: only null is.")
    return _range(path, kind, value, context, _bounds(model, location))


def missing(path: str) -> InvalidRequest:
    return _bad(path, "missing_required_parameter", f"Missing required parameter '{path}'.")


def _bad(path: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=path, code=code)


def _without_tags(location: Location) -> Location:
    """Drop what pydantic adds: what chose a message's or an item's model, the mark of a key."""
    kept: list[int | str] = []
    for i, step in enumerate(location):
        is_role = i == 2 and location[0] == "messages" and step in _ROLE_TAGS
        if not (is_role or is_tag(step)) and step != "[key]":
            kept.append(step)
    return tuple(kept)


def _path(location: Location) -> str:
    """`messages[2].role`. Names come from the caller, so a long one is cut."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{printable(step[:64])}"
    return path.removeprefix(".")


def _unknown(path: str, tagged: Location, model: type[Strict]) -> InvalidRequest:
    options = names_at(model, ("options",)) if len(tagged) == 1 else ()
    hint = suggestion(str(tagged[-1]), names_at(model, tagged[:-1]), options)
    return _bad(path, "unknown_parameter", f"Unknown parameter '{path}'{hint}")


def _role(path: str, value: object) -> InvalidRequest:
    role = value.get("role") if isinstance(value, dict) else None
    if role is None:
        return missing(path)
    if not isinstance(role, str):
        return _bad(path, "invalid_type", f"'{path}' must be a string, got {json_type(role)}.")
    return _bad(path, "invalid_value", f"'{path}' must be one of {_ROLES}.")


def _what(value: object, wants_number: bool) -> str:
    """Numbers are shown where a number is wanted: what is wrong with one is its value."""
    if wants_number and isinstance(value, float):
        return f"{value:g}"
    return "a number too large" if wants_number and type(value) is int else json_type(value)


def _length(path: str, kind: str, context: dict[str, Any]) -> InvalidRequest:
    code = _LENGTHS[kind]
    if kind.startswith("string"):
        limit = context.get("max_length")
        rule = f"be at most {limit} characters long" if limit else "not be an empty string"
        return _bad(path, code, f"'{path}' must {rule}.")
    if context.get("field_type") == "Dictionary":
        code = "object_above_max_properties"
    limit = context.get("max_length")
    side = "at least 1 item" if limit is None else f"at most {limit} items"
    return _bad(path, code, f"'{path}' must hold {side}, got {context['actual_length']}.")


def _choice(path: str, context: dict[str, Any]) -> InvalidRequest:
    code = "unsupported_value" if path in _UNSUPPORTED_CHOICES else "invalid_value"
    return _bad(path, code, f"'{path}' must be {context['expected']}.")


def _range(
    path: str, kind: str, value: object, context: dict[str, Any], bounds: tuple[object, object]
) -> InvalidRequest:
    """`'n' must be between 1 and 16, got 130.`"""
    low, high = bounds
    number = "decimal" if isinstance(next(iter(context.values()), 0), float) else "integer"
    side = "above_max" if kind.startswith("less_than") else "below_min"
    if low is None and high is None:  # inside another field, where only the broken side is known
        low, high = context.get("ge"), context.get("le")
    if low is None:
        rule = f"at most {high}" if high is not None else "within range"
    else:
        rule = f"at least {low}" if high is None else f"between {low} and {high}"
    if kind == "greater_than":
        rule = f"greater than {context['gt']:g}"
    return _bad(path, f"{number}_{side}_value", f"'{path}' must be {rule}, got {_number(value)}.")


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int) and abs(value) < 10**20 else "a larger number"


def _bounds(model: type[BaseModel], location: Location) -> tuple[object, object]:
    """The field's lowest and highest value, as its declaration has them."""
    field = model.model_fields.get(str(location[0])) if len(location) == 1 else None
    low: object = None
    high: object = None
    for rule in field.metadata if field else []:
        if isinstance(rule, Ge):
            low = rule.ge
        elif isinstance(rule, Gt):
            low = rule.gt
        elif isinstance(rule, Le):
            high = rule.le
    return low, high
