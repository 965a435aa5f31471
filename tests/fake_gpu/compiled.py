"""Kernels as this server asks for them, compiled for sm_90, and what the compiler made of them.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.compiled

One line of JSON.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.fake_gpu import driver
from tests.fake_gpu.engine import MULTIPROCESSORS, pretending
from tests.fake_gpu.machine_code import facts
from tests.fake_gpu.sums.attention_sums import sums
from tests.gpu.attention import AttentionCase, attend_by, decode_case
from tests.model.tiny import LLAMA
from thirdeye.model.attention.triton import Projected, TritonAttention
from thirdeye.model.config import Activation, Norm, RopeConfig
from thirdeye.model.declare.block import QKNormPart
from thirdeye.model.declare.parts import NormPart
from thirdeye.model.few_rows.around import ALONE, Around
from thirdeye.model.kernels import dependent_launch
from thirdeye.model.kernels.accept_drafts import accept_drafts
from thirdeye.model.kernels.begin_step import begin_step
from thirdeye.model.kernels.choose_tokens import choose_tokens
from thirdeye.model.kernels.gated_mul import gated_mul
from thirdeye.model.kernels.philox import uniform
from thirdeye.model.kernels.products.dequantize import dequantize
from thirdeye.model.kernels.products.few_rows_matmul import FewRowsMatmul
from thirdeye.model.kernels.products.fixed_matmul import SPLIT, FixedMatmul
from thirdeye.model.kernels.products.lora_matmul import TritonLora
from thirdeye.model.kernels.products.quantize_rows import quantize_rows
from thirdeye.model.kernels.rms_norm import rms_norm
from thirdeye.model.kernels.rope_kv import rope_and_write
from thirdeye.model.kernels.states.causal_conv_kernel import conv_with_silu
from thirdeye.model.kernels.states.delta_rule_kernel import delta_rule
from thirdeye.model.kernels.states.selective_scan_kernel import selective_scan
from thirdeye.model.linear.rounded import RoundedWeight, round_to_fp8, round_to_int4, round_to_int8
from thirdeye.model.parts.head_norms import QKNorm
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.parts.rope import Rope
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_fp8 import Fp8KVCache
from thirdeye.model.state.state_cache import StateSpans, lengths_of
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec

CPU, BF16 = torch.device("cpu"), torch.bfloat16
FEW_ROWS, FIXED = "few_rows_matmul_kernel", "fixed_matmul_kernel"
ATTENTION = "paged_attention_kernel"
NOT_DEPENDENT = "begin_step, not launched early"
OF_A_LAYER = ("merge_splits_kernel", "rope_kv_kernel", "rms_norm_kernel", "gated_mul_kernel")
OF_PRODUCTS = ("reduce_kernel", "expand_kernel", "quantize_rows_kernel", "dequantize_kernel")
OF_STATES = ("causal_conv_kernel", "delta_rule_kernel", "selective_scan_kernel")
OF_A_STEPS_ENDS = ("begin_step_kernel", "accept_kernel", "philox_kernel")


def main() -> None:
    notes = driver.install(
        *(FEW_ROWS, FIXED, ATTENTION, "choose_tokens_kernel"),
        *OF_A_LAYER,
        *OF_STATES,
        *OF_PRODUCTS,
        *OF_A_STEPS_ENDS,
    )
    with torch.inference_mode(), pretending():
        for name, case in attention_cases():
            attend_by(TritonAttention(num_multiprocessors=MULTIPROCESSORS), case)
            notes.compiled[f"attention, {name}"] = notes.compiled.pop(ATTENTION)
        lanes = in_lanes(notes)
        for name, multiprocessors in (("several programs", MULTIPROCESSORS), ("one program", 1)):
            keep_and_attend(multiprocessors)
            notes.compiled[f"attention, kept by {name}"] = notes.compiled.pop(ATTENTION)
        cache = Fp8KVCache(LLAMA, 8, 16, CPU)
        config = LLAMA.rope
        assert config is not None
        turns = Rope(config, 64, Placement(torch.float32, CPU)).at(torch.arange(3))
        qkv = torch.zeros(3, 8 * LLAMA.head_dim)
        rope_and_write(qkv, turns.cos, turns.sin, torch.arange(3), *cache.layer(0))
        table = torch.zeros(5, 48, dtype=torch.int32)
        words = torch.zeros(4, dtype=torch.int32)
        with patch.object(dependent_launch, "has_dependent_launch", lambda device: False):
            begin_step(words, table, 16, 16, offsets=words, drafts=words)
        notes.compiled[NOT_DEPENDENT] = notes.compiled.pop("begin_step_kernel")
        begin_step(words, table, 16, 16, offsets=words, drafts=words)
        uniform(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
        dequantize(round_to_int4(torch.zeros(64, 1024, dtype=BF16)), BF16)
        chosen = choose_tokens(torch.zeros(4, 128256), table, torch.arange(4), advance=True)
        accept_drafts(chosen, table, torch.arange(4), words, words)
        gated_mul(torch.zeros(2, 4096, dtype=BF16), Activation.SILU)
        rms_norm(torch.zeros(2, 4096, dtype=BF16), torch.zeros(4096, dtype=BF16), 1e-5)
        keep_states()
        lora = TritonLora(4096, 4096, num_slots=2)
        factors = torch.zeros(8, 4096, dtype=BF16), torch.zeros(4096, 8, dtype=BF16)
        lora.put(0, lora.packed([(slice(0, 4096), *factors)]))
        y = torch.zeros(2, 4096, dtype=BF16)
        lora.add(y, torch.zeros_like(y), torch.zeros(2, dtype=torch.int32))
        quantize_rows(y)
        for name, around, weight in few_rows_forms():
            x = torch.zeros(1, 1024, dtype=torch.float32 if name == "float32" else BF16)
            FewRowsMatmul(MULTIPROCESSORS)(x, weight, None, around)
            notes.compiled[f"few rows, {name}"] = notes.compiled.pop(FEW_ROWS)
        for name, num_rows, num_lanes in (
            ("low", 64, 1),
            ("wide", 2048, 1),
            ("wide, lanes", 256, 4),
        ):
            notes.compiled[f"fixed, {name}"] = fixed_tile(notes, num_rows, num_lanes)
    report = {name: facts(machine_code) for name, machine_code in notes.compiled.items()}
    for name, machine_code in notes.compiled.items():
        if name.startswith(("attention", "merge")):
            report[name]["sums"] = sums(machine_code.asm["ptx"])
    report["attention, decode"]["lanes"] = lanes
    print(json.dumps(report))


def attention_cases() -> Iterator[tuple[str, AttentionCase]]:
    """By what asks, and the size of a head: 8B's, and Gemma 4's large ones."""
    yield "decode", decode_case(1, 600, 32, 8, 128, BF16, CPU)
    yield "chunk", decode_case(1, 600, 32, 8, 128, BF16, CPU, num_queries=64)
    yield "chunk of 512", decode_case(1, 600, 8, 2, 512, BF16, CPU, num_queries=64)


def in_lanes(notes: driver.Notes) -> list[int]:
    """A token of a long text by more and more programs, whose numbers are given back, and a chunk,
    where bits shall not depend on how a token came to be computed."""
    case = decode_case(1, 600, 32, 8, 128, BF16, CPU)
    long = replace(case.batch, block_table=torch.zeros(1, 33 * 256 // 16, dtype=torch.int32))
    numbers, forms = [], len(notes.forms)
    for multiprocessors in (1, 8, 20, MULTIPROCESSORS):  # 8 programs have a lane each, and more
        backend = TritonAttention(num_multiprocessors=multiprocessors, is_deterministic=True)
        attend_by(backend, replace(case, batch=long))
        numbers.append(next(grid[2] for name, grid in notes.grids[::-1] if name == ATTENTION))
        if multiprocessors == 1:
            notes.compiled["attention, one lane"] = notes.compiled.pop(ATTENTION)
    assert {form.kernel for form in notes.forms[forms + 1 :]} <= {"merge_splits_kernel"}
    backend = TritonAttention(num_multiprocessors=MULTIPROCESSORS, is_deterministic=True)
    attend_by(backend, decode_case(1, 600, 32, 8, 128, BF16, CPU, num_queries=64))
    notes.compiled["attention, a chunk in the same cut"] = notes.compiled.pop(ATTENTION)
    return numbers


def keep_and_attend(multiprocessors: int) -> None:
    """One token of a Qwen3 with an 8B model's heads."""
    backend, case = TritonAttention(num_multiprocessors=multiprocessors), attention_cases()
    decode = next(case)[1]
    norm = NormPart(Norm.RMS_NORM, 128, 1e-6)
    norms = QKNorm(QKNormPart(norm, norm, is_last=False), 32, Placement(BF16, CPU))
    turns = Rope(RopeConfig(theta=1e6, dim=128), 600, Placement(BF16, CPU)).at(torch.tensor([599]))
    qkv = torch.zeros(1, 48, 128, dtype=BF16)
    plan = backend.plan(decode.batch, decode.cache)
    backend.forward_projected(qkv, *decode.cache.layer(0), plan, Projected(turns, norms))


