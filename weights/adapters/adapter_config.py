"""adapter_config.json as peft writes it: what changes the mathematics is obeyed or refused by name.

    y = W x + s B (A x),   s = alpha / rank, or alpha / sqrt(rank) where 'use_rslora' says so

Keys and their meaning are those of `LoraConfig` in peft 0.21. One that is not known here may only
hold what switches it off.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thirdeye.model.declare.lora import MAX_RANK
from thirdeye.weights.adapters.target_patterns import ModulePattern, find_pattern, is_named
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.strangers_pattern import too_much_of_all

CONFIG = "adapter_config.json"
MAX_BYTES = 1 << 20  # of it: it is read while others stream, and JSON is read in one piece
ALL_LINEAR = "all-linear"
# How A and B began, where the base stayed as it was; others begin by changing the base.
INITS = (True, False, "gaussian", "eva", "orthogonal")
# What says how it was trained, where it came from, or what another key switches on.
HARMLESS = frozenset(
    {
        *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
        *(
            "inference_mode",
            "lora_dropout",
            "fan_in_fan_out",
            "init_lora_weights",
            "layers_pattern",
        ),
        *("megatron_core", "qalora_group_size", "runtime_config", "eva_config"),
        "ensure_weight_tying",
    }
)
OBEYED = frozenset(
    {
        *("task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
        *("target_modules", "exclude_modules", "layers_to_transform", "bias"),
    }
)
INSTEAD = {  # of what is refused most often, what would work
    "use_dora": "merge it into its base with peft's 'merge_and_unload', and serve that",
    "modules_to_save": "merge it into its base with peft's 'merge_and_unload', and serve that",
    "bias": "train with 'bias': \"none\", or merge it into its base with 'merge_and_unload'",
    "lora_bias": "train without it, or merge it into its base with 'merge_and_unload'",
}
MERGE = "merge it into its base with peft's 'merge_and_unload', and serve that"


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """`rank` and `alpha` are of modules that no pattern names."""

    fields: Fields
    rank: int
    alpha: float
    is_rank_stabilized: bool
    ranks: Mapping[ModulePattern, int]
    alphas: Mapping[ModulePattern, float]
    base: str  # the name of the model that it was trained on; empty: it does not say

    def rank_of(self, module: str) -> int:
        return find_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        rank = self.rank_of(module)
        alpha = find_pattern(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilized else rank)

    def check_target(self, module: str) -> None:
        """Raises `ModelFormatError` for a module that the file has and the config leaves out."""
        fields = self.fields
        targets = fields.raw("target_modules", None)
        if targets != ALL_LINEAR and not is_named(fields, "target_modules", module):
            raise fields.error("target_modules", f"does not name {module}, of which are weights.")
        if "exclude_modules" in fields and is_named(fields, "exclude_modules", module):
            raise fields.error("exclude_modules", f"names {module}, of which there are weights.")
        layers = fields.raw("layers_to_transform", [])
        wanted = layers if isinstance(layers, list) else [layers]
        number = next((int(part) for part in module.split(".") if part.isdecimal()), None)
        if wanted and isinstance(targets, list) and number not in wanted:
            raise fields.error(
                "layers_to_transform", f"leaves out {module}, of which there are weights."
            )


def read_adapter_config(directory: Directory) -> AdapterConfig:
    """Raises `ModelFormatError`."""
    fields = directory.fields(CONFIG, MAX_BYTES)
    if fields is None:
        raise ModelFormatError(
            directory.path, f"is no adapter: there is no {CONFIG}. Give a folder that peft saved."
        )
    kind = fields.raw("peft_type", None)
    if kind != "LORA":
        raise fields.error("peft_type", f"must be LORA, got {shown(kind)}: {MERGE}.")
    if fields.raw("task_type", None) not in (None, "CAUSAL_LM"):
        raise fields.error(
            "task_type",
            f"must be CAUSAL_LM, got {shown(fields.raw('task_type'))}: it is for another head.",
        )
    for key in fields.values:
        _check(fields, key)
    alpha = fields.positive("lora_alpha", 8)
    return AdapterConfig(
        fields,
        rank=fields.integer("r", 8, high=MAX_RANK),
        alpha=alpha,
        is_rank_stabilized=fields.boolean("use_rslora", False),
        ranks=_by_pattern(fields, "rank_pattern", _rank),
        alphas=_by_pattern(fields, "alpha_pattern", Fields.positive),
        base=fields.optional_text("base_model_name_or_path") or "",
    )


def _check(fields: Fields, key: str) -> None:
    """What is neither obeyed nor harmless is off, or refused."""
    value = fields.values[key]
    if key == "init_lora_weights" and value is not None and value not in INITS:
        raise fields.error(
            key,
            f"{shown(value)} changes the base's weights: convert the adapter to plain LoRA "
            "(peft's 'path_initial_model_for_weight_conversion').",
        )
    if key == "bias" and value not in (None, "none"):
        raise fields.error(key, f'must be "none", got {shown(value)}: {INSTEAD[key]}.')
    if key not in HARMLESS | OBEYED and value not in (None, False, [], {}, ""):
        raise fields.error(key, f"is not supported (value {shown(value)}): {MERGE}.")


def _rank(fields: Fields, key: str) -> int:
    return fields.integer(key, high=MAX_RANK)


def _by_pattern(fields: Fields, key: str, read: Any) -> dict[ModulePattern, Any]:
    """A pattern of module names -> a value, in order: the first that fits counts."""
    nested = fields.nested(key)
    if nested is None:
        return {}
    names = [name.removeprefix(nested.prefix) for name in nested.values]
    if problem := too_much_of_all(names):
        raise fields.error(key, f"{problem}.")
    return {ModulePattern.of(fields, key, name): read(nested, name) for name in names}
