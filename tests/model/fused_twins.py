"""The fused kernels against their plain twins, on any device: the CPU's interpreter, a real GPU.

Both get the same weights and inputs. Where a fused kernel rounds as its twin does they agree to the
last bits of fp32; in bf16 a rotated channel is rounded once instead of three times.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from tests.model.steps import Row, make_batch, to_device
from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import (
    Activation,
    AttentionSpec,
    ModelConfig,
    RopeConfig,
    Temperature,
)
from thirdeye.model.declare.block import attention_part, mlp_part
from thirdeye.model.declare.mlp import GatedMLPPart
from thirdeye.model.parts.fused import FusedGatedMLP, FusedRMSNorm, FusedSelfAttention
from thirdeye.model.parts.layers import GatedMLP, RMSNorm
from thirdeye.model.parts.rope import Rope, TemperatureRope
from thirdeye.model.parts.self_attention import BorrowingAttention, SelfAttention
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
HEAD_DIMS = [2, 20, 64, 128]
HEAD_NORMS: dict[str, dict[str, Any]] = {  # what becomes of heads beside their turn
    "plain": {},
    "norm first": {"qk_norm": True},
    "norm last": {"qk_norm": True, "norms_turned": True},
    "queries that grow": {"attention": AttentionSpec(temperature=Temperature(0.5, 2))},
    "values normed": {"qk_norm": True, "value_norm": True},
    "keys are values": {
        "qk_norm": True, "value_norm": True, "attention": AttentionSpec(has_values=False),
    },
    "another layer's keys": {"qk_norm": True, "attention": AttentionSpec(source=0)},
}  # fmt: skip
KEPT_BY_ATTENTION = [norms for norms in HEAD_NORMS if "keys" not in norms]


def close(ours: Tensor, twin: Tensor) -> None:
    limit = TOLERANCE[twin.dtype]
    torch.testing.assert_close(ours, twin, atol=limit, rtol=limit)


def noise(*shape: int, where: Placement) -> Tensor:
    return torch.randn(shape).to(where.device, where.dtype)


def fill(fused: torch.nn.Module, twin: torch.nn.Module, where: Placement) -> None:
    """The same random parameters in both."""
    for ours, theirs in zip(fused.parameters(), twin.parameters(), strict=True):
        ours.copy_(noise(*ours.shape, where=where) * 0.3)
        theirs.copy_(ours)


def check_norm(rows: int, size: int, where: Placement) -> None:
    fused, twin = FusedRMSNorm(size, 1e-5, where), RMSNorm(size, 1e-5, where)
    fill(fused, twin, where)
    x, delta = noise(rows, size, where=where), noise(rows, size, where=where)
    close(fused(x), twin(x))
    before = x.clone()
    (stream, normed), (twin_stream, twin_normed) = fused.add(x, delta), twin.add(x, delta)
    if where.device.type == "cuda" or where.dtype == torch.float32:
        assert torch.equal(stream, twin_stream)
    else:  # triton's interpreter cuts bf16 where a GPU rounds to nearest
        close(stream, twin_stream)
    close(normed, twin_normed)
    assert torch.equal(x, before)


def check_gated_mlp(
    rows: int, wide: int, where: Placement, activation: Activation = Activation.SILU
) -> None:
    config = change(LLAMA, intermediate_size=wide, activation=activation)
    part = mlp_part(config)
    assert isinstance(part, GatedMLPPart)
    fused, twin = FusedGatedMLP(part, where), GatedMLP(part, where)
    fill(fused, twin, where)
    for module in (fused, twin):
        module.gate_up.finish()
        module.down = torch.nn.Identity()  # what the kernel gives, not a sum over its rounding
    x = noise(rows, config.hidden_size, where=where)
    close(fused(x), twin(x))


def scattered(where: Placement) -> ForwardBatch:
    """A chunk behind a past and a single token, in blocks that are out of order."""
    rows = [Row([1, 2, 3, 4, 5], 3, [6, 1, 4]), Row([7], 5, [2, 5])]
    batch = make_batch(rows, 4)
    return to_device(batch, where.device)


def heads_config(head_dim: int, dim: int, norms: str) -> ModelConfig:
    """Heads of which `dim` channels are turned, and one of `HEAD_NORMS`."""
    rope, changes = RopeConfig(theta=10_000.0, dim=dim), dict(HEAD_NORMS[norms])
    if "attention" in changes:
        spec = dataclasses.replace(changes["attention"], rope=rope)
        changes["attention"] = (dataclasses.replace(spec, source=None), spec)
    return change(LLAMA, head_dim=head_dim, rope=rope, **changes)


def check_heads(config: ModelConfig, where: Placement) -> None:
    """Of the last layer: queries, and every slot of both caches, of which those that are not the
    step's stay as they were."""
    backend = None  # `keep` comes before attention
    layer = config.num_hidden_layers - 1
    part = attention_part(config, layer)
    plain = SelfAttention if part.spec.source is None else BorrowingAttention
    fused = FusedSelfAttention(part, 0, backend, where)  # type: ignore[arg-type]
    twin = plain(part, 0, backend, where)  # type: ignore[arg-type]  # the same
    fill(fused, twin, where)
    fused.qkv.finish()
    twin.qkv.finish()
    assert config.rope is not None
    batch = scattered(where)
    rope = Rope(config.rope, 64, where)
    temperature = config.attention_of(layer).temperature
    if temperature is not None:
        rope = TemperatureRope(rope, temperature, 64, where)
    rotate = rope.at(batch.positions)
    caches = [KVCache(config, 8, 4, where.dtype, where.device) for _ in range(2)]
    for cache in caches:
        for keys, values in zip(cache.keys, cache.values, strict=True):
            keys.fill_(7.0)
            values.fill_(9.0)
    x = noise(len(batch.positions), config.hidden_size, where=where)
    close(fused.keep(x, batch, rotate, caches[0]), twin.keep(x, batch, rotate, caches[1]))
    for ours, theirs in zip(*(cache.keys + cache.values for cache in caches), strict=True):
        close(ours, theirs)


