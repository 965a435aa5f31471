"""Where a model goes and in which form: device, dtype, kernels, how weights and cache are kept.

What was asked for is checked here, before any weight is read; `auto` is decided here.
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.native.build import Unavailable
from thirdeye.model.native.levels import level_named
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import choose_kv_dtype
from thirdeye.server.load.deterministic import check_deterministic
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.tensor_parallel import check_ranks

logger = logging.getLogger(__name__)


def place(recipe: EngineRecipe, rank: int, ranks_here: int) -> Placement:
    """Where a rank's weights go, and in which form; `rank` counts those of this host. Raises
    ValueError for what is not there."""
    device = choose_device(recipe.placement.device)
    size = recipe.placement.tensor_parallel
    if size > 1:
        check_ranks(recipe, device, ranks_here)
        device = torch.device("cuda", rank) if device.type == "cuda" else device
    use_device(device)
    dtype = choose_dtype(recipe.placement.dtype, device)
    if device.type == "cpu" and recipe.kernels.native != "off":
        check_isa(recipe.kernels.isa)
    where = Placement(dtype, device, native=load_native(recipe.native_library, device, dtype))
    quantize = choose_quantization(recipe.placement.quantize, where)
    where = replace(where, quantize=quantize, is_deterministic=recipe.placement.deterministic)
    if recipe.placement.deterministic:
        check_deterministic(where, recipe.kernels.attention)
    return where


def place_kv(recipe: EngineRecipe, where: Placement) -> torch.dtype:
    """In which dtype a rank keeps keys and values."""
    return choose_kv_dtype(
        recipe.cache.kv_dtype, recipe.kernels.attention, where.dtype, where.device, where.quantize
    )


def load_native(path: str, device: torch.device, dtype: torch.dtype) -> Library | None:
    """The compiled kernels, if they are for this device and ready; why not is said in the log. They
    are for float32 alone."""
    if not path or device.type != "cpu" or dtype != torch.float32:
        return None
    try:
        return Library(Path(path))
    except Unavailable as reason:
        logger.warning("no native kernels, for this start: %s", reason)
        return None


def check_isa(name: str) -> None:
    """Raises ValueError for instructions that this processor does not have."""
    if name != "auto" and (missing := level_named(name).missing()):
        raise ValueError(
            f"'--isa' {name} needs {missing[0]}, which this processor does not have: use 'auto'."
        )


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises ValueError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"'--device' {name}: this torch build sees no GPU; use '--device cpu'.")
    return torch.device(name)


def use_device(device: torch.device) -> None:
    """Make a GPU that was named the process's own: triton launches its kernels on that one, and
    streams and events are made there."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is exact where it is affordable: float32 on a CPU, bfloat16 on a GPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
