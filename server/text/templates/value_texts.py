"""Values as text, where a template prints them: `{{ x }}`, `x | string`, `a ~ b`, `x | tojson`.

Lists and objects are written as Python writes them, `['a', True]`, as `transformers` has it. The
callers' mark (`special_tokens.py`) has no printable form, so Python writes an escape in its place
there: it would no longer be found, and the model would read it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import soft_str

from thirdeye.server.text.templates.expanded_size import weighed
from thirdeye.server.text.templates.limits import listed
from thirdeye.server.text.templates.special_tokens import MARK

_NESTED = (list, tuple, Mapping)
_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|.)", re.DOTALL)  # a backslash of a text is written twice
_MARK = repr(MARK)[1:-1]
_LOOKS_IN = re.compile(r"\{[^{}]*[.\[]")
_NOT_ASCII = re.compile(f"[^\x00-\x7f{MARK}]")  # the mark is taken out later


def written(value: Any) -> Any:
    """The text of a list or an object; what is none is given back."""
    if isinstance(value, str) or not isinstance(value, _NESTED):
        return value
    text = str(value)
    return _ESCAPE.sub(_marked, text) if _MARK in text else text


def written_values(text: str, values: Any) -> Any:
    """The operands of `text % values`: a tuple is several, an object may be looked into."""
    if isinstance(values, tuple):
        return tuple(map(written, values))
    if isinstance(values, Mapping) and "%(" in text:
        return {key: written(value) for key, value in values.items()}
    return written(values)


def written_arguments(text: str, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The arguments of `text.format(...)`, unless it looks into them."""
    return dict(values) if _LOOKS_IN.search(text) else {k: written(v) for k, v in values.items()}


def printed(value: Any) -> Any:
    """What an expression prints. Raises `SecurityError` for what is too large."""
    return written(weighed(value))


def string(value: Any) -> str:
    """Jinja's filter."""
    return soft_str(written(value))


def plain_text(value: Any) -> str:
    """A part of `a ~ b`, which is plain text: what was `safe` in it does not escape the rest."""
    return "".join((str(printed(value)),))


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As HF's, by the same arguments: JSON for a model to read, so no HTML escapes, and `\\u` ones
    only where they are asked for."""
    text = json.dumps(
        listed(value),
        ensure_ascii=False,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    return _NOT_ASCII.sub(_escaped, text) if ensure_ascii else text


def _escaped(character: re.Match[str]) -> str:
    return json.dumps(character[0])[1:-1]


def _marked(escape: re.Match[str]) -> str:
    return MARK if escape[0] == _MARK else escape[0]
