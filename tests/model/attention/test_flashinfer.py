"""FlashInfer as a backend, with a module in its place that has 0.6.6's signatures and computes what
it is told by the textbook: a page, a length or a head that is told wrongly shows."""

import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.attention.test_attention import Case, cache_of, ragged
from tests.model.attention.test_specs import LATENT, SINKS, SPECS
from tests.model.attention.test_triton_attention import make
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, LLAMA, change, make_cache, random_model
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.attention.flashinfer import FlashInferAttention, plan_pages
from thirdeye.model.attention.reference import (
    ReferenceAttention,
    attend,
    attention_weights,
    causal_mask,
)
from thirdeye.model.config import AttentionSpec

# Parameters of flashinfer-python 0.6.6, in order.
DECODE_INIT = (
    "float_workspace_buffer kv_layout use_cuda_graph use_tensor_cores paged_kv_indptr_buffer "
    "paged_kv_indices_buffer paged_kv_last_page_len_buffer backend jit_args"
)
DECODE_PLAN = (
    "indptr indices last_page_len num_qo_heads num_kv_heads head_dim page_size pos_encoding_mode "
    "window_left logits_soft_cap q_data_type kv_data_type o_data_type data_type sm_scale "
    "rope_scale rope_theta non_blocking block_tables seq_lens fixed_split_size disable_split_kv"
)
PREFILL_INIT = (
    "float_workspace_buffer kv_layout use_cuda_graph qo_indptr_buf paged_kv_indptr_buf "
    "paged_kv_indices_buf paged_kv_last_page_len_buf custom_mask_buf mask_indptr_buf backend "
    "jit_args jit_kwargs"
)
PREFILL_PLAN = (
    "qo_indptr paged_kv_indptr paged_kv_indices paged_kv_last_page_len num_qo_heads num_kv_heads "
    "head_dim_qk page_size head_dim_vo custom_mask packed_custom_mask causal pos_encoding_mode "
    "use_fp16_qk_reduction sm_scale window_left logits_soft_cap rope_scale rope_theta q_data_type "
    "kv_data_type o_data_type non_blocking prefix_len_ptr token_pos_in_items_ptr "
    "token_pos_in_items_len max_item_len_ptr seq_lens seq_lens_q block_tables "
    "max_token_per_sequence max_sequence_kv fixed_split_size disable_split_kv"
)


