"""What the HTTP side knows of the rest: is there a model, an engine, and is either well.

The server listens before the model is loaded and after it has begun to leave, so every handler asks
`serving()` first, which answers with the engine and the model or with the right 503.
"""

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Literal

from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapter, LoadedAdapters, plain_name
from thirdeye.server.api.admission.admission_control import AdmissionControl
from thirdeye.server.api.http.auth import ApiKeys
from thirdeye.server.api.http.rate_limits import Rates
from thirdeye.server.api.http.sse import OpenStreams
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.api.state.identity import Identity
from thirdeye.server.api.state.model_design import ModelDesign
from thirdeye.server.engine.interface.types import Engine
from thirdeye.server.errors import (
    InvalidRequest,
    ResourceNotFound,
    ServerOverloaded,
    ServiceUnavailable,
    come_back_in,
    draining,
    engine_down,
    engine_failed,
)
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tokenizer import TokenizerLike

STEP_OVERDUE_SECONDS = 60.0
Capability = Literal["completion", "tools", "thinking"]


class Phase(StrEnum):
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Of one layer that attends; `num_neurons`: of its MLP."""

    num_kv_heads: int
    head_dim: int
    num_neurons: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the model is made of, for those who look inside."""

    num_layers: int = 0
    num_heads: int = 0
    num_kv_heads: int = 0
    hidden_size: int = 0
    parameters: Mapping[str, int] = field(default_factory=dict)  # part -> weights and biases
    architecture: str = ""  # by the checkpoint's own name for it
    file_format: str = ""
    tensor_format: str = ""  # what most of the tensors are stored in
    num_bytes: int = 0  # of all tensors, as they are stored
    head_dim: int = 0
    num_neurons: int = 0  # of a layer's MLP
    untold: Mapping[str, str] = field(default_factory=dict)  # what a look cannot tell -> why
    # Where an edit could be made -> the layers that do not have it.
    absent: Mapping[str, frozenset[int]] = field(default_factory=dict)
    shapes: tuple[LayerShape, ...] = ()  # of each layer, where they differ
    design: ModelDesign = field(default_factory=ModelDesign)

    def num_kv_heads_of(self, layer: int) -> int:
        return self.shapes[layer].num_kv_heads if self.shapes else self.num_kv_heads

    def head_dim_of(self, layer: int) -> int:
        return self.shapes[layer].head_dim if self.shapes else self.head_dim

    def key_dim_of(self, layer: int) -> int:
        """Of a head's query and key; `head_dim_of` is of its value."""
        latent = self.design.latent
        return self.head_dim_of(layer) if latent is None else latent.key_dim

    def num_neurons_of(self, layer: int) -> int:
        return self.shapes[layer].num_neurons if self.shapes else self.num_neurons

    @property
    def kv_heads_of_layers(self) -> list[int]:
        """How many each layer has."""
        return [self.num_kv_heads_of(layer) for layer in range(self.num_layers)]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The one model this server serves, as the API sees it."""

    names: tuple[str, ...]  # the first is the model's own, the others are aliases
    tokenizer: TokenizerLike
    template: ChatTemplate | None
    max_model_len: int
    created: int  # unix seconds
    fingerprint: str
    identity: Identity = field(default_factory=Identity)  # what the fingerprint is short for
    info: ModelInfo = field(default_factory=ModelInfo)
    name_patterns: tuple[str, ...] = ()  # with `*` and `?`: what else it answers to
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    template_variables: Mapping[str, object] = field(default_factory=dict)  # that nobody names
    adapters: LoadedAdapters = field(default_factory=LoadedAdapters)  # names of their own

    @property
    def all_names(self) -> tuple[str, ...]:
        """What a caller may say, patterns as they are."""
        return (*self.names, *self.adapters.names, *self.name_patterns)

    @property
    def reads_thoughts(self) -> bool:
        """Whether a prompt can hold thoughts of earlier answers."""
        return self.template is not None and self.template.reads_thoughts

    def check_name(self, name: str | None) -> None:
        """Raises `ResourceNotFound` for a name that is not served."""
        self.resolve(name)

    def resolve(self, name: str | None) -> str:
        """The name that an answer shows: the model's first for a caller who names none.

        Upper case and `:latest` do not matter where one name alone is meant. Raises
        `ResourceNotFound` for a name that is not served.
        """
        return self.names[0] if not name else named(name, [self])[1]

    def adapter_of(self, name: str | None) -> LoadedAdapter | None:
        """The adapter that a served name means; None: the model itself. Raises
        `ResourceNotFound`."""
        return self.adapters.get(self.resolve(name))

    def check_base(self, name: str | None) -> None:
        """Where adapters are not looked into. Raises `ResourceNotFound` for a name that is not
        served, `InvalidRequest` for an adapter's."""
        if self.adapter_of(name) is not None:
            raise InvalidRequest(
                f"'model' must be a model here, and names an adapter: say '{self.names[0]}'.",
                param="model",
                code="unsupported_value",
            )

    def check_token_id(self, token_id: int, param: str) -> None:
        """Raises `InvalidRequest` for an id outside the vocabulary."""
        vocab_size = self.tokenizer.vocab_size
        if not 0 <= token_id < vocab_size:
            raise InvalidRequest(
                f"'{param}' must be a token id between 0 and {vocab_size - 1}, got {token_id}.",
                param=param,
                code="invalid_value",
            )

    def check_token_ids(self, token_ids: Sequence[int], param: str) -> None:
        """Each of them, named by its place; looked at one by one only if one is wrong."""
        if min(token_ids, default=0) >= 0 and max(token_ids, default=0) < self.tokenizer.vocab_size:
            return
        for i, token_id in enumerate(token_ids):
            self.check_token_id(token_id, f"{param}[{i}]")


