"""What the API process knows of a checkpoint: it is described from its metadata, without torch.

The engine's process, built by `server/load/load_engine.py`, loads the weights.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from thirdeye.model.config import ModelConfig
from thirdeye.model.inspection.refusals import absent_points, refusals
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapters
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.api.state.identity import Identity
from thirdeye.server.api.state.server_state import LayerShape, ModelInfo, ServedModel
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.launch.model_template import ending_turns, make_template
from thirdeye.server.launch.read_design import design_of
from thirdeye.server.operators_file import read_operators_file
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.tools.form import MARKUP
from thirdeye.server.version import VERSION
from thirdeye.weights.catalog import CATALOG, DEFAULT
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.resolve import resolve_model
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]  # the rooms lie side by side, installed or not


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """All that the API process knows of a checkpoint: everything but its tensors. The file's own
    description, whose vocabulary is as large as the tokenizer made of it, is not kept."""

    path: Path
    config: ModelConfig
    fingerprint: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    template_variables: Mapping[str, object]
    names: tuple[str, ...]
    defaults: GenerationDefaults
    info: ModelInfo

    def serve(self, info: EngineInfo, adapters: LoadedAdapters | None = None) -> ServedModel:
        """The same model as the API shows it, once the engine is loaded."""
        who = identify(self.fingerprint, self.tokenizer, info)
        return ServedModel(
            names=tuple(name for name in self.names if not is_pattern(name)),
            name_patterns=tuple(filter(is_pattern, self.names)),
            tokenizer=self.tokenizer,
            template=self.template,
            template_variables=self.template_variables,
            max_model_len=info.max_model_len,
            created=int(time.time()),
            fingerprint=who.fingerprint,
            identity=who,
            info=self.info,
            defaults=self.defaults,
            adapters=adapters or LoadedAdapters(),
        )


def open_model(asked: CheckpointSettings) -> OpenedModel:
    """Find and describe the model. Raises ModelError, ChatTemplateError or OSError."""
    checkpoint = open_checkpoint(resolve_model(asked.model, asked.hf_file, asked.revision))
    tokenizer = checkpoint.tokenizer(never_from_text=MARKUP)
    source, tool_source = checkpoint.chat_template, checkpoint.tool_template
    if asked.chat_template is not None:
        source, tool_source = read_template(asked.chat_template), None
    template = (
        make_template(source, tool_source, tokenizer, asked.reasoning_format, asked.tool_format)
        if source
        else None
    )
    tokenizer = ending_turns(tokenizer, template)
    return OpenedModel(
        path=checkpoint.path,
        config=checkpoint.config,
        fingerprint=checkpoint.fingerprint,
        tokenizer=tokenizer,
        template=template,
        template_variables=template_variables(asked.default_chat_template_kwargs, template),
        names=served_names(asked, checkpoint),
        defaults=generation_defaults(asked, checkpoint),
        info=model_info(checkpoint),
    )


def generation_defaults(asked: CheckpointSettings, checkpoint: Checkpoint) -> GenerationDefaults:
    """What the checkpoint suggests, unless it is not to be asked. What cannot be obeyed is told."""
    if asked.generation_config == "none":
        return GenerationDefaults()
    suggested = checkpoint.suggested_sampling()
    if suggested.not_obeyed:
        logger.warning(
            "%s: its generation settings also say %s, which are not obeyed here",
            checkpoint.path,
            ", ".join(suggested.not_obeyed),
        )
    return msgspec.convert(suggested.said(), GenerationDefaults)


def template_variables(text: str, template: ChatTemplate | None) -> dict[str, object]:
    """What every prompt is rendered with, unless its request says otherwise. Raises
    ChatTemplateError for a name that the template does not read."""
    said: dict[str, object] = json.loads(text or "{}")
    known = template.variables if template else frozenset()
    for name in said.keys() - known:
        raise ChatTemplateError(
            f"'--default-chat-template-kwargs': '{name}' is not read by the model's chat template: "
            f"its variables are {', '.join(sorted(known)) or 'none'}."
        )
    return said


def read_template(path: Path) -> str:
    """Raises OSError, or ChatTemplateError."""
    try:
        return read_operators_file(path)
    except UnicodeDecodeError:
        raise ChatTemplateError(f"'--chat-template' {path} is not UTF-8.") from None


def served_names(asked: CheckpointSettings, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What clients may call the model: as the operator says, else its catalog, own and hub name.

    A name with `*` or `?` stands for many; the model has one without in any case.
    """
    if any(not is_pattern(name) for name in asked.served_model_name):
        return asked.served_model_name
    return (*own_names(asked.model, checkpoint), *asked.served_model_name)


def own_names(asked: str | None, checkpoint: Checkpoint) -> tuple[str, ...]:
    if known := DEFAULT if asked is None else CATALOG.get(asked):
        return (known.name, checkpoint.name, known.hub_id)
    if asked is not None and not Path(asked).exists():
        return (asked, checkpoint.name)
    return (checkpoint.name,)


def is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def model_info(checkpoint: Checkpoint) -> ModelInfo:
    config, formats = checkpoint.config, checkpoint.tensor_formats()
    tensor_format = max(formats, key=formats.__getitem__, default="")
    return ModelInfo(
        num_layers=config.num_hidden_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_heads if config.keeps_latents else config.num_kv_heads,
        hidden_size=config.hidden_size,
        parameters=asdict(parameter_counts(config)),
        architecture=checkpoint.architecture,
        file_format="safetensors" if checkpoint.path.is_dir() else "gguf",
        tensor_format=tensor_format,
        num_bytes=sum(checkpoint.tensor_sizes().values()),
        head_dim=config.value_dim_of(config.attending_layers[0])
        if config.keeps_latents
        else config.head_dim,
        num_neurons=config.intermediate_size,
        untold=refusals(config),
        absent=absent_points(config),
        shapes=layer_shapes(config),
        design=design_of(config, tensor_format),
    )


def layer_shapes(config: ModelConfig) -> tuple[LayerShape, ...]:
    """None, if all layers have one."""
    found = tuple(
        LayerShape(
            config.told_kv_heads_of(layer), config.value_dim_of(layer), config.mlp_size_of(layer)
        )
        for layer in range(config.num_hidden_layers)
    )
    return found if len({*found}) > 1 else ()


def identify(weights: str, tokenizer: Tokenizer, info: EngineInfo) -> Identity:
    """All that decides which tokens this server answers with; `weights` is their fingerprint."""
    return Identity(
        version=VERSION,
        build=build_digest(),
        weights=weights,
        tokenizer=tokenizer.fingerprint,
        numerics=f"{info.device} {info.dtype}, {info.numerics}",
    )


def build_digest() -> str:
    """SHA-256 over the sources that make tokens: a version's name outlives many changes of them."""
    digest = hashlib.sha256()
    for room in ("model", "server/engine", "server/text", "weights"):
        files = (path for end in ("py", "c", "h") for path in (ROOT / room).rglob(f"*.{end}"))
        for path in sorted(files):
            digest.update(f"{path.relative_to(ROOT).as_posix()} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
