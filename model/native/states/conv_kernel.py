"""A causal convolution and its cache in C: the CPU's twin of `model/state/causal_conv.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address
from thirdeye.model.state.state_cache import StateSpans

SMALL = 1 << 12  # channels times tokens: less than 10 us of work


class CausalConvArgs(ctypes.Structure):
    """`struct causal_conv_args`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "before", "after", "weight", "bias")),
        *((name, ctypes.c_void_p) for name in ("cache", "output", "spans")),
        *((name, ctypes.c_int) for name in ("num_spans", "channels", "kernel", "stride")),
        ("has_silu", ctypes.c_int),
    )


class CausalConvKernel:
    """For one layer: its weights are laid out anew at the first call, when they are known."""

    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("causal_conv")
        self._taps: Tensor | None = None
        self._bias: Tensor | None = None

    def gated(
        self, thirds: Tensor, weight: Tensor, bias: Tensor | None, cache: Tensor, plan: StateSpans
    ) -> Tensor:
        """thirds [T, 3 * channels], which are `before`, `after` and x -> after * conv(before * x),
        [T, channels]."""
        channels = cache.shape[-1]
        return self._call(thirds, 2 * channels, 0, channels, weight, bias, cache, plan)

    def with_silu(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, cache: Tensor, plan: StateSpans
    ) -> Tensor:
        """x [T, channels and perhaps more] -> silu(conv(x)), [T, channels]."""
        return self._call(x, 0, None, None, weight, bias, cache, plan)

    def _call(
        self,
        x: Tensor,
        start: int,
        before: int | None,
        after: int | None,
        weight: Tensor,
        bias: Tensor | None,
        cache: Tensor,
        plan: StateSpans,
    ) -> Tensor:
        """The first three: at which columns of x things start."""
        if self._taps is None:  # [K, channels]
            self._taps = weight.detach().t().contiguous()
            self._bias = None if bias is None else bias.detach()
        x = x.contiguous()
        num_tokens, stride = x.shape
        num_states, num_past, channels = cache.shape
        base = address(x, torch.float32, num_tokens, stride)
        output = x.new_empty(num_tokens, channels)
        spans = plan.spans
        args = CausalConvArgs(
            x=base + 4 * start,
            before=None if before is None else base + 4 * before,
            after=None if after is None else base + 4 * after,
            weight=address(self._taps, torch.float32, num_past + 1, channels),
            bias=None if self._bias is None else address(self._bias, torch.float32, channels),
            cache=address(cache, torch.float32, num_states, num_past, channels),
            output=output.data_ptr(),
            spans=address(spans, torch.int32, -1, 4),
            num_spans=len(spans),
            channels=channels,
            kernel=num_past + 1,
            stride=stride,
            has_silu=after is None,
        )
        self._run(self._operation, args, is_small=num_tokens * channels < SMALL)
        return output
