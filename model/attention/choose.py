"""Attention backends by name."""

import torch

from model.attention.base import AttentionBackend
from model.attention.blocked import BlockedAttention
from model.attention.reference import ReferenceAttention
from model.attention.sdpa import SdpaAttention


def choose_attention(name: str, device: torch.device) -> AttentionBackend:
    """`name` is a backend's, or "auto": the best for the device. Raises ValueError if unknown."""
    backends: dict[str, type[AttentionBackend]] = {
        "blocked": BlockedAttention,
        "sdpa": SdpaAttention,
        "reference": ReferenceAttention,
    }
    best_by_device = {"cpu": "blocked", "cuda": "sdpa"}
    chosen = best_by_device.get(device.type, "sdpa") if name == "auto" else name
    if chosen not in backends:
        known = ", ".join(repr(known) for known in ("auto", *backends))
        raise ValueError(f"'attention' must be one of {known}, got {name!r}.")
    return backends[chosen]()
