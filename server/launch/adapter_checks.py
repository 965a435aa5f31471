"""What can be known of adapters before anything is loaded: their files, and what does not go with
them."""

from pathlib import Path

from thirdeye.server.launch.opened_model import OpenedModel
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.adapters.adapter import open_adapter, warn_of_another_base
from thirdeye.weights.errors import ModelError


def check_adapters(settings: Settings, opened: OpenedModel) -> None:
    """Raises `ModelError` with what is wrong with one of '--lora', or with where they shall run."""
    asked = settings.adapters
    if not asked.num_slots:
        return
    if (num_ranks := settings.placement.tensor_parallel) > 1:
        raise ModelError(
            f"'--lora' and '--lora-dir' do not go with '--tensor-parallel' {num_ranks}: adapters "
            "are not dealt out to ranks. Leave one of them out."
        )
    if asked.lora_dir is not None and not asked.lora_dir.is_dir():
        raise ModelError(f"'--lora-dir' {asked.lora_dir}: no such folder.")
    if len(asked.lora) > asked.max_loras:
        raise ModelError(
            f"'--lora' is given {len(asked.lora)} times, '--max-loras' is {asked.max_loras}: "
            "raise it."
        )
    seen: set[str] = set(opened.names)
    for name, path in asked.named_paths:
        if name in seen:
            raise ModelError(f"'--lora' {name}: the name is taken, choose another.")
        seen.add(name)
        warn_of_another_base(open_adapter(Path(path), opened.config), opened.names)
