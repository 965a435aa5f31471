"""The table of request fields in docs/api.md that are obeyed, made from the schemas themselves.

    python -m tests.api.requests.field_table     writes it anew; what a field does is kept, `?` asks
    for it

Ranges and defaults come from the pydantic models, so the page cannot say anything else: a test
holds the two together.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thirdeye.server.api.field_rules.hints import hints_of
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest, EmbeddingRequest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
START, END = "<!-- fields -->\n", "<!-- /fields -->\n"
ROUTES: dict[str, type[BaseModel]] = {
    "chat": ChatRequest,
    "completions": CompletionRequest,
    "embeddings": EmbeddingRequest,
}
HEAD = "| field | on | range | default | what it does |\n|---|---|---|---|---|\n"
Row = tuple[str, str, str, str]  # field, routes, range, default
Schema = dict[str, Any]


def rows() -> list[Row]:
    """Each field once for each range that it has, with the routes where it has it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for route, model in ROUTES.items():
        for key in fields_of(model):
            found.setdefault(key, []).append(route)
    table = [(field, ", ".join(on), what, default) for (field, what, default), on in found.items()]
    return sorted(table, key=lambda row: (row[3] != "required", row[0], row[1]))


def fields_of(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    schema = model.model_json_schema()
    hints = hints_of(model.model_fields)
    for name, field in schema["properties"].items():
        if name in hints:
            continue
        default = "required" if name in schema["required"] else _default(field)
        yield name, in_words(field, schema.get("$defs", {})), default


def _default(field: Schema) -> str:
    value = field.get("default")
    return f"`{json.dumps(value)}`" if value not in (None, [], {}) else "none"


def in_words(schema: Schema, defs: dict[str, Schema]) -> str:
    """`integer 0..20`, `string or list of at most 4 strings`."""
    if "$ref" in schema:
        return in_words(defs[schema["$ref"].rpartition("/")[2]], defs)
    options = [o for o in schema.get("anyOf", schema.get("oneOf", [])) if o != {"type": "null"}]
    if options:
        return " or ".join(dict.fromkeys(in_words(option, defs) for option in options))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{json.dumps(value)}`".replace('"', "") for value in values)
    kind = schema.get("type", "any value")
    if kind == "array":
        size = _span(schema.get("minItems"), schema.get("maxItems"))
        return f"list{size} of ({in_words(schema.get('items', {}), defs)})"
    low, high = _bounds(schema)
    return f"{' or '.join(kind) if isinstance(kind, list) else kind}{_span(low, high)}"


def _bounds(schema: Schema) -> tuple[Any, Any]:
    """Of numbers their values, of the rest their sizes; what 64 bits hold anyway is no bound."""
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']}", None
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength", schema.get("maxProperties")))
    return (None if low in (-(2**31), -(2**63)) else low), (
        None if high in (2**31 - 1, 2**63 - 1) else high
    )


def _span(low: Any, high: Any) -> str:
    if isinstance(low, str):
        return f" {low}"
    if low is None or high is None:
        return f" from {low}" if low is not None else f" to {high}" if high is not None else ""
    return f" {low}..{high}"


def written() -> dict[Row, str]:
    """The rows that stand on the page, and what they say about the field."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.partition(START)[2].partition(END)[0].removeprefix(HEAD).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {(c[0].strip("`"), c[1], c[2], c[3]): c[4] for c in cells}


def table(texts: dict[Row, str]) -> Iterable[str]:
    by_field = {row[:2]: text for row, text in texts.items()}
    for row in rows():
        field, on, what, default = row
        yield f"| `{field}` | {on} | {what} | {default} | {by_field.get(row[:2], '?')} |\n"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    body = "".join(table(written()))
    PAGE.write_text(f"{before}{START}{HEAD}{body}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
