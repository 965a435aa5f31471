"""Attention by FlashInfer's fa2 kernels: optional, and the yardstick of our own.

Written against flashinfer-python 0.6.6. Its wrappers want each sequence's pages end to end on the
host, once a step (`plan`), and the queries' heads and dtype, which are known when the first layer
asks: so it is then that a step is planned. Planning fills a pinned buffer that is copied
asynchronously, so the next plan waits for that copy. Kernels are compiled by nvcc at their first
use. The package is imported in the constructor.

Sinks are no argument of these wrappers. They give the logarithm of each row's sum of exponentials
along, and that is all it takes: a sink makes the sum larger, so the result smaller.
"""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.state.kv_cache import KVCache

WORKSPACE_BYTES = 128 << 20
MAX_HEAD_DIM = 256
TENSOR_CORE_GROUP = 4  # grouped heads from which on decoding by tensor cores pays


@dataclass(frozen=True, eq=False, slots=True)
class PagePlan:
    """A step's pages, in int32 on the host: what a page table is to FlashInfer."""

    query_start_loc: Tensor  # [B + 1]
    page_indptr: Tensor  # [B + 1], where each sequence's pages begin in `pages`
    pages: Tensor  # [total pages]
    last_page_lens: Tensor  # [B], keys in the last page: 1 to block_size
    is_decode: bool


class FlashInferAttention:
    """As the protocol says. Layers that attend alike have wrappers of their own, planned for them;
    the workspace is one, since what is in it is wanted no longer than a call."""

    def __init__(
        self,
        device: torch.device,
        spec: AttentionSpec = TEXTBOOK,
        workspace: Tensor | None = None,
    ) -> None:
        """Raises ValueError for a spec with ALiBi, whose slopes these wrappers cannot be given,
        with stretches or latents, and for heads that are too large for its kernels."""
        if spec.latent is not None:
            raise ValueError(
                "'--attention' flashinfer cannot attend over this model's latents: use 'triton' or "
                "'auto'."
            )
        if spec.head_dim is not None and spec.head_dim > MAX_HEAD_DIM:
            raise ValueError(
                f"'--attention' flashinfer does heads of up to {MAX_HEAD_DIM} channels, this "
                f"model's are of {spec.head_dim}: use 'triton' or 'auto'."
            )
        if spec.chunk is not None:
            raise ValueError(
                "'--attention' flashinfer cannot do this model's attention in stretches of "
                f"{spec.chunk} positions: use 'triton' or 'auto'."
            )
        if spec.alibi is not None:
            raise ValueError(
                "'--attention' flashinfer cannot do this model's ALiBi: use 'triton' or 'auto'."
            )
        self._library: Any = import_module("flashinfer")
        self._device, self._spec = device, spec
        if workspace is None:
            workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
        self._workspace = workspace
        self._copied: Any = None
        if device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own lack
        self._wrappers: dict[tuple[bool, bool], Any] = {}
        self._planned: PagePlan | None = None
        self._wrapper: Any = None

    @property
    def plan_key(self) -> int | None:
        return self._spec.window

    def for_layers(self, spec: AttentionSpec) -> "FlashInferAttention":
        return FlashInferAttention(self._device, spec, self._workspace)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> PagePlan:
        return plan_pages(batch, kv_cache.block_size, self._spec.window)

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: PagePlan,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,  # noqa: ARG002  # no spec that it is made for has them
    ) -> Tensor:
        if plan is not self._planned:
            self._plan_step(query, key_cache, plan)
        query, caches = query.contiguous(), (key_cache, value_cache)
        output: Tensor
        if sinks is None:
            output = self._wrapper.run(query, caches)
            return output
        output, log2_sums = self._wrapper.run(query, caches, return_lse=True)  # [T, num_heads]
        kept = torch.sigmoid(log2_sums * math.log(2) - sinks.float())  # sum / (sum + e^sink)
        return (output * kept[..., None]).to(query.dtype)

    def _plan_step(self, query: Tensor, key_cache: Tensor, plan: PagePlan) -> None:
        if self._copied is not None:
            self._copied.synchronize()
        num_heads, head_dim = query.shape[1:]
        block_size, num_kv_heads = key_cache.shape[1:3]
        group = num_heads // num_kv_heads
        self._wrapper = self._choose_wrapper(plan.is_decode, group >= TENSOR_CORE_GROUP)
        starts = () if plan.is_decode else (plan.query_start_loc,)
        is_causal = {} if plan.is_decode else {"causal": True}
        self._wrapper.plan(
            *(*starts, plan.page_indptr, plan.pages, plan.last_page_lens),
            *(num_heads, num_kv_heads, head_dim, block_size),
            **is_causal,
            window_left=-1
            if self._spec.window is None
            else self._spec.window - 1,  # before its own
            logits_soft_cap=self._spec.softcap,
            sm_scale=self._spec.scale,
            q_data_type=query.dtype,
            kv_data_type=key_cache.dtype,
        )
        self._planned = plan
        if self._copied is not None:
            self._copied.record()

    def _choose_wrapper(self, is_decode: bool, is_grouped: bool) -> Any:
        """Made once each; all share the workspace, since only one is planned at a time."""
        key = (is_decode, is_decode and is_grouped)
        if key not in self._wrappers:
            kind = (
                self._library.BatchDecodeWithPagedKVCacheWrapper
                if is_decode
                else self._library.BatchPrefillWithPagedKVCacheWrapper
            )
            cores = {"use_tensor_cores": is_grouped} if is_decode else {}
            self._wrappers[key] = kind(self._workspace, "NHD", backend="fa2", **cores)
        return self._wrappers[key]


def plan_pages(batch: ForwardBatch, block_size: int, window: int | None = None) -> PagePlan:
    """The batch's block table, without its padding, nor what lies before the windows of all of a
    sequence's queries: causality and windows are counted from its end."""
    seq_lens, table = batch.seq_lens.cpu(), batch.block_table.cpu()  # [B], [B, M]
    starts = batch.query_start_loc.cpu()
    ends = (seq_lens + block_size - 1) // block_size  # [B]
    firsts = torch.zeros_like(ends)
    if window is not None:
        firsts = (seq_lens - starts.diff() - window + 1).clamp_min(0) // block_size
    indptr = torch.zeros(len(seq_lens) + 1, dtype=torch.int32)
    indptr[1:] = (ends - firsts).cumsum(0)
    pages = torch.arange(table.shape[1])
    is_page = (pages >= firsts[:, None]) & (pages < ends[:, None])  # [B, M]
    return PagePlan(
        query_start_loc=starts,
        page_indptr=indptr,
        pages=table[is_page].contiguous(),
        last_page_lens=(seq_lens - 1) % block_size + 1,
        is_decode=len(batch.positions) == len(seq_lens),
    )
