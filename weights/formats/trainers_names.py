"""Names of tensors as trainers leave them: what wraps a module puts its own name before the
module's, or in its midst.

torch.compile writes `_orig_mod.`, fully sharded training and recomputation their own, data-parallel
training `module.` before all names, and an adapter's library `base_model.model.`.
"""

from collections.abc import Mapping
from dataclasses import replace

from thirdeye.weights.formats.safetensors import ShardEntry

ANYWHERE = frozenset(
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"]
)
BEFORE_ALL = ("module.", "base_model.model.")


def without_trainers(tensors: Mapping[str, ShardEntry]) -> dict[str, ShardEntry]:
    """The same tensors by the names that their model gives them. Raises `ModelFormatError` where
    two have one name then."""
    found: dict[str, ShardEntry] = {}
    names = {name: _bare(name) for name in tensors}
    while prefix := _common(list(names.values())):
        names = {name: bare.removeprefix(prefix) for name, bare in names.items()}
    for name, bare in names.items():
        if bare in found:
            raise tensors[name].error(f"without its trainer's prefix it is '{bare}' once more.")
        found[bare] = replace(tensors[name], name=bare)
    return found


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in ANYWHERE)


def _common(names: list[str]) -> str | None:
    return next(
        (one for one in BEFORE_ALL if names and all(name.startswith(one) for name in names)), None
    )
