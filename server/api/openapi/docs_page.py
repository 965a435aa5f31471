"""The page at `/docs`: what the OpenAPI document says, as one plain page, and a try of each route.

The page is whole without its script (`server/web/docs.js`), which only sends what is in a box.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.admin.pages import page
from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.openapi.descriptions import A_HINT
from thirdeye.server.api.openapi.inner_descriptions import inner_descriptions

Schema = dict[str, Any]
_SHOWN_VALUES = 8  # of an enum
_NO_BOUND = 2**31 - 1  # what an integer of the engine holds anyway


def docs_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    last: tuple[bytes, bytes] | None = None  # the document as it is sent, and its page

    @router.get("/docs", response_model=None)
    async def docs(request: Request) -> Response:
        """Made once for each document: it costs 5 ms, and anybody may ask for it."""
        nonlocal last
        document: bytes = request.app.document_bytes()
        if last is None or last[0] is not document:
            last = document, docs_page(request.app).encode()
        return page(last[1], "text/html")

    return router


def docs_page(app: FastAPI) -> str:
    """Each operation with its fields and a box to try it."""
    found = app.openapi()  # with this server's model and limits in it
    sections = [
        _operation(method, path, operation, found["components"]["schemas"])
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>thirdeye API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/web/style/base.css">'
        '<script type="module" src="/web/docs.js"></script>'
        '<body class="docs"><h1>thirdeye API</h1>'
        '<p>The same as a document: <a href="/openapi.json">/openapi.json</a>. '
        'The chat page: <a href="/">/</a>.</p>'
        "<p><label>API key, where the server wants one: "
        '<input id="key" type="password" autocomplete="off"></label></p>'
        + "".join(sections)
        + "</body></html>"
    )


def _operation(method: str, path: str, operation: Schema, schemas: dict[str, Schema]) -> str:
    title = f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    title += f"<p>{escape(operation['description'])}</p>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if not body:
        return title + ("" if "{" in path else _trial(method, path, None))
    schema = schemas[body["schema"]["$ref"].rpartition("/")[2]]
    trial = _trial(method, path, body["example"]) if "example" in body else ""
    return title + trial + _fields(schema, schemas)


def _trial(method: str, path: str, example: Schema | None) -> str:
    text = "" if example is None else json.dumps(example, indent=1, ensure_ascii=False)
    rows = text.count("\n") + 2
    box = f'<textarea aria-label="Body" rows="{rows}">{escape(text)}</textarea>' if text else ""
    return (
        f'<details class="trial" data-method="{method.upper()}" data-path="{escape(path)}">'
        f"<summary>Try it</summary>{box}"
        '<p><button type="button">Send</button></p><pre hidden></pre></details>'
    )


def _fields(schema: Schema, schemas: dict[str, Schema]) -> str:
    return f"<table>{''.join(_rows(schema, schemas))}</table>"


def _rows(schema: Schema, schemas: dict[str, Schema], inside: str = "") -> Iterator[str]:
    """A row for each field, behind one that is an object those of its own."""
    required = schema.get("required", [])
    fields = schema["properties"].items()
    for name, field in sorted(fields, key=lambda item: (item[0] not in required, _rank(item[1]))):
        yield (
            f"<tr><td><code>{escape(inside + name)}</code></td><td>{escape(kind_of(field))}</td>"
            f"<td>{'required' if name in required else _default(field)}</td>"
            f"<td>{escape(_told(field))}</td></tr>"
        )
        if not inside and (inner := _described_object(field, schemas)):
            yield from _rows(inner, schemas, f"{name}.")


def _described_object(field: Schema, schemas: dict[str, Schema]) -> Schema | None:
    """What the field is an object of, if words are known for what it holds."""
    options = (field, *field.get("anyOf", ()))
    refs = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
    return schemas[refs[0]] if len(refs) == 1 and refs[0] in inner_descriptions() else None


def _told(field: Schema) -> str:
    """Its description, or one of its kinds'."""
    options = (field, *field.get("anyOf", ()))
    return next((str(found["description"]) for found in options if "description" in found), "")


def _rank(field: Schema) -> bool:
    """What is obeyed stands before hints and what is refused."""
    return _told(field).startswith((A_HINT, "Not supported"))


def _default(field: Schema) -> str:
    """The default, where there is one that says something."""
    for option in (field, *field.get("anyOf", ())):
        if (value := option.get("default")) not in (None, [], {}):
            return escape(json.dumps(value))
    return ""


def kind_of(field: Schema) -> str:
    """A field's type and range in a few words; that it may be left empty goes without
    saying."""
    return " or ".join(dict.fromkeys(kind for kind in _kinds(field) if kind != "null")) or "null"


def _kinds(field: Schema) -> Iterator[str]:
    if isinstance(options := field.get("anyOf", field.get("oneOf")), list):
        for option in options:
            if not all(map(is_empty, option.get("enum", [False]))):
                yield from _kinds(option)
    elif "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        told = [json.dumps(value) for value in values[:_SHOWN_VALUES] if value not in (None, "")]
        yield ", ".join(told) + (", …" if len(values) > _SHOWN_VALUES else "") or "null"
    elif field.get("type") == "array":
        items = kind_of(field.get("items", {}))
        yield f"list{_span(field, 'Items')} of {items}"
    else:
        yield _plain(field)


def _plain(field: Schema) -> str:
    kind = field.get("type", "object" if "$ref" in field else "value")
    word = " or ".join(kind) if isinstance(kind, list) else str(kind)
    size = {"string": "Length", "object": "Properties"}.get(word)
    return word + (_span(field, size) if size else _between(field, "minimum", "maximum"))


def _span(field: Schema, what: str) -> str:
    return _between(field, f"min{what}", f"max{what}")


def _between(field: Schema, low: str, high: str) -> str:
    least, most = (
        None if value is not None and abs(value) >= _NO_BOUND else value
        for value in (field.get(low), field.get(high))
    )
    if least is None and most is None:
        return ""
    return f" {'' if least is None else least}..{'' if most is None else most}"
