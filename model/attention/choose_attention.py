"""Attention backends by name."""

from collections.abc import Callable
from importlib.util import find_spec

import torch

from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.flashinfer import FlashInferAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.native.library import Library
from thirdeye.model.placement import can_fuse


def choose_attention(
    name: str,
    device: torch.device,
    native: Library | None = None,
    *,
    is_deterministic: bool = False,
) -> AttentionBackend:
    """`name` is a backend's, or "auto": the best for the device. `native`: kernels compiled for
    this CPU and for the queries' dtype, if there are any. With `is_deterministic` the Triton
    backend cuts every step alike; of the others, `native` and `blocked` always do.

    Raises ValueError if it is unknown, or its kernels cannot run there.
    """
    backends: dict[str, Callable[[], AttentionBackend]] = {
        "native": lambda: _native(native),
        "blocked": BlockedAttention,
        "sdpa": SdpaAttention,
        "reference": ReferenceAttention,
        "triton": lambda: _triton(device, is_deterministic),
        "flashinfer": lambda: _flashinfer(device),
    }
    chosen = _best(device, native) if name == "auto" else name
    if chosen not in backends:
        known = ", ".join(repr(known) for known in ("auto", *backends))
        raise ValueError(f"'--attention' must be one of {known}, got {name!r}.")
    return backends[chosen]()


def _best(device: torch.device, native: Library | None) -> str:
    if device.type == "cpu":
        return "native" if native else "blocked"
    return "triton" if can_fuse(device) else "sdpa"


def _native(library: Library | None) -> NativeAttention:
    if library is None:
        raise ValueError(
            "'--attention' native needs kernels compiled for this machine and '--dtype' float32; "
            "`thirdeye doctor` says whether they are there: use 'auto'."
        )
    return NativeAttention(library)


def _triton(device: torch.device, is_deterministic: bool) -> TritonAttention:
    if not can_fuse(device):
        raise ValueError("'--attention' triton needs a GPU and the package triton: use 'auto'.")
    properties = torch.cuda.get_device_properties(device)
    return TritonAttention(
        num_multiprocessors=properties.multi_processor_count, is_deterministic=is_deterministic
    )


def _flashinfer(device: torch.device) -> FlashInferAttention:
    if device.type != "cuda" or find_spec("flashinfer") is None:
        raise ValueError(
            "'--attention' flashinfer needs a GPU and the package flashinfer-python: use 'auto'."
        )
    return FlashInferAttention(device)
