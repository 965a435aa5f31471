"""Tools that callers run by a schema of Anthropic's: a request names the type alone, and models of
theirs know the rest. A model here is told: what each takes, as its callers read it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClientToolKind:
    description: str
    input_schema: dict[str, Any]


def _object(required: tuple[str, ...], **properties: Schema) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _whole(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _commands(*names: str) -> Schema:
    return {"type": "string", "enum": list(names), "description": "What to do"}


_RANGE: Schema = {
    "type": "array",
    "items": {"type": "integer"},
    "minItems": 2,
    "maxItems": 2,
    "description": "For 'view' of a file: its first and last line, counted from 1; -1 is the end",
}
_BASH = ClientToolKind(
    "Runs a command in a shell that stays open from call to call, and gives what it printed.",
    _object(
        (),
        command=_text("The command; needed unless the shell is restarted"),
        restart={"type": "boolean", "description": "Starts the shell anew"},
    ),
)
_EDITS: dict[str, Schema] = {
    "path": _text("Of a file or a folder, from the root"),
    "file_text": _text("For 'create': what the file holds"),
    "old_str": _text("For 'str_replace': what stands in the file, once"),
    "insert_line": _whole("For 'insert': the line behind which they go; 0 is the beginning"),
    "view_range": _RANGE,
}
_EDIT_WORDS = ("view", "create", "str_replace", "insert")
_REPLACED = "For 'str_replace': what stands there then"
_INSERTED = "For 'insert': the new lines"


def _editor(words: Schema, **new: Schema) -> ClientToolKind:
    return ClientToolKind(
        "Shows, makes and changes files of text. 'view' shows a file or lists a folder.",
        _object(("command", "path"), command=words, **_EDITS, **new),
    )


_OLDER_EDITOR = _editor(
    _commands(*_EDIT_WORDS, "undo_edit"), new_str=_text(f"{_REPLACED}. {_INSERTED}")
)
_EDITOR = _editor(_commands(*_EDIT_WORDS), new_str=_text(_REPLACED), insert_text=_text(_INSERTED))


_MEMORY = ClientToolKind(
    "Keeps notes from one conversation to the next, as files below /memories.",
    _object(
        ("command",),
        command=_commands(*_EDIT_WORDS, "delete", "rename"),
        path=_text("Below /memories; for all but 'rename'"),
        old_path=_text("For 'rename': what it is called"),
        new_path=_text("For 'rename': what it is to be called"),
        new_str=_text(_REPLACED),
        insert_text=_text(_INSERTED),
        **{name: about for name, about in _EDITS.items() if name != "path"},
    ),
)


def _kinds() -> Iterator[tuple[str, ClientToolKind]]:
    for day in ("20241022", "20250124"):
        yield f"bash_{day}", _BASH
        yield f"text_editor_{day}", _OLDER_EDITOR
    for day in ("20250429", "20250728"):
        yield f"text_editor_{day}", _EDITOR
    yield "memory_20250818", _MEMORY


CLIENT_TOOLS: dict[str, ClientToolKind] = dict(_kinds())