def bind(names: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """As Python would bind them. Raises TypeError for an argument that 0.6.6 does not have."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, default=None) for name in names.split()]
    return dict(inspect.Signature(parameters).bind(*args, **kwargs).arguments)


class Wrapper:
    """What both of FlashInfer's have in common."""

    init: str
    names: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.made = bind(self.init, args, kwargs)
        self.num_plans = 0
        assert self.made["backend"] == "fa2"
        assert self.made["kv_layout"] == "NHD"

    def plan(self, *args: Any, **kwargs: Any) -> None:
        self.planned = bind(self.names, args, kwargs)
        self.num_plans += 1
        for name in self.tensors:
            assert self.planned[name].dtype == torch.int32
            assert self.planned[name].device.type == "cpu"

    def run(
        self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor], return_lse: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        assert q.is_contiguous()
        plan = self.planned
        indptr, pages, last = (plan[name] for name in self.tensors[-3:])
        assert q.shape[1:] == (plan["num_qo_heads"], plan[self.head_dim])
        assert plan["q_data_type"] == q.dtype
        for cache in paged_kv_cache:
            assert cache.shape[1:] == (
                *(plan["page_size"], plan["num_kv_heads"]),
                plan[self.head_dim],
            )
            assert plan["kv_data_type"] == cache.dtype
        starts = plan["qo_indptr"].tolist() if "qo_indptr" in plan else range(len(q) + 1)
        assert starts[-1] == len(q)
        outputs = []
        for i in range(len(last)):
            own = pages[indptr[i] : indptr[i + 1]].long()
            length = (len(own) - 1) * plan["page_size"] + int(last[i])
            keys, values = (cache[own].flatten(0, 1)[:length] for cache in paged_kv_cache)
            outputs.append(self.attend(q[starts[i] : starts[i + 1]], keys, values))
        output, log2_sums = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return (output, log2_sums) if return_lse else output

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What it was told, by the textbook; and log2 of each row's sum of exponentials."""
        left, plan = self.planned["window_left"], self.planned
        spec = AttentionSpec(
            scale=plan["sm_scale"],
            window=None if left == -1 else left + 1,
            softcap=plan["logits_soft_cap"],
        )
        output = attend(query, keys, values, spec)
        # A sink of 0 takes 1 / (1 + sum) of the weights, so what it leaves says what the sum is.
        mask = causal_mask(len(query), len(keys), CPU, spec.window)
        group = query.shape[1] // keys.shape[1]
        kept = torch.stack(
            [
                attention_weights(query[:, h], keys[:, h // group], mask, spec, torch.zeros(()))
                .double()
                .sum(-1)
                for h in range(query.shape[1])
            ],
            dim=1,
        )  # [n, num_heads]
        return output, (kept / (1 - kept)).log2().float()


class Decode(Wrapper):
    init, names, head_dim = DECODE_INIT, DECODE_PLAN, "head_dim"
    tensors = ("indptr", "indices", "last_page_len")


class Prefill(Wrapper):
    init, names, head_dim = PREFILL_INIT, PREFILL_PLAN, "head_dim_qk"
    tensors = (
        *("qo_indptr", "paged_kv_indptr"),
        *("paged_kv_indices", "paged_kv_last_page_len"),
    )

    def plan(self, *args: Any, **kwargs: Any) -> None:
        super().plan(*args, **kwargs)
        assert self.planned["causal"] is True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(
        BatchDecodeWithPagedKVCacheWrapper=Decode, BatchPrefillWithPagedKVCacheWrapper=Prefill
    )
    monkeypatch.setitem(sys.modules, "flashinfer", fake)
    monkeypatch.setattr("thirdeye.model.attention.flashinfer.WORKSPACE_BYTES", 1024)
    return fake


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (9, 3), (8, 1)])
@pytest.mark.parametrize("kind", ["ragged", "decode"])
def test_the_textbooks_attention(
    kind: str, num_heads: int, num_kv_heads: int, block_size: int
) -> None:
    """NaN wherever no sequence has a token: a foreign page would show."""
    lengths = ragged(4)[::2] if kind == "ragged" else [(n - 1, 1) for n in (1, 4, 5, 16, 17, 40)]
    batch, keys, values, query = make(Case(lengths, block_size, num_heads, num_kv_heads, 16))
    cache = cache_of(keys, values)
    reference, ours = ReferenceAttention(), FlashInferAttention(CPU)
    expected = reference.forward(query, keys, values, reference.plan(batch, cache))
    output = ours.forward(query, keys, values, ours.plan(batch, cache))
    torch.testing.assert_close(output, expected)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["ragged", "decode"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_spec(spec: str, kind: str) -> None:
    lengths = ragged(4)[::3] if kind == "ragged" else [(n - 1, 1) for n in (1, 4, 21, 40, 180)]
    batch, keys, values, query = make(Case(lengths, 4, 6, 2, 16))
    if SPECS[spec].alibi or SPECS[spec].chunk:
        why = "ALiBi" if SPECS[spec].alibi else "attention in stretches of .* positions"
        with pytest.raises(ValueError, match=f"flashinfer cannot do this model's {why}: use 'tri"):
            FlashInferAttention(CPU).for_layers(SPECS[spec])
        return
    sinks = SINKS if SPECS[spec].sinks else None
    outputs = []
    for backend in (ReferenceAttention(), FlashInferAttention(CPU)):
        own = backend.for_layers(SPECS[spec])
        plan = own.plan(batch, cache_of(keys, values))
        outputs.append(own.forward(query, keys, values, plan, sinks))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("library")
def test_large_heads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flashinfer does heads of up to 256 channels, .* of 512"):
        FlashInferAttention(CPU).for_layers(AttentionSpec(head_dim=512))


@pytest.mark.usefixtures("library")
def test_latents_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flashinfer cannot attend over this model's latents"):
        FlashInferAttention(CPU).for_layers(LATENT)


@pytest.mark.usefixtures("library")
def test_a_step_is_planned_once_and_wrappers_are_kept() -> None:
    """Two layers, three steps of two kinds; tensor cores from four heads a group on."""
    spec = AttentionSpec(rope=LLAMA.rope, window=5, softcap=2.0)
    config = change(LLAMA, attention=(spec,) * LLAMA.num_hidden_layers)
    model = random_model(config, FlashInferAttention(CPU))
    cache = make_cache(config)
    for rows in ([Row([1, 2, 3], 0, [3])], [Row([4], 3, [3])], [Row([5], 4, [3, 1])]):
        model(make_batch(rows, 4), cache)
    (backend,) = set(model.layer_kinds.backends)
    assert isinstance(backend, FlashInferAttention)
    wrappers = backend._wrappers
    assert [w.num_plans for w in wrappers.values()] == [1, 2]
    assert set(wrappers) == {(False, False), (True, False)}
    for wrapper in wrappers.values():
        assert wrapper.planned["window_left"] == 4
        assert wrapper.planned["logits_soft_cap"] == 2.0
    assert backend._choose_wrapper(True, True).made["use_tensor_cores"] is True


def test_pages() -> None:
    """Padding is left out; the last page has 1 to block_size keys."""
    rows = [Row([1, 2, 3, 4], 4, [7, 2]), Row([9], 0, [5]), Row([8], 8, [3, 1, 6])]
    plan = plan_pages(make_batch(rows, 4), 4)
    assert plan.page_indptr.tolist() == [0, 2, 3, 6]
    assert plan.pages.tolist() == [7, 2, 5, 3, 1, 6]
    assert plan.last_page_lens.tolist() == [4, 1, 1]
    assert not plan.is_decode


def test_pages_before_all_windows_are_left_out() -> None:
    """The first is the one that has the first key of the first query's window."""
    rows = [Row([1, 2], 10, [7, 2, 4]), Row([9], 0, [5]), Row([8], 8, [3, 1, 6])]
    plan = plan_pages(make_batch(rows, 4), 4, window=5)  # keys from 6, 0 and 4 on
    assert plan.page_indptr.tolist() == [0, 2, 3, 5]
    assert plan.pages.tolist() == [2, 4, 5, 1, 6]
    assert plan.last_page_lens.tolist() == [4, 1, 1]


def test_an_argument_that_the_library_does_not_have_is_noticed() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        bind(DECODE_PLAN, (), {"causal": True})


def test_it_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'--attention' flashinfer needs a GPU and the package"):
        choose_attention("flashinfer", CPU)
    monkeypatch.setattr("thirdeye.model.attention.choose_attention.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="flashinfer-python"):
        choose_attention("flashinfer", torch.device("cuda"))
