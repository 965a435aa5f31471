"""The same bits on every instruction set: each kernel, and whole models, on tape and not."""

import hashlib
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.draws import also_at_night, is_night
from tests.model.attention.test_attention import Case, cache_of, scattered_batch
from tests.model.attention.test_specs import CASES, LATENT, OVER_LATENTS, SPECS, by
from tests.model.experts.layer import SPECS as EXPERTS
from tests.model.experts.layer import finish, tokens
from tests.model.experts.layer import layer_of as experts_of
from tests.model.native.levels.state_kernels import numbers, states
from tests.model.native.products.stored_twin import tensor_of
from tests.model.native.products.test_lora_kernel import made
from tests.model.native.products.test_stored_linear import SCALES, layer_of, random_blocks
from tests.model.native.test_taped import BLOCK_SIZE, BLOCKS_EACH, MODELS, cache, models
from tests.model.steps import Row, make_batch
from tests.model.test_invariance import random_linear
from tests.model.tiny import CPU, LLAMA, change
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.config import AttentionSpec
from thirdeye.model.linear.native_float32 import NativeFloat32
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.native.activate import KINDS, ActivateKernel, XIELUKernel
from thirdeye.model.native.latent_kernels import HeadLinearKernel, LatentNormKernel
from thirdeye.model.native.layer_norm import HeadNormKernel, LayerNormKernel
from thirdeye.model.native.levels import LEVELS, Level, levels_here
from thirdeye.model.native.library import Library
from thirdeye.model.native.look_up import LookUpKernel
from thirdeye.model.native.products.stored_linear import FORMATS
from thirdeye.model.native.rms_norm import RMSNormKernels, WideNormKernel
from thirdeye.model.native.rope_kv import RopeKVKernel
from thirdeye.model.native.sample import SampleKernel
from thirdeye.model.native.tapes.tape import Tape
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_int8 import Int8Vectors, parts_of, round_to_int8
from thirdeye.model.transformer import Transformer

ROWS, THREADS = (1, 2, 8, 33), (1, 2, 8) if is_night() else (1, 8)
F32 = torch.float32


def int8_linear(native: Library, rows: int) -> Iterator[Tensor]:
    for shape in ((576, 100), (39, 49)):
        layer = random_linear(shape, NativeInt8(native), F32)
        yield from (layer.weight, layer(numbers(rows, shape[0])))


def stored_linear(native: Library, rows: int) -> Iterator[Tensor]:
    for name in FORMATS:
        parts = [
            tensor_of(kind, random_blocks(kind, count, 512, count, SCALES))
            for kind, count in ((name, 50), ("Q8_0", 20))
        ]
        yield layer_of(native, parts)(numbers(rows, 512))
        yield layer_of(native, parts, is_head=True)(numbers(rows, 512))


def float_linear(native: Library, rows: int) -> Iterator[Tensor]:
    for shape in ((1100, 100), (39, 49)):
        yield random_linear(shape, NativeFloat32(native), F32)(numbers(rows, shape[0]))


def lora(native: Library, rows: int) -> Iterator[Tensor]:
    for shape in ((1100, 100), (39, 49)):
        kernel, _ = made(native, *shape)
        y = numbers(rows, shape[1]).clone()
        slots = torch.tensor([(0, 2, -1)[i % 3] for i in range(rows)], dtype=torch.int32)
        kernel.add(y, numbers(rows, shape[0]), slots)
        yield y


def norms(native: Library, rows: int) -> Iterator[Tensor]:
    for size in (7, 100, 576):
        x, delta, weight = numbers(rows, size), numbers(rows, size, seed=1), numbers(size, seed=2)
        yield from RMSNormKernels(native).add_rms_norm(x, delta, weight, 1e-5)
        yield from LayerNormKernel(native)(x, delta, weight, weight, 1e-5)
    qkv = numbers(rows, 6 * 20)
    yield WideNormKernel(native)(qkv, numbers(80), numbers(20), 1e-5, 1e-6)
    yield HeadNormKernel(native)(qkv, numbers(4, 20), numbers(1, 20), 1e-5)


def activations(native: Library, rows: int) -> Iterator[Tensor]:
    x = torch.cat((numbers(rows, 202), torch.linspace(-110, 110, 38 * rows).view(rows, 38)), 1)
    for kind in KINDS:
        for is_gated in (False, True):
            yield ActivateKernel(native, kind, is_gated=is_gated)(x)
    yield XIELUKernel(native)(x, 0.3, 0.7, 0.5, -1e-6)


def rope_kv(native: Library, rows: int) -> Iterator[Tensor]:
    config = change(LLAMA, num_heads=4, num_kv_heads=2, head_dim=20)
    angles, slots = numbers(rows, 1, 9), torch.arange(rows).flip(0)
    for dtype in (torch.float32, torch.float16, torch.int8):
        kv = make_kv_cache(config, 10, 4, dtype, CPU)
        qkv = numbers(rows, 8 * 20)
        yield RopeKVKernel(native).rope_and_write(
            qkv, angles.cos(), angles.sin(), slots, *kv.layer(0)
        )
        for side in kv.layer(0):
            yield from (part for part in parts_of(side) if part is not None)


def attention(native: Library, rows: int) -> Iterator[Tensor]:
    several = Case([(11 * i + 60, 1) for i in range(rows)], 16, 6, 2, 20)
    for case in OVER_LATENTS.values():
        yield by(NativeAttention(native), case, LATENT)
    for case in (several, Case([(100, rows)], 16, 6, 1, 64), *CASES.values()):
        for spec in (SPECS["sinks"], SPECS["all and alibi"]):
            for dtype in (torch.float32, torch.float16):
                yield by(NativeAttention(native), case, spec, dtype)
            yield over_bytes(native, case, spec)


