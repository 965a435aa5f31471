"""What `/api/tags`, `/api/show`, `/api/ps` and `/api/version` answer."""

from msgspec import Struct

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.state.server_state import Capability


class OllamaDetails(Struct):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(Struct, kw_only=True):
    """`size` is in bytes."""

    name: str
    model: str
    modified_at: str
    size: Count
    digest: str
    details: OllamaDetails


class OllamaModels(Struct):
    models: list[OllamaModel]


class OllamaRunning(Struct, kw_only=True):
    name: str
    model: str
    size: Count
    digest: str
    details: OllamaDetails
    expires_at: str
    size_vram: Count
    context_length: Count


class OllamaProcesses(Struct):
    models: list[OllamaRunning]


class OllamaShown(Struct, kw_only=True):
    """`template` is Jinja, as the checkpoint has it."""

    parameters: str
    template: str
    details: OllamaDetails
    model_info: JsonObject
    capabilities: list[Capability]
    modified_at: str


class OllamaVersion(Struct):
    """`version` is the edition of Ollama's API, `thirdeye` this server's own."""

    version: str
    thirdeye: str
