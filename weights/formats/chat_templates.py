"""The chat templates of a directory in Hugging Face layout: one for all, or several with names.

As in transformers, files come before tokenizer_config.json: `chat_template.jinja` is the one named
`default`, `additional_chat_templates/NAME.jinja` are the others, and one of them may be called so.
In tokenizer_config.json one is a string, several are a list, or an object of texts by name. Last,
what a processor of images keeps: chat_template.json. An empty text is no template.
"""

from collections.abc import Mapping

from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields

DEFAULT, TOOL_USE = "default", "tool_use"
KEY = "chat_template"
DEFAULT_FILE = "chat_template.jinja"
NAMED_DEFAULT_FILE = "additional_chat_templates/default.jinja"
TOOL_USE_FILE = "additional_chat_templates/tool_use.jinja"
PROCESSORS_FILE = "chat_template.json"
FILES = (DEFAULT_FILE, NAMED_DEFAULT_FILE, TOOL_USE_FILE, PROCESSORS_FILE)


def read_chat_templates(directory: Directory, settings: Fields | None) -> Mapping[str, str]:
    """Sources by name; only `default` and `tool_use` are looked for. `settings` is
    tokenizer_config.json. Raises ModelFormatError."""
    files = [  # a later one counts
        (DEFAULT, directory.text(DEFAULT_FILE)),
        (DEFAULT, directory.text(NAMED_DEFAULT_FILE)),
        (TOOL_USE, directory.text(TOOL_USE_FILE)),
    ]
    found = {name: text for name, text in files if text is not None and text.strip()}
    if DEFAULT in found:
        return found
    return (_named(settings) or _named(directory.fields(PROCESSORS_FILE))) | found


def _named(fields: Fields | None) -> dict[str, str]:
    value = fields.raw(KEY, None) if fields is not None else None
    if fields is None or value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value} if value.strip() else {}
    if isinstance(value, dict):
        value = [{"name": name, "template": text} for name, text in value.items()]
    if not isinstance(value, list):
        raise fields.error(KEY, "must be a string, or a list of named templates.")
    if not all(isinstance(item, dict) and type(item.get("name")) is str for item in value):
        raise fields.error(KEY, "has an entry without a 'name' that is a string.")
    if not all(type(item.get("template")) is str for item in value):
        raise fields.error(KEY, "has an entry without a 'template' that is a string.")
    named = {item["name"]: item["template"] for item in value}
    if DEFAULT not in named:
        names = ", ".join(named) or "none"
        raise fields.error(KEY, f"none of its templates is named '{DEFAULT}'; there are: {names}.")
    return named
