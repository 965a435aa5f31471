"""A low-rank adapter in peft's layout: a folder with adapter_config.json and its tensors.

Opening reads the config and the tensors' header, checks both against the base, and imports no
torch; the tensors come when they are asked for. Modules have the names that transformers gives them
whatever file the base came from.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import MAX_PIECES, LoraFactors, adaptable
from thirdeye.weights.adapters.adapter_config import MERGE, AdapterConfig, read_adapter_config
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.registry import by_architecture
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.safetensors import ShardEntry, list_tensors

TENSORS = "adapter_model.safetensors"
PREFIX = "base_model.model."
MAX_HEADER_BYTES = 1 << 21  # it is read while others stream; 5,000 modules have 1.5 MB
Pair = dict[str, ShardEntry]  # "A" and "B"
FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<which>[AB])(?:\.default)?\.weight$")


@dataclass(frozen=True, slots=True)
class AdaptedModule:
    """One module's two factors in the file, and where in the model they go."""

    name: str
    a: ShardEntry
    b: ShardEntry
    targets: tuple[TensorTarget, ...]
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def read(self) -> Iterator[LoraFactors]:
        """Imports torch."""
        a, b = self.a.read().float(), self.b.read().float() * self.scale
        for target in self.targets:
            rows = replace(target, is_transposed=False).apply(b)
            layer = target.name.removesuffix(".weight")
            yield LoraFactors(layer, target.part, a, rows)


@dataclass(frozen=True, slots=True)
class Adapter:
    path: Path
    config: AdapterConfig
    modules: tuple[AdaptedModule, ...]

    @property
    def max_rank(self) -> int:
        return max(module.rank for module in self.modules)

    @property
    def num_parameters(self) -> int:
        return sum(module.a.num_numbers + module.b.num_numbers for module in self.modules)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both files."""
        digest = hashlib.sha256(self.config.fields.path.read_bytes())
        with self.modules[0].a.shard.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    def factors(self) -> list[LoraFactors]:
        """Imports torch. Raises `ModelFormatError` for numbers that are not finite."""
        found = [factors for module in self.modules for factors in module.read()]
        for one in found:
            if not (one.a.isfinite().all() and one.b.isfinite().all()):
                raise ModelFormatError(
                    self.path / TENSORS, f"has numbers that are not finite, of {one.layer}."
                )
        return found


def open_adapter(path: Path, base: ModelConfig) -> Adapter:
    """For a base of this shape. Raises `ModelFormatError`."""
    if not path.is_dir():
        raise ModelFormatError(path, "no such folder. Give one that peft saved an adapter in.")
    config, file, pairs = find_pairs(Directory(path))
    modules = tuple(_module(name, pair, config, base) for name, pair in pairs.items())
    _check_layers(file, modules)
    return Adapter(path, config, modules)


def find_pairs(directory: Directory) -> tuple[AdapterConfig, Path, dict[str, Pair]]:
    """The config, the file of tensors, and the factors of each module. Raises
    `ModelFormatError`."""
    config = read_adapter_config(directory)
    file = directory.find(TENSORS)
    if file is None:
        raise ModelFormatError(
            directory.path,
            f"there is no {TENSORS}. Save the adapter with safetensors, as peft does.",
        )
    pairs: dict[str, Pair] = {}
    for name, entry in list_tensors([file], MAX_HEADER_BYTES).items():
        found = FACTOR.match(name)
        if found is None:
            raise entry.error(f"is no factor of a linear layer, and not supported: {MERGE}.")
        pairs.setdefault(found["module"].removeprefix(PREFIX), {})[found["which"]] = entry
    if not pairs:
        raise ModelFormatError(file, "holds no tensors.")
    return config, file, pairs


def _module(name: str, pair: Pair, config: AdapterConfig, base: ModelConfig) -> AdaptedModule:
    if len(pair) != 2:
        (which, entry), *_ = pair.items()
        raise entry.error(f"has no lora_{'B' if which == 'A' else 'A'} beside it.")
    a, b = pair["A"], pair["B"]
    for entry in (a, b):
        entry.check_dtype()
    targets = by_architecture(base.architecture).huggingface_names(base).place(f"{name}.weight")
    absent = a.error(f"is of a module that this model does not have ({base.architecture}).")
    if not targets:
        raise absent
    layers = adaptable(base)
    for target in targets:
        layer = layers.get(target.name.removesuffix(".weight"))
        if layer is not None and target.part not in (None, *layer.own()["weight"].parts):
            raise absent  # some layers of Gemma 4 project no values, or no keys either
        if layer is None:
            raise a.error(
                f"changes {target.name}: adapters may change linear layers of attention and of an "
                f"MLP that is not of experts. {MERGE[0].upper()}{MERGE[1:]}."
            )
    config.check_target(name)
    rank = config.rank_of(name)
    width = layers[targets[0].name.removesuffix(".weight")].in_features
    height = targets[0].num_stored_rows or sum(
        layers[target.name.removesuffix(".weight")].own()["weight"].shape(target.part)[0]
        for target in targets
    )
    for entry, shape in ((a, (rank, width)), (b, (height, rank))):
        if entry.shape != shape:
            raise entry.error(f"must have the shape {list(shape)}, got {list(entry.shape)}.")
    return AdaptedModule(name, a, b, tuple(targets), config.scale_of(name))


def _check_layers(file: Path, modules: tuple[AdaptedModule, ...]) -> None:
    """Each output of a layer is changed once."""
    seen: dict[str, list[str | None]] = {}
    for module in modules:
        for target in module.targets:
            parts = seen.setdefault(target.name, [])
            if target.part in parts or None in parts or (parts and target.part is None):
                raise ModelFormatError(file, "changes the same outputs twice.", field=module.name)
            parts.append(target.part)
            assert len(parts) <= MAX_PIECES
