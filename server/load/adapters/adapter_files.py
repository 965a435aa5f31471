"""How an engine reads an adapter: the composition of `weights/adapters` and the engine's loader."""

from collections.abc import Callable
from pathlib import Path

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.lora.adapter_table import num_bytes_of
from thirdeye.server.engine.core.adapter_loader import AdapterFiles, AdapterLoader, Slots
from thirdeye.weights.adapters.adapter import open_adapter
from thirdeye.weights.errors import ModelError


def make_adapter_loader(
    table: Slots | None, config: ModelConfig, dtype: torch.dtype, max_bytes: int
) -> AdapterLoader | None:
    """For a model that has a table of adapters."""
    if table is None:
        return None
    return AdapterLoader(table, adapter_reader(table, config, dtype), max_bytes)


def adapter_reader(
    table: Slots, config: ModelConfig, dtype: torch.dtype
) -> Callable[[str], AdapterFiles]:
    """Of adapters for a base of this shape. What it returns raises ValueError or OSError."""

    def read(path: str) -> AdapterFiles:
        try:
            adapter = open_adapter(Path(path), config)
            factors = adapter.factors()
        except ModelError as error:
            raise ValueError(str(error)) from error
        num_bytes = num_bytes_of(factors, dtype)
        about = (adapter.max_rank, adapter.fingerprint, adapter.config.base)
        return AdapterFiles(table.prepare(factors), num_bytes, *about)

    return read
