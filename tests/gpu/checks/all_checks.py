"""Everything that must be right on a GPU, by name: kernels against twins, whole models, the loop.

Each check is a function of the device that raises AssertionError. `tests/gpu/checks/test_checks.py`
runs them under pytest, `tests/gpu/run.py` without it: a lent machine need not have the test suite's
packages.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial

import torch

from tests.gpu.attention import attend_by, decode_case
from tests.gpu.checks import draft_checks, few_rows, loop_checks
from tests.gpu.checks.deterministic import CHECKS
from tests.model.fused_twins import (
    HEAD_DIMS,
    HEAD_NORMS,
    KEPT_BY_ATTENTION,
    check_attends,
    check_gated_mlp,
    check_heads,
    check_norm,
    heads_config,
    scattered,
)
from tests.model.linear.quantized_twins import METHODS, check_product
from tests.model.lora.addends_twin import check_addends
from tests.model.state import state_twins
from tests.model.state.state_cases import DELTA_NETS, MAMBAS
from tests.model.steps import Row, make_batch, to_device
from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.kernels.products.quantize_rows import quantize_rows
from thirdeye.model.kernels.rope_kv import rope_and_write
from thirdeye.model.linear.rounded import FP8, round_to_fp8
from thirdeye.model.parts.rope import Rope
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_fp8 import Fp8KVCache
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.sampling import philox as noise

Check = Callable[[torch.device], None]
WIDE = change(LLAMA, hidden_size=128, intermediate_size=256, head_dim=32)


def checks() -> Iterator[tuple[str, Check]]:
    for dtype in (torch.float32, torch.bfloat16):
        yield f"norm {dtype}", partial(norms, dtype=dtype)
        yield f"heads {dtype}", partial(heads, dtype=dtype)
        yield f"adapters {dtype}", partial(adapters, dtype=dtype)
        yield f"states {dtype}", partial(states, dtype=dtype)
    for name in METHODS:
        for rows in (1, 8, 16, 17, 70, 300):
            yield f"{name} product of {rows} rows", partial(product, name=name, rows=rows)
        yield f"{name} whole model", partial(whole_model, name=name)
    yield "activations to fp8", activations
    yield from ((f"few rows, {name}", check) for name, check in few_rows.CHECKS.items())
    for num_queries in (1, 33):
        for context in (40, 700):
            for kv in (torch.bfloat16, FP8):
                yield (
                    f"attention {num_queries} of {context}, {kv} cache",
                    partial(attention, num_queries=num_queries, context=context, kv_dtype=kv),
                )
    for dtype in (torch.float32, torch.bfloat16):
        yield f"new keys in attention {dtype}", partial(new_keys, dtype=dtype)
    yield "fp8 cache writes", cache_writes
    yield "noise of draws", draws_noise
    yield from ((f"deterministic {name}", check) for name, check in CHECKS.items())
    yield "graphs and eager steps agree", graphs_agree
    yield from loop_checks.CHECKS.items()
    yield from draft_checks.CHECKS.items()
    yield "a trial sizes the cache", trial


def norms(device: torch.device, dtype: torch.dtype) -> None:
    for rows, size in ((1, 64), (5, 100), (3, 4096)):
        check_norm(rows, size, Placement(dtype, device))
        check_gated_mlp(rows, size, Placement(dtype, device))


def adapters(device: torch.device, dtype: torch.dtype) -> None:
    for shape in ((5, 47), (300, 301), (576, 960)):
        check_addends(shape, Placement(dtype, device))


def states(device: torch.device, dtype: torch.dtype) -> None:
    """Small ones, and those of Qwen3-Next and Nemotron 3; `dtype` is that of LFM2's gates."""
    state_twins.check_gated_convolution(dtype, device)
    state_twins.check_convolution(4, 8192, device)
    for delta in (*DELTA_NETS.values(), DeltaNetSpec(16, 32, 128, 128, 4)):
        state_twins.check_delta_rule(delta, device)
    for mamba in (*MAMBAS.values(), Mamba2Spec(64, 8, head_size=64, state_size=128, kernel=4)):
        state_twins.check_scan(mamba, device)


def heads(device: torch.device, dtype: torch.dtype) -> None:
    for head_dim in HEAD_DIMS:
        for norms in HEAD_NORMS:
            check_heads(heads_config(head_dim, head_dim, norms), Placement(dtype, device))


def product(device: torch.device, name: str, rows: int) -> None:
    """Outputs that make few tiles, and many; inputs that are split."""
    where = Placement(torch.bfloat16, device, is_fused=True)
    for in_features, out_features in ((256, 130), (4096, 256), (1600, 4800)):
        check_product(name, rows, in_features, out_features, where)


def activations(device: torch.device) -> None:
    x = torch.randn(40, 4096, device=device, dtype=torch.bfloat16) * 7
    numbers, scales = quantize_rows(x)
    twin = round_to_fp8(x.float())
    torch.testing.assert_close(scales, twin.scales)
    decoded = numbers.float() * scales
    smallest = float(scales.max()) * 2.0**-9  # below 2^-6 steps are even
    torch.testing.assert_close(decoded, twin.dequantize(), atol=1.01 * smallest, rtol=2.0**-3)
    assert (decoded != twin.dequantize()).float().mean() < 0.01  # ties of a division, at most


