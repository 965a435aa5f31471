"""The settings of the server's own process: its model, its socket, who may ask for what."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thirdeye.server.settings.api_keys import check_key, check_key_file, keys_in
from thirdeye.server.settings.bounds import MAX_N, MAX_STOPS
from thirdeye.server.settings.setting import setting


def check_json_object(text: str) -> str:
    """Raises ValueError."""
    try:
        is_object = isinstance(json.loads(text or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise ValueError("must be a JSON object")
    return text


def check_shown(name: str) -> str:
    """It stands in lines of the terminal and in answers. Raises ValueError."""
    if not name.isprintable():
        raise ValueError("a name has no line ends, control characters or marks of direction")
    return name


LOG_LEVELS = {"debug": "", "info": "a line for each request", "warning": "", "error": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Which model, and how it is shown."""

    title: ClassVar[str] = "Model"

    model: str | None = setting(
        None,
        "A catalog name, a directory, a .gguf file or a hub id like org/name:Q4_K_M",
        shown="smollm2",
    )
    hf_file: str | None = setting(
        None, "Which GGUF file of the hub's repository", unit="NAME", shown="by its quantization"
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of the hub's repository", unit="NAME", shown="main"
    )
    served_model_name: tuple[str, ...] = setting(
        (),
        "What clients may call the model; the first is shown, claude-* is many",
        check=check_shown,
        unit="NAME",
        shown="its own",
        is_common=True,
    )
    chat_template: Path | None = setting(
        None, "Jinja file used instead of the checkpoint's template", unit="FILE"
    )
    default_chat_template_kwargs: str = setting(
        "",
        'Variables of the chat template that no request names, like {"enable_thinking": false}',
        check=check_json_object,
        unit="JSON",
    )
    generation_config: str = setting(
        "model",
        "Sampling of requests that name none",
        choices={
            "model": "as the checkpoint suggests, else the API's defaults",
            "none": "the API's defaults",
        },
    )
    reasoning_format: str = setting(
        "auto",
        "How the model writes what it thinks",
        choices={
            "auto": "as its chat template tells, or its vocabulary",
            "none": "it does not: all text is the answer",
            "think": "`<think>` to `</think>`",
            "seed": "`<seed:think>` to `</seed:think>`",
            "mistral": "`[THINK]` to `[/THINK]`",
            "gemma4": "`<|channel>thought` to `<channel|>`",
            "granite": "sentences that say so",
            "granite33": "`<think>` to `</think>`, the answer between `<response>` marks",
            "harmony": "the channels of gpt-oss",
        },
    )
    tool_format: str = setting(
        "auto",
        "How the model writes tool calls",
        choices={
            "auto": "as its chat template tells, else hermes",
            "hermes": "Hermes, most of Qwen, Granite 4",
            "qwen_xml": "Qwen3-Coder, Qwen 3.5, Nemotron",
            "seed": "Seed-OSS",
            "glm": "GLM 4.5 and later",
            "granite": "Granite 3",
            "mistral": "a list of calls",
            "mistral11": "Mistral's later form, with [ARGS]",
            "llama": "Llama 3 and 4, JSON",
            "pythonic": "Llama 3.2 and 4, calls as in Python",
            "functionary": "Functionary 3.1, tags around JSON",
            "deepseek": "DeepSeek V3 and R1",
            "deepseek31": "DeepSeek V3.1",
            "deepseek32": "DeepSeek V3.2",
            "deepseek4": "DeepSeek V4",
            "gemma4": "Gemma 4",
            "kimi": "Kimi K2",
            "harmony": "gpt-oss",
        },
    )
    verify: bool = setting(
        False, "Before serving, compare the model's files with their published hashes"
    )
    yes: bool = setting(False, "Fetch the model without asking", letter="-y")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Where it listens, and how connections end."""

    title: ClassVar[str] = "Network"

    host: str = setting("127.0.0.1", "Address to bind", unit="ADDRESS", is_common=True)
    port: int = setting(
        8000, "Port to bind, 0 for any free one", at_least=0, at_most=65535, is_common=True
    )
    allow_host: tuple[str, ...] = setting(
        (),
        "Without a key, answer to this Host too, as a proxy passes it on; see deploy.md",
        pattern=r"^([A-Za-z0-9._-]+|[0-9A-Fa-f:]+)$",
        unit="NAME",
    )
    root_path: str = setting("", "Path prefix behind a proxy", pattern=r"^(/.*[^/])?$", unit="PATH")
    cors_origin: tuple[str, ...] = setting(
        (),
        "Let pages of this origin call; * is all",
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s]+)$",
        unit="ORIGIN",
    )
    sse_ping: float = setting(
        15.0, "Silence before a keep-alive comment, 0: none", at_least=0, unit="SECONDS"
    )
    send_timeout: float = setting(
        30.0, "How long a client may stop reading a stream", above=0, unit="SECONDS"
    )
    drain_delay: float = setting(
        0.0,
        "How long /ready says 503 after SIGTERM before requests are refused, too",
        at_least=0,
        unit="SECONDS",
    )
    drain_timeout: float = setting(
        30.0, "How long running answers go on after SIGTERM", at_least=0, unit="SECONDS"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may call, and how much."""

    title: ClassVar[str] = "Keys and rates"

    api_key: tuple[str, ...] = setting(
        (),
        "Require this key; better in a file",
        check=check_key,
        unit="KEY",
        is_secret=True,
        is_common=True,
    )
    api_key_file: Path | None = setting(
        None,
        "File of keys, one a line, with names and scopes if you like; read again on SIGHUP",
        unit="FILE",
        check=check_key_file,
    )
    caller_header: str | None = setting(
        None,
        "Header in which a key of scope gateway says whom it asks for; see operations.md",
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
        unit="NAME",
    )
    open_metrics: bool = setting(False, "Let /metrics be read without a key")
    requests_per_minute: int = setting(0, "Requests of each key, 0: any number", at_least=0)
    tokens_per_minute: int = setting(0, "Tokens of each key, 0: any number", at_least=0)
    concurrent_requests: int = setting(
        0, "Answers of each key under way at once, 0: any number", at_least=0
    )
    max_queue_time: float = setting(
        10.0,
        "Refuse whom the queue would keep waiting longer, 0: only a queue twice the batch",
        at_least=0,
        unit="SECONDS",
    )

    def api_keys(self) -> tuple[str, ...]:
        """Lines of keys from flags, the environment and the key file. Raises ValueError."""
        return self.api_key + (keys_in(self.api_key_file) if self.api_key_file else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """What a request may say."""

    title: ClassVar[str] = "Requests"

    lenient: bool = setting(False, "Name unknown fields in a header, do not refuse them")
    max_n: int = setting(MAX_N, "Most samples of a prompt", at_least=1, at_most=MAX_N)
    max_stop: int = setting(16, "Most stop strings", at_least=1, at_most=MAX_STOPS)
    max_choices: int = setting(1024, "Most prompts x samples of a request", at_least=1)
    require_model: bool = setting(False, "Refuse requests that name no model")
    inspect: str = setting(
        "intervene",
        "How far the model may be looked into",
        choices={
            "intervene": "read, and edited in runs of their own",
            "read": "patterns, the stream, what heads and neurons do",
            "off": "not at all",
        },
    )
    strict_max_tokens: bool = setting(False, "Refuse a max_tokens above the room")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How the server is made of processes, and what it tells of itself."""

    title: ClassVar[str] = "Processes and telemetry"

    engine: str = setting(
        "process",
        "Where the engine runs",
        choices={
            "process": "in its own: a crash takes down the engine alone",
            "thread": "in the server's",
        },
    )
    step_timeout: float = setting(
        300.0,
        "Restart an engine that is stuck in a step so long, 0: never",
        at_least=0,
        unit="SECONDS",
    )
    log_level: str = setting("info", "What is logged", choices=LOG_LEVELS)
    log_format: str = setting(
        "text",
        "How the log on stderr is written",
        choices={"text": "for people", "json": "an object a line, for what collects logs"},
    )
    access_log: bool = setting(False, "A log line for every HTTP request, refused ones too")
    vllm_metrics: bool = setting(False, "Show /metrics under vLLM's names, too")
    otlp_traces_endpoint: str | None = setting(
        None,
        "Send a trace of each request there, by OTLP over HTTP",
        pattern=r"^https?://\S+$",
        unit="URL",
    )
