"""Mamba-2's state and the gate behind it in C: the CPU's twin of `selective_scan.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address
from thirdeye.model.state.state_cache import StateSpans
from thirdeye.model.state_spec import Mamba2Spec

SMALL = 1 << 12  # numbers of the states that a step goes through
SMALL_NORM = 1 << 12


class Mamba2Args(ctypes.Structure):
    """`struct mamba2_args`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("seen", "steps", "shift", "decay", "skip")),
        *((name, ctypes.c_void_p) for name in ("cache", "output", "spans")),
        *((name, ctypes.c_int) for name in ("num_spans", "num_heads", "num_groups")),
        *((name, ctypes.c_int) for name in ("head_size", "state_size", "stride")),
    )


class GatedNormArgs(ctypes.Structure):
    """`struct gated_norm_args`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "z", "gain")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("num_tokens", "num_groups", "size", "stride")),
        ("gates_first", ctypes.c_int),
    )


class SelectiveScanKernel:
    def __init__(self, library: Library, spec: Mamba2Spec, eps: float) -> None:
        """`spec` is this rank's."""
        self._run, self._operation = library.run, library.operation("selective_scan")
        self._gated_norm = library.operation("gated_norm")
        self._spec, self._eps = spec, eps

    def __call__(
        self,
        seen: Tensor,
        projected: Tensor,
        shift: Tensor,
        decay: Tensor,
        skip: Tensor,
        gain: Tensor | None,
        cache: Tensor,
        plan: StateSpans,
    ) -> Tensor:
        """seen [T, channels], projected [T, channels and z's and steps], `shift`, `decay` and
        `skip` of each head, gain [width] of a norm -> [T, width]: gated by z, and normed."""
        spec, num_tokens = self._spec, len(seen)
        heads, channels, width = spec.num_heads, spec.channels, spec.width
        projected = projected.contiguous()
        stride = channels + width + heads
        z = address(projected, torch.float32, num_tokens, stride) + 4 * channels
        output = seen.new_empty(num_tokens, width)
        scan = Mamba2Args(
            seen=address(seen, torch.float32, num_tokens, channels),
            steps=z + 4 * width,
            shift=address(shift, torch.float32, heads),
            decay=address(decay, torch.float32, heads),
            skip=address(skip, torch.float32, heads),
            cache=address(cache, torch.float32, -1, heads, spec.state_size, spec.head_size),
            output=output.data_ptr(),
            spans=address(plan.spans, torch.int32, -1, 4),
            num_spans=len(plan.spans),
            num_heads=heads,
            num_groups=spec.num_groups,
            head_size=spec.head_size,
            state_size=spec.state_size,
            stride=stride,
        )
        is_small = num_tokens * width * spec.state_size < SMALL
        self._run(self._operation, scan, is_small=is_small)
        norm = GatedNormArgs(
            x=output.data_ptr(),
            z=z,
            gain=None if gain is None else address(gain, torch.float32, width),
            eps=self._eps,
            num_tokens=num_tokens,
            num_groups=spec.num_groups,
            size=width // spec.num_groups,
            stride=stride,
            gates_first=spec.gates_first,
        )
        self._run(self._gated_norm, norm, is_small=num_tokens * width < SMALL_NORM)
        return output