def named(name: str, models: Sequence[ServedModel]) -> tuple[ServedModel, str]:
    """The model of several that a name means, and the name that an answer shows. Raises
    `ResourceNotFound`."""
    for model in models:
        if name in model.names or model.adapters.get(name) is not None:
            return model, name
    for model in models:
        if any(_matches(name, pattern) for pattern in model.name_patterns):
            return model, name
    plain = plain_name(name)
    near = [
        (one, known)
        for one in models
        for known in (*one.names, *one.adapters.names)
        if plain_name(known) == plain
    ]
    if len(near) == 1:
        return near[0]
    served = ", ".join(name for one in models for name in one.all_names)
    raise ResourceNotFound(f"No such model; served are: {served}.", code="model_not_found")


def capabilities_of(model: ServedModel) -> list[Capability]:
    found: list[Capability] = ["completion"]
    if model.template is not None:
        found.append("tools")
        if model.template.reasoning_form is not None:
            found.append("thinking")
    return found


def _matches(name: str, pattern: str) -> bool:
    """`*` is any text and `?` one character; brackets are themselves."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


class ServerState:
    """The server's phase and what it serves. Written by whoever starts and stops it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = Phase.LOADING
        self.detail = "starting"
        self.engine: Engine | None = None
        self.model: ServedModel | None = None
        self.admission = AdmissionControl(clock=clock)
        self.rates = Rates()
        self.keys = ApiKeys(())
        self.streams = OpenStreams()
        self.is_withdrawn = False  # serves on, and wants no new traffic
        self.name = ""  # of a model that is not loaded
        self.shares_rates = False  # with other models: who holds them counts whom they refuse
        self.startup_seconds: dict[str, float] = {}  # by phase

    @property
    def in_flight(self) -> int:
        """Answers under way."""
        return self.admission.in_flight

    async def close_engine(self) -> None:
        if self.engine is not None:
            await self.engine.close()

    def load(self) -> None:
        """Its engine is being started."""
        self.phase, self.detail = Phase.LOADING, "starting"

    def sleep(self) -> None:
        """Its engine is gone, and may be started again."""
        self.engine = None
        self.phase, self.detail = Phase.LOADING, "asleep"

    def ready(self, engine: Engine, model: ServedModel) -> None:
        self.engine, self.model = engine, model
        self.admission.max_num_seqs = engine.info.max_num_seqs
        self.phase, self.detail = Phase.READY, ""

    def fail(self, reason: str) -> None:
        self.phase, self.detail = Phase.FAILED, reason

    def withdraw(self) -> None:
        """From now on `/ready` says no, and requests are served all the same: whoever routes by it
        has time to see that before they are refused."""
        self.is_withdrawn = True

    def drain(self) -> None:
        self.phase, self.detail = Phase.DRAINING, "the server is shutting down"

    def check_ready(self) -> None:
        """Raises `ServiceUnavailable` if it wants no traffic now."""
        self.serving()
        if self.is_withdrawn:
            raise draining("The server is about to shut down: send new requests elsewhere.")

    def serving(self) -> tuple[Engine, ServedModel]:
        """The engine and the model, ready to work. Raises `ServiceUnavailable`."""
        if self.phase is Phase.DRAINING:
            raise draining("The server is shutting down and takes no new requests.")
        if self.phase is Phase.LOADING:
            raise ServiceUnavailable(
                f"Loading model: {self.detail}.",
                code="model_loading",
                headers=come_back_in(2),
            )
        if self.engine is None or self.model is None or self.phase is Phase.FAILED:
            raise engine_failed()
        if not self.engine.is_alive:
            raise engine_down(self.engine.restart_eta)
        return self.engine, self.model

    def check_room(self, caller: str, headers: MutableMapping[str, str]) -> None:
        """Raises what any request of this caller would hear, whatever is in its body: 503, its
        key's limits or a full queue. `headers` gets what its key has left."""
        self.serving()
        self.rates.open(caller, headers)
        self.admission.check()

    def is_full(self) -> bool:
        """Whether a request would be told to come back later, if it were as small as can be."""
        return self.phase is Phase.READY and self.admission.is_full()

    def refusal(self) -> ServerOverloaded | None:
        """What the full queue says to the next one, which is counted: what `check_room` raises
        where no key has limits. None: somebody may get in, or something else is in the way."""
        if not self.is_full() or self.model is None or self.engine is None:
            return None
        return self.admission.refusal() if self.engine.is_alive else None

    def trouble(self) -> str | None:
        """Why no request can be answered now, or None. Does not judge slowness: see `health`."""
        if self.phase is Phase.FAILED:
            return self.detail
        if self.engine is not None and not self.engine.is_alive:
            return "the engine is " + ("dead" if self.engine.restart_eta is None else "restarting")
        return None

    def health(self) -> str | None:
        """Why this server should be replaced, or None if it is well (or still loading)."""
        if trouble := self.trouble():
            return trouble
        if self.phase is Phase.DRAINING:
            return self.detail
        if self.engine is not None and self.engine.stalled_seconds() > STEP_OVERDUE_SECONDS:
            return "requests are queued and the engine has stopped stepping"
        return None