def check_attends(
    config: ModelConfig, kv_dtype: torch.dtype, num_multiprocessors: int, where: Placement
) -> None:
    """What single tokens see, whose keys and values attention itself puts into the cache: the first
    of a text, one beside few keys, and one whose keys are several programs'; and every slot. Where
    they are rounded, which the interpreter does in its own way, against the kernel that keeps them
    in a launch of its own."""
    part = attention_part(config, 0)
    backends = TritonAttention(num_multiprocessors=num_multiprocessors), ReferenceAttention()
    ours, plain = (backend.for_layers(part.spec) for backend in backends)
    fused = FusedSelfAttention(part, 0, ours, where)
    kind = SelfAttention if kv_dtype == where.dtype else FusedSelfAttention
    twin = kind(part, 0, plain, where)
    fill(fused, twin, where)
    for linear in (fused.qkv, twin.qkv):
        linear.finish()
    assert config.rope is not None
    rows = [Row([1], 0, [80]), Row([2], 6, [3, 0]), Row([3], 300, list(range(4, 80)))]
    batch = to_device(make_batch(rows, 4), where.device)
    rope = Rope(config.rope, 400, where)
    temperature = config.attention_of(0).temperature
    if temperature is not None:
        rope = TemperatureRope(rope, temperature, 400, where)
    rotate = rope.at(batch.positions)
    caches = [make_kv_cache(config, 81, 4, kv_dtype, where.device) for _ in range(2)]
    slots = torch.arange(81 * 4, device=where.device)
    past = noise(2, len(slots), *config.kv_shapes[0], where=where)
    for cache in caches:
        cache.write(0, past[0], past[1], slots)
    x = noise(len(rows), config.hidden_size, where=where)
    plan = ours.plan(batch, caches[0])
    assert ours.keeps(plan, fused.layout, fused.num_kv_heads)
    seen = fused.mix_projected(fused.qkv(x), batch, rotate, caches[0], plan)
    query = twin.keep(x, batch, rotate, caches[1])
    close(seen, twin.mix(query, caches[1], plain.plan(batch, caches[1])))
    blocks = torch.arange(81, device=where.device)
    for mine, its in zip(caches[0].layer(0), caches[1].layer(0), strict=True):
        close(mine[blocks].float(), its[blocks].float())