def over_bytes(native: Library, case: Case, spec: AttentionSpec) -> Tensor:
    """Attention over a cache in 8 bits."""
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    shape = (num_blocks, case.block_size, case.num_kv_heads, case.head_dim)
    sides = [Int8Vectors(*round_to_int8(torch.randn(shape, generator=g))) for _ in range(2)]
    query = torch.randn(len(batch.input_ids), case.num_heads, case.head_dim, generator=g)
    sinks = torch.randn(case.num_heads, generator=g) if spec.sinks else None
    slopes = torch.rand(case.num_heads, generator=g) if spec.alibi else None
    backend = NativeAttention(native, spec)
    plan = backend.plan(batch, cache_of(*(side.numbers for side in sides)))
    return backend.forward(query, *sides, plan, sinks, slopes)


def draws(native: Library, rows: int) -> Iterator[Tensor]:
    logits = torch.randn(rows, 1999, generator=torch.Generator().manual_seed(0)) * 3
    mask = torch.randint(-(2**31), 2**31, (64,), generator=torch.Generator().manual_seed(1))
    words = mask.to(torch.int32)
    asked = [
        (words.data_ptr() if i % 2 else 0, 7 * i, i, 0.3 * (i % 5), top_p, reach, top_k)
        for i, (top_p, reach, top_k) in enumerate(
            (top_p, reach, top_k)
            for top_p in (1.0, 0.9, 0.3)
            for reach in (torch.inf, 5.0)
            for top_k in (0, 1, 40)
        )
    ]
    for i in range(len(asked)):
        these = [asked[(i + row) % len(asked)] for row in range(rows)]
        yield SampleKernel(native).sample(logits, these)


def number_by_number(native: Library, rows: int) -> Iterator[Tensor]:
    x = numbers(rows, 300)
    for forward in (lambda: x * 0.22, lambda: x.clamp(-0.5, 0.5), lambda: x + x):
        yield Tape(native, forward).replay().clone()


def look_ups(native: Library, rows: int) -> Iterator[Tensor]:
    kernel, ids = LookUpKernel(native), torch.arange(rows) * 5 % 40
    table = numbers(40, 96)
    for dtype in (torch.float16, torch.bfloat16):
        yield kernel.widened(table.to(dtype), None, ids)
    yield kernel.widened(table.to(torch.int8), numbers(40, 3).half(), ids)
    slices = numbers(2, 40, 9)
    for forward in (lambda: slices.index_select(1, ids), lambda: F.embedding(ids, table)):
        taped = Tape(native, forward).replay()
        assert torch.equal(taped, forward())
        yield taped.clone()


def experts(native: Library, rows: int) -> Iterator[Tensor]:
    for name in ("renormalized", "groups"):
        for form in ("none", "int8", "q4_0"):
            yield finish(experts_of(EXPERTS[name], native, form))(tokens(rows))


KERNELS = (int8_linear, stored_linear, float_linear, norms, activations, rope_kv, attention, draws)


def latents(native: Library, rows: int) -> Iterator[Tensor]:
    for in_features, out_features in ((128, 70), (39, 16)):
        kernel = HeadLinearKernel(native, numbers(3, out_features, in_features))
        y = torch.empty(rows, 3, 5 + out_features)
        kernel(numbers(rows, 3, 5 + in_features), y, 5)
        yield y
    y = torch.empty(rows, 52)
    LatentNormKernel(native)(numbers(rows, 52), numbers(43), 1e-6, y, 9)
    yield y


KERNELS += (number_by_number, look_ups, experts, states, lora, latents)


def digest(tensors: Iterator[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@also_at_night
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel(
    levels: dict[str, Library], kernel: Callable[[Library, int], Iterator[Tensor]], rows: int
) -> None:
    """On all levels, for any number of threads, of any number of rows."""
    digests = {}
    for name, native in levels.items():
        for threads in THREADS:
            torch.set_num_threads(threads)
            digests[name, threads] = digest(kernel(native, rows))
    assert len(set(digests.values())) == 1, digests


def answer(model: Transformer, prompt: list[int], kv_cache: KVCache) -> list[int]:
    """The prompt and 20 tokens after it, each the likeliest, and its logits' bits."""
    tokens, said, past, blocks = prompt, [], 0, range(BLOCKS_EACH)
    for _ in range(20):
        logits = model(make_batch([Row(tokens, past, blocks)], BLOCK_SIZE), kv_cache)
        past += len(tokens)
        tokens = [int(logits[-1].argmax())]
        said += tokens + logits[-1].view(torch.int32).tolist()
    return said


@pytest.mark.parametrize("quantize", ["int8", "none"])
@pytest.mark.parametrize("name", ["qk-norm", "two-ropes", "gpt2"])
def test_an_answer(levels: dict[str, Library], name: str, quantize: str) -> None:
    """A greedy one of a whole model, on tape and not, behind a prompt of several blocks of keys."""
    prompt = [(7 * i * i) % 97 for i in range(75)]
    answers = [
        answer(model, prompt, cache(MODELS[name]))
        for native in levels.values()
        for model in models(native, MODELS[name], quantize)
    ]
    assert all(each == answers[0] for each in answers)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_level_takes_part(levels: dict[str, Library], level: Level) -> None:
    """In what is compared here: where the processor has it, the compiler is to know it."""
    if missing := level.missing():
        pytest.skip(f"NATIVE TESTS SKIPPED: the processor has no {missing[0]} for {level.name}")
    assert level.name in levels


def test_the_oldest_level_is_everywhere() -> None:
    """What a newer level has, an older one's machine code can run there too."""
    here = levels_here()
    if here:
        assert here[-1].name in ("avx2", "neon")
