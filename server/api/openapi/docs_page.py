"""The page at `/docs`: what the OpenAPI document says, as one plain page."""

from html import escape

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.admin.pages import page
from thirdeye.server.api.openapi.document import document


def docs_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_model=None)
    async def docs(request: Request) -> Response:
        return page(docs_page(request.app).encode(), "text/html")

    return router


def docs_page(app: FastAPI) -> str:
    """The endpoints of the OpenAPI document and the fields of each, as one plain page."""
    found = document(app)
    sections = [
        _endpoint(method, path, operation, found["components"]["schemas"])
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>thirdeye API</title>'
        '<link rel="stylesheet" href="/web/style.css"><body class="docs"><h1>thirdeye API</h1>'
        '<p>The same as a document: <a href="/openapi.json">/openapi.json</a>. '
        'The chat page: <a href="/">/</a>.</p>' + "".join(sections) + "</body></html>"
    )


def _endpoint(
    method: str, path: str, operation: dict[str, object], schemas: dict[str, dict[str, object]]
) -> str:
    title = f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    name = _body_schema(operation)
    return title + (_fields(schemas[name]) if name else "")


def _body_schema(operation: dict[str, object]) -> str:
    """The name of the request's schema, "" if it has no body."""
    body = operation.get("requestBody")
    if not isinstance(body, dict):
        return ""
    return str(body["content"]["application/json"]["schema"]["$ref"]).rpartition("/")[2]


def _fields(schema: dict[str, object]) -> str:
    properties, required = schema["properties"], schema.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{'required' if name in required else ''}</td></tr>"
        for name, field in properties.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _kind(field: dict[str, object]) -> str:
    """A field's type and range in a few words."""
    if isinstance(options := field.get("anyOf"), list):
        return " or ".join(dict.fromkeys(_kind(option) for option in options))
    kind = str(field.get("type") or field.get("const") or field.get("$ref", "value"))
    low, high = field.get("minimum"), field.get("maximum")
    if low is None and high is None:
        return kind.rpartition("/")[2]
    return f"{kind} {'' if low is None else low}..{'' if high is None else high}"
