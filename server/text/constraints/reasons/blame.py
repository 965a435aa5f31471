"""Which keyword of a schema is to blame that nothing can be made of it, and what to do about it.

A compiler says of the whole that it failed. What it makes of the schema without one of its keywords
tells which one it was.
"""

from collections.abc import Callable

from thirdeye.server.text.constraints.json_schema import Schema, step_of
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS

UNFOLLOWABLE = (
    "cannot be followed: nothing satisfies it, or it needs a combination that is not supported."
)
_CONTRADICTS = (
    "contradicts what stands beside it: nothing satisfies both. Widen one of them, or leave it out."
)
_COUNTED = (
    "can be counted where all of 'properties' are required, none are listed, or few sets of them "
    "fit a closed object: list them in 'required', or leave it out."
)
_NO_REGEX = "is no regular expression of the syntax that is read here, which is Rust's."
_FRAME = {"$defs", "definitions", "type"}
_REASONS = {
    "maxProperties": _COUNTED,
    "minProperties": _COUNTED,
    "multipleOf": (
        "has too many digits, or no multiple of it lies in the range: use one of up to 9 digits, "
        "or wider bounds."
    ),
    "oneOf": (
        "has branches that one value may satisfy together, which cannot be told while it is "
        "written: use 'anyOf', or give each branch a 'const' of its own in a required property."
    ),
}
_FIRST = ("oneOf", "multipleOf", "maxProperties", "minProperties")  # what fails most often
_MAX_TRIED = 16


def to_blame(node: Schema, path: str, is_good: Callable[[Schema], bool]) -> tuple[str, str]:
    """(path, rule) of the keyword, or of the schema itself where it takes several.

    `is_good`: whether something can be made of a schema.
    """
    if "pattern" in node and not is_good({"type": "string", "pattern": node["pattern"]}):
        return f"{path}.pattern", _NO_REGEX
    words = [*(w for w in _FIRST if w in node), *(w for w in node if w not in _FIRST)]
    tried = [word for word in words if word not in ANNOTATIONS | _FRAME][:_MAX_TRIED]
    for word in tried:
        if is_good({name: value for name, value in node.items() if name != word}):
            return f"{path}{step_of(word)}", _REASONS.get(word, _CONTRADICTS)
    return path, UNFOLLOWABLE