def attention(device: torch.device, num_queries: int, context: int, kv_dtype: torch.dtype) -> None:
    """For grouped heads and for one key head a query head, by few lanes and by many."""
    for num_kv_heads in (2, 8):
        case = decode_case(
            4, context, 8, num_kv_heads, 64, torch.bfloat16, device, num_queries, kv_dtype=kv_dtype
        )
        expected = attend_by(ReferenceAttention(), case)
        for num_multiprocessors in (1, 132):
            ours = attend_by(TritonAttention(num_multiprocessors=num_multiprocessors), case)
            torch.testing.assert_close(ours, expected, atol=2e-2, rtol=2e-2)


def new_keys(device: torch.device, dtype: torch.dtype) -> None:
    """Kept by attention itself, by one program a sequence and by several."""
    where = Placement(dtype, device)
    for num_multiprocessors in (1, 132):
        for norms in KEPT_BY_ATTENTION:
            check_attends(heads_config(128, 64, norms), dtype, num_multiprocessors, where)
        check_attends(heads_config(64, 64, "norm first"), FP8, num_multiprocessors, where)


def cache_writes(device: torch.device) -> None:
    """Exponents are the twin's; numbers differ by no more than a rounding of the rotation."""
    where = Placement(torch.float32, device)
    config = change(LLAMA, head_dim=64)
    assert config.rope is not None
    batch = scattered(where)
    rotate = Rope(config.rope, 64, where).at(batch.positions)
    qkv = torch.randn(len(batch.positions), 8 * 64, device=device)
    ours, twin = (Fp8KVCache(config, 8, 4, device) for _ in range(2))
    rope_and_write(qkv, rotate.cos, rotate.sin, batch.slot_mapping, *ours.layer(0))
    split = qkv.view(-1, 8, 64)
    twin.write(0, rotate(split[:, 4:6]), split[:, 6:], batch.slot_mapping)
    for mine, its in zip(ours.layer(0), twin.layer(0), strict=True):
        assert torch.equal(mine.exponents, its.exponents)
    assert torch.equal(ours.values[0].view(torch.uint8), twin.values[0].view(torch.uint8))
    blocks = torch.arange(8, device=device)
    for a, b in zip(ours.layer(0), twin.layer(0), strict=True):
        torch.testing.assert_close(a[blocks], b[blocks], atol=1e-3, rtol=2.0**-3)


def draws_noise(device: torch.device) -> None:
    """Bit for bit that of a CPU."""
    seeds = torch.randint(-(2**63), 2**63 - 1, (300,))
    positions = torch.randint(0, 2**31, (300,))
    ours = noise.uniform(seeds.to(device), positions.to(device))
    assert torch.equal(ours.cpu(), noise.uniform(seeds, positions))


def on_device(device: torch.device, quantize: str, dtype: torch.dtype) -> Transformer:
    backend = TritonAttention(num_multiprocessors=132)
    model = Transformer(WIDE, backend, dtype=dtype, device=device, quantize=quantize)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.1
        model.load(name, None, noise + 1 if name.endswith("norm.weight") else noise)
    model.finish()
    return model


def whole_model(device: torch.device, name: str) -> None:
    """A prompt and single tokens: the distribution is near that of the weights unrounded."""
    rows = [Row([5, 17, 3, 80, 2, 9, 11], 0, [3, 9]), Row(list(range(40)), 0, list(range(10, 20)))]
    batch = make_batch(rows, 4, "all")
    batch = to_device(batch, device)
    logprobs = []
    for quantize in ("none", name):
        model = on_device(device, quantize, torch.bfloat16)
        cache = Fp8KVCache(WIDE, 24, 4, device)
        logprobs.append(model(batch, cache).log_softmax(-1))
    exact, rounded = logprobs
    rise = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert 0 <= rise < {"int8": 0.01, "fp8": 0.1, "int4": 0.5}[name], rise


def graphs_agree(device: torch.device) -> None:
    """The same tokens by captured steps one ahead and by eager ones, in fp32."""
    from thirdeye.server.bench.engine import EngineBench
    from thirdeye.server.bench.report import Plan

    answers = []
    for graphs in ("on", "off"):
        plan = Plan("tiny", [], [], 1, 0, str(device), "float32", "auto", 1e9, graphs)
        bench = EngineBench(plan)
        core = bench.engine(5, 1000, 60)
        for i in range(5):
            prompt = bench.prompt(random.Random(i), 5 + 3 * i)
            core.add(bench.request(i, prompt, 10 + 5 * i))
        tokens: dict[str, list[int]] = {}
        while core.has_work:
            for output in core.step():
                assert not output.error, output.error
                tokens.setdefault(output.request_id, []).extend(output.token_ids)
        answers.append(tokens)
    assert answers[0] == answers[1]


def trial(device: torch.device) -> None:
    """What is told adds up to what is there, and leaves room for a cache."""
    from tests.recipes import make_recipe
    from thirdeye.server.engine.cache.device_memory import CudaMemory
    from thirdeye.server.load.kv_memory import try_step

    model = on_device(device, "none", torch.bfloat16)
    recipe = make_recipe(max_num_seqs=8)
    usage = try_step(recipe, model, torch.bfloat16, device, CudaMemory(device))
    assert 0 < usage.kv < usage.granted < usage.total
    assert usage.weights >= sum(p.nbytes for p in model.parameters())
    assert usage.step > 0
