"""Tools as coding agents declare them: many, with the schema keywords that their generators leave.

What zod, pydantic and servers of MCP write is here: `$schema`, `propertyNames`, unions with null,
formats of numbers, defaults, notes for editors.
"""

from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT: dict[str, Any] = {"type": "string"}

Schema = dict[str, Any]


def _object(required: str, **properties: Any) -> Schema:
    return {
        "$schema": DRAFT,
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


RUN = _object(
    "command",
    command=TEXT | {"description": "What the shell runs"},
    timeout={"type": "number", "exclusiveMinimum": 0, "maximum": 600000, "description": "ms"},
    run_in_background={"type": "boolean", "default": False},
    env={"type": "object", "propertyNames": TEXT, "additionalProperties": TEXT},
)
READ = _object(
    "file_path",
    file_path=TEXT,
    offset={"type": "integer", "minimum": 0, "maximum": 9007199254740991, "format": "int64"},
    limit={"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]},
    pages=TEXT | {"pattern": r"^\d+(-\d+)?$", "markdownDescription": "As `1-5`"},
)
EDIT = _object(
    "file_path edits",
    file_path=TEXT,
    edits={
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": _object("old_text new_text", old_text=TEXT, new_text=TEXT),
    },
)
PLAN = _object(
    "steps",
    steps={
        "type": "array",
        "items": _object(
            "step status",
            step=TEXT | {"minLength": 1},
            status={"type": "string", "enum": ["pending", "in_progress", "completed"]},
        ),
    },
    explanation={"type": ["string", "null"]},
)
FETCH = _object("url", url=TEXT | {"format": "uri"}, headers={"not": {}}, body={"nullable": True})
TRACKER: Schema = {  # a server of MCP in front of somebody's REST API
    "type": "object",
    "properties": {
        "issue": {"type": "integer", "format": "int32", "examples": [12], "deprecated": False},
        "parent": {
            "oneOf": [
                {"type": "object", "properties": {"page_id": {"type": "string"}}},
                {"type": "object", "properties": {"database_id": {"type": "string"}}},
            ]
        },
        "labels": {"$ref": "#/$defs/Labels"},
        "state": {"enum": ["open", "closed", None], "enumDescriptions": ["a", "b", "none"]},
    },
    "dependentRequired": {"state": ["issue"]},
    "$defs": {"Labels": {"type": "array", "items": TEXT, "contains": TEXT}},
}
SCHEMAS: dict[str, Schema] = {
    "run": RUN,
    "read_file": READ,
    "edit_file": EDIT,
    "update_plan": PLAN,
    "fetch": FETCH,
    "mcp__tracker__list.issues/of-a-repository_with_every_filter_that_the_service_knows": TRACKER,
    "list_tools": {"type": "object", "properties": {}},
    "done": {},
}


def functions(**fields: Any) -> list[dict[str, Any]]:
    """As chat has them."""
    return [
        {"type": "function", "function": {"name": n, "description": n, "parameters": s} | fields}
        for n, s in SCHEMAS.items()
    ]


def flat_functions(**fields: Any) -> list[dict[str, Any]]:
    """As Responses has them."""
    return [
        {"type": "function", "name": name, "description": name, "parameters": schema} | fields
        for name, schema in SCHEMAS.items()
    ]


def input_tools(**fields: Any) -> list[dict[str, Any]]:
    """As Messages has them."""
    return [
        {"name": name, "description": name, "input_schema": schema} | fields
        for name, schema in SCHEMAS.items()
    ]
