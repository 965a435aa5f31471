"""The gated delta rule and its state in C: the CPU's twin of `model/state/delta_rule.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address
from thirdeye.model.state.state_cache import StateSpans
from thirdeye.model.state_spec import DeltaNetSpec

SMALL = 1 << 12  # numbers of the states that a step goes through
SMALL_PRODUCT = 1 << 13


class DeltaRuleArgs(ctypes.Structure):
    """`struct delta_rule_args`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("qkv", "z", "gates", "decay", "shift", "gain")),
        *((name, ctypes.c_void_p) for name in ("cache", "output", "spans")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("num_spans", "num_key_heads", "num_value_heads")),
        *((name, ctypes.c_int) for name in ("key_size", "value_size", "z_stride", "is_tiled")),
    )


class SigmoidMulArgs(ctypes.Structure):
    """`struct sigmoid_mul_args`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "gate", "output")),
        ("size", ctypes.c_int64),
    )


class DeltaRuleKernel:
    def __init__(self, library: Library, spec: DeltaNetSpec, eps: float) -> None:
        """`spec` is this rank's."""
        self._run, self._operation = library.run, library.operation("delta_rule")
        self._spec, self._eps = spec, eps

    def __call__(
        self,
        qkv: Tensor,
        mixed: Tensor,
        gates: Tensor,
        decay: Tensor,
        shift: Tensor,
        gain: Tensor,
        cache: Tensor,
        plan: StateSpans,
    ) -> Tensor:
        """qkv [T, channels], mixed [T, channels and z's], gates [T, 2 * value heads], `decay` and
        `shift` of each value head, gain [value_size] -> [T, value heads * value_size]: normed, and
        gated by z."""
        spec, num_tokens = self._spec, len(qkv)
        heads, size = spec.num_value_heads, spec.value_size
        channels, width = spec.channels, heads * size
        mixed, gates = mixed.contiguous(), gates.contiguous()
        output = qkv.new_empty(num_tokens, width)
        z = address(mixed, torch.float32, num_tokens, channels + width) + 4 * channels
        state = address(cache, torch.float32, -1, heads, spec.key_size, size)
        args = DeltaRuleArgs(
            qkv=address(qkv, torch.float32, num_tokens, channels),
            z=z,
            gates=address(gates, torch.float32, num_tokens, 2 * heads),
            decay=address(decay, torch.float32, heads),
            shift=address(shift, torch.float32, heads),
            gain=address(gain, torch.float32, size),
            cache=state,
            output=output.data_ptr(),
            spans=address(plan.spans, torch.int32, -1, 4),
            eps=self._eps,
            num_spans=len(plan.spans),
            num_key_heads=spec.num_key_heads,
            num_value_heads=heads,
            key_size=spec.key_size,
            value_size=size,
            z_stride=channels + width,
            is_tiled=spec.is_tiled,
        )
        self._run(self._operation, args, is_small=num_tokens * width * spec.key_size < SMALL)
        return output


class SigmoidMulKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("sigmoid_mul")

    def __call__(self, x: Tensor, gate: Tensor) -> Tensor:
        """x * sigmoid(gate), both [T, size]."""
        x, gate = x.contiguous(), gate.contiguous()
        output = torch.empty_like(x)
        args = SigmoidMulArgs(
            x=address(x, torch.float32, *x.shape),
            gate=address(gate, torch.float32, *x.shape),
            output=output.data_ptr(),
            size=x.numel(),
        )
        self._run(self._operation, args, is_small=x.numel() < SMALL_PRODUCT)
        return output
