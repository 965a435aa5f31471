"""Every field of Ollama's requests: a table, strict and closed.

What chat and completions know too is checked by these, which is what a request becomes
(`thirdeye.server.api.ollama.as_ours`).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag, WithJsonSchema

from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.field_rules.unsupported_fields import OF_ROUTERS, Refusal
from thirdeye.server.api.ollama.field_types import Format, Texts
from thirdeye.server.api.ollama.sampling_options import NotHere, OllamaOptions
from thirdeye.server.api.openai.schema import MAX_MESSAGES, MAX_TOOL_CALLS, MODEL_WIDTH
from thirdeye.server.api.reasoning.reasoning_fields import Think
from thirdeye.server.api.requests.generation_fields import MAX_LOGPROBS, CommonHints
from thirdeye.server.api.requests.strict_model import MAX_INT, Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.tool_fields import MAX_TOOLS, NAME_PATTERN, CalledName

_NO_IMAGES = Refusal("text is all that is read")
NO_MODEL_SETTINGS: dict[str, Refusal] = {
    "context": Refusal("send the turns to /api/chat, or all of the text with 'raw'"),
    "height": Refusal("no images are made", neutral=(0,)),
    "images": _NO_IMAGES,
    "steps": Refusal("no images are made", neutral=(0,)),
    "suffix": Refusal("there is no fill-in-the-middle"),
    "template": Refusal(
        "the chat template is fixed when the server starts; 'raw' goes without one"
    ),
    "width": Refusal("no images are made", neutral=(0,)),
}


class OllamaRequest(CommonHints):
    """What every request about a model has. Models stay loaded: `keep_alive` is a hint."""

    names_model = True

    model: str | None = None
    keep_alive: AnyHint = None


class OllamaAsked(OllamaRequest):
    """What requests for an answer share. No prompt is cut and no context shifted."""

    refused = OF_ROUTERS

    stream: bool = True
    options: OllamaOptions = Field(default_factory=lambda: OllamaOptions.model_validate({}))
    format: Format = None
    think: Think = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    truncate: Annotated[bool | None, Hint((False,))] = None
    shift: Annotated[bool | None, Hint((False,))] = None


class OllamaTurn(Strict):
    content: str = ""
    images: Annotated[Any, NotHere(_NO_IMAGES)] = None


_ASSISTANTS = Refusal("an assistant's message has it")
_RESULTS = Refusal("a tool's message has it")


class OllamaPlainTurn(OllamaTurn):
    role: Literal["system", "user"]
    thinking: Annotated[Any, NotHere(_ASSISTANTS)] = None
    tool_calls: Annotated[Any, NotHere(_ASSISTANTS)] = None
    tool_name: Annotated[Any, NotHere(_RESULTS)] = None


class OllamaFunction(Strict):
    name: CalledName
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: int | None = None  # of calls of answers that come back


class OllamaCall(Strict):
    id: str | None = None
    type: Literal["function"] = "function"
    function: OllamaFunction


class OllamaAssistantTurn(OllamaTurn):
    role: Literal["assistant"]
    thinking: str | None = None
    tool_calls: list[OllamaCall] = Field(default_factory=list, max_length=MAX_TOOL_CALLS)


class OllamaToolTurn(OllamaTurn):
    """What a tool answered. The call that it belongs to may be named by id or by the function,
    whose older field is `name`."""

    role: Literal["tool"]
    tool_name: str | None = None
    name: str | None = None
    tool_call_id: str | None = None


Turn = Annotated[
    Annotated[OllamaPlainTurn, Tag("<system>")]
    | Annotated[OllamaPlainTurn, Tag("<user>")]
    | Annotated[OllamaAssistantTurn, Tag("<assistant>")]
    | Annotated[OllamaToolTurn, Tag("<tool>")],
    *kinds("system", "user", "assistant", "tool", key="role"),
]


class OllamaToolFunction(Strict):
    name: Annotated[str, Field(json_schema_extra={"pattern": NAME_PATTERN})]
    description: str | None = None
    parameters: Annotated[
        dict[str, Any] | None,
        WithJsonSchema({"type": "object", "properties": {"type": {"const": "object"}}}),
    ] = None


class OllamaTool(Strict):
    type: Literal["function"] = "function"
    function: OllamaToolFunction


class OllamaChatRequest(OllamaAsked):
    """Without messages nothing is asked: the answer says that the model is loaded."""

    messages: list[Turn] = Field(default_factory=list, max_length=MAX_MESSAGES)
    tools: list[OllamaTool] = Field(default_factory=list, max_length=MAX_TOOLS)


class OllamaGenerateRequest(OllamaAsked):
    """The prompt is a user's message, or with `raw` the text that is gone on with."""

    refused = OF_ROUTERS | NO_MODEL_SETTINGS

    prompt: str = ""
    system: str = ""
    raw: bool = False


class OllamaEmbedRequest(OllamaRequest):
    """`truncate`: a text that is too long loses its end; else it is refused."""

    input: Texts
    dimensions: int | None = Field(None, ge=1, le=MAX_INT, json_schema_extra=MODEL_WIDTH)
    truncate: bool = False
    options: AnyHint = None


class OllamaEmbeddingsRequest(OllamaRequest):
    """The older route, of one text."""

    prompt: str = Field(min_length=1)
    options: AnyHint = None


class OllamaShowRequest(OllamaRequest):
    other_names: ClassVar = {"name": "model"}

    verbose: Annotated[bool, Hint((False,))] = False
