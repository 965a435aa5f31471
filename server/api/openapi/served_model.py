"""The served model in the OpenAPI document: its names, its layers, and which token ids it has.

Before a model is there, the document holds for any model; after that it is exact for this one. The
schemas mark what depends on it: a field named `model`, the formats `token-id`,
`layer-number`, `head-number` and `model-width`.
Receipts are left alone: another server's may be sent here, to hear that it is another's.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from thirdeye.server.api.requests.decimals import decimal_up_to
from thirdeye.server.api.state.generation_defaults import FILLED, SAMPLED
from thirdeye.server.api.state.server_state import ServedModel

Document = dict[str, Any]


def show_model(document: Document, model: ServedModel | None) -> Document:
    """A copy of the document, which knows the model if there is one."""
    document = deepcopy(document)
    if model is None:
        return document
    largest = model.tokenizer.vocab_size - 1
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if name.endswith("Request") and "model" in schema.get("properties", {}):
            if not model.name_patterns:
                name_models(schema, model.names)
            _show_defaults(schema["properties"], model.defaults.said())
    ours = {name: schema for name, schema in schemas.items() if not name.startswith("Receipt")}
    for node in _nodes(ours):
        if node.get("format") == "token-id":
            node["maximum"] = largest
        if node.get("format") == "layer-number":
            node["maximum"] = model.info.num_layers - 1
        if node.get("format") == "head-number":
            node["maximum"] = model.info.num_heads - 1
        if node.get("format") == "model-width":
            node["minimum"] = node["maximum"] = model.info.hidden_size
        if node.get("propertyNames", {}).get("format") == "token-id":
            node["propertyNames"] = {"pattern": f"^({decimal_up_to(largest)})$"}
    return document


def name_models(schema: Document, names: Sequence[str]) -> None:
    """The names as they are shown; the server is not particular about upper case. An empty one is
    one that is not given, where it need not be."""
    field = schema["properties"]["model"]
    nothing = [] if "model" in schema.get("required", []) else [""]
    for option in field.get("anyOf", [field]):
        if option.get("type") == "string":
            option["enum"] = [*names, *nothing]


def _show_defaults(fields: Document, defaults: dict[str, object]) -> None:
    """What the model suggests counts where a request says nothing."""
    for name in fields.keys() & defaults.keys() & {*SAMPLED, *FILLED}:
        for place in (fields[name], *fields[name].get("anyOf", [])):
            if "default" in place:
                place["default"] = defaults[name]


def _nodes(node: object) -> Iterator[Document]:
    """Every object in a JSON value."""
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _nodes(child)
