"""What models with Mamba-2's layers share: their settings and their tensors' names.

One tensor projects a gate z, what is convolved (x, B and C) and each head's step dt, in this order;
the model has what is convolved first. transformers keeps the logarithm of how fast a head forgets,
llama.cpp the number itself, as a column,
and a norm's weights group by group.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import MAX_KERNEL, MAX_STATE_SIZE, Mamba2Spec
from thirdeye.weights.architectures.common.limits import MAX_HEADS
from thirdeye.weights.architectures.common.name_table import Reorder, TensorTarget, with_bias
from thirdeye.weights.architectures.states.delta_net import decay_of
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

Targets = Mapping[str, TensorTarget | tuple[TensorTarget, ...]]
UNLIMITED = (0, math.inf)
INFINITY = (math.inf, {"__float__": "Infinity"}, "Infinity", "inf")  # what JSON cannot say
NONE: Mapping[str, float] = {}
TOLD_BY_TENSORS = ("ssm_conv1d.bias", "ssm_in.bias", "ssm_out.bias", "ssm_norm.weight")


def spec_of(fields: Fields, key: str, **settings: Any) -> Mamba2Spec:
    """`key`: the setting to name where they do not fit together."""
    try:
        return Mamba2Spec(**settings)
    except ValueError as error:
        raise fields.error(key, f"does not fit the others: {error}") from None


def refuse_step_limits(fields: Fields, key: str = "time_step_limit") -> None:
    """Between which steps are cut: transformers cuts those of a prompt and not an answer's."""
    limits = fields.raw(key, UNLIMITED)
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise fields.error(key, "must be two numbers.")
    low, high = (math.inf if limit in INFINITY else limit for limit in limits)
    if (low, high) != UNLIMITED:
        raise fields.error(key, "cuts the steps of a state, which is not supported.")


def mamba2(config: ModelConfig) -> Mamba2Spec:
    """Of a model that has one, or of no size where every layer attends."""
    return config.state if isinstance(config.state, Mamba2Spec) else Mamba2Spec(1, 1, 1, 1, 2)


def head_size(fields: Fields, width: int, num_heads: int, key: str = "mamba_d_head") -> int:
    """Of one of so many heads, which are so wide together."""
    size = fields.raw(key, "auto")
    if size != "auto":
        size = fields.integer(key, high=MAX_STATE_SIZE)
    if width % num_heads or size not in ("auto", width // num_heads):
        raise fields.error(key, f"must be {width} by {num_heads}: the width of all heads.")
    return width // num_heads


def projection(
    spec: Mamba2Spec, leaf: str, layer: str, scales: Mapping[str, float] = NONE
) -> tuple[TensorTarget, ...]:
    """Of a stored projection, the rows that are each part's, times its scale."""
    shared = spec.num_groups * spec.state_size
    sizes = {"z": spec.width, "x": spec.width, "B": shared, "C": shared, "dt": spec.num_heads}
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))

    def between(first: int, size: int) -> Reorder:
        return lambda rows: rows[first : first + size]

    return tuple(
        TensorTarget(
            f"{layer}.project.{leaf}",
            part,
            reorder=between(starts[part], size),
            num_stored_rows=sum(sizes.values()),
            scale=scales.get(f"{part}.bias" if leaf == "bias" else part, 1.0),
        )
        for part, size in sizes.items()
    )


def huggingface_layer(
    spec: Mamba2Spec, layer: str = "blocks.{i}.attention", scales: Mapping[str, float] = NONE
) -> Targets:
    """transformers' names, which start behind the module's."""
    heads, output = f"{layer}.heads", TensorTarget(f"{layer}.output.weight")
    both = with_bias({"out_proj.weight": replace(output, scale=scales.get("out", 1.0))})
    return {
        **{f"in_proj.{leaf}": projection(spec, leaf, layer, scales) for leaf in ("weight", "bias")},
        "conv1d.weight": TensorTarget(f"{layer}.conv.weight", is_depthwise=True),
        "conv1d.bias": TensorTarget(f"{layer}.conv.bias"),
        "A_log": TensorTarget(f"{heads}.decay", reorder=decay_of),
        "dt_bias": TensorTarget(f"{heads}.shift"),
        "D": TensorTarget(f"{heads}.skip"),
        "norm.weight": TensorTarget(f"{layer}.norm.weight"),
        **both,
    }


def gguf_layer(spec: Mamba2Spec, layer: str = "blocks.{i}.attention") -> Targets:
    """llama.cpp's names, which start behind the layer's."""
    heads = f"{layer}.heads"
    return {
        **{f"ssm_in.{leaf}": projection(spec, leaf, layer) for leaf in ("weight", "bias")},
        "ssm_conv1d.weight": TensorTarget(f"{layer}.conv.weight"),
        "ssm_conv1d.bias": TensorTarget(f"{layer}.conv.bias"),
        "ssm_a": TensorTarget(f"{heads}.decay", num_pieces=spec.num_heads),
        "ssm_d": TensorTarget(f"{heads}.skip", num_pieces=spec.num_heads),
        "ssm_dt.bias": TensorTarget(f"{heads}.shift"),
        "ssm_norm.weight": TensorTarget(f"{layer}.norm.weight", num_pieces=spec.num_groups),
        **with_bias({"ssm_out.weight": TensorTarget(f"{layer}.output.weight")}),
    }


def gguf_spec(fields: Fields, file: GGUFFile, layers: Sequence[int]) -> Mamba2Spec:
    """`layers`: those with a state."""
    heads = fields.integer("ssm.time_step_rank", high=MAX_HEADS)
    inner = fields.integer("ssm.inner_size", high=MAX_HEADS * MAX_STATE_SIZE)
    if inner % heads:
        raise fields.error("ssm.inner_size", f"must be a multiple of {heads} heads, got {inner}.")
    first = f"blk.{min(layers, default=0)}"
    has = {name: f"{first}.{name}" in file.tensors for name in TOLD_BY_TENSORS}
    return spec_of(
        fields,
        "ssm.time_step_rank",
        num_heads=heads,
        num_groups=fields.integer("ssm.group_count", high=MAX_HEADS),
        head_size=inner // heads,
        state_size=fields.integer("ssm.state_size", high=MAX_STATE_SIZE),
        kernel=fields.integer("ssm.conv_kernel", low=2, high=MAX_KERNEL),
        conv_bias=has["ssm_conv1d.bias"],
        input_bias=has["ssm_in.bias"],
        output_bias=has["ssm_out.bias"],
        has_norm=has["ssm_norm.weight"],
    )