def keep_states() -> None:
    """As Qwen3-Next and Nemotron 3 Nano do."""
    spans = torch.tensor([[0, 2, 0, 0]], dtype=torch.int32)
    plan = StateSpans(spans, lengths_of(spans))
    delta = DeltaNetSpec(16, 32, key_size=128, value_size=128, kernel=4)
    shapes = delta.arrays
    qkvz = torch.zeros(2, delta.channels + 4096, dtype=BF16)
    taps = torch.zeros(delta.channels, 4, dtype=BF16)
    seen = conv_with_silu(qkvz, taps, None, torch.zeros(1, *shapes["conv"]), plan)
    gates, heads = torch.zeros(2, 64, dtype=BF16), torch.zeros(32)
    delta_rule(seen, gates, heads, heads, delta, torch.zeros(1, *shapes["delta"]), plan)
    scan = Mamba2Spec(64, 8, head_size=64, state_size=128, kernel=4)
    seen, steps = torch.zeros(2, scan.channels), torch.zeros(2, 64, dtype=BF16)
    heads, cache = torch.zeros(64), torch.zeros(1, *scan.arrays["ssm"])
    selective_scan(seen, steps, heads, heads, heads, scan, cache, plan)


def fixed_tile(notes: driver.Notes, num_rows: int, num_lanes: int) -> Any:
    """Of the deterministic product."""
    multiply = FixedMatmul(MULTIPROCESSORS if num_lanes > 1 else 0)
    out_features, size = 4096, 4 * SPLIT
    tile = multiply.tile(num_rows, out_features, BF16.itemsize)
    lanes = multiply.num_lanes(tile.number(num_rows, out_features), size)
    assert lanes == num_lanes
    multiply(
        torch.empty(num_rows, size, dtype=BF16), torch.empty(out_features, size, dtype=BF16), None
    )
    return notes.compiled.pop(FIXED)


def few_rows_forms() -> Iterator[tuple[str, Around, Tensor | RoundedWeight]]:
    """The product of few rows as layers ask for it, and each format of weights at its fullest."""
    weight = torch.zeros(4096, 1024, dtype=BF16)
    norm = RMSNorm(1024, 1e-5, Placement(BF16, CPU))
    x, y = torch.zeros(1, 1024, dtype=BF16), torch.zeros(1, 4096, dtype=BF16)
    gate = Around(norm, x, Activation.SILU)
    yield "alone", ALONE, weight
    yield "behind a norm", Around(norm), weight
    yield "into the stream", Around(residual=y), weight
    yield "a gate", Around(norm, activation=Activation.SILU), weight
    yield "a gate of a sum", gate, weight
    yield "a head", Around(norm), torch.zeros(32768, 1024, dtype=BF16)
    for name, round_weight in (
        *(("int8", round_to_int8), ("fp8", round_to_fp8), ("int4", round_to_int4)),
    ):
        yield f"{name}, a gate", gate, round_weight(weight)
    wide = RMSNorm(1024, 1e-5, Placement(torch.float32, CPU))
    yield "float32", Around(wide, activation=Activation.SILU), weight.float()


if __name__ == "__main__":
    main()
