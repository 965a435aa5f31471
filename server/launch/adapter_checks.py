"""What can be known of adapters before anything is loaded: their files, and their names."""

from pathlib import Path

from thirdeye.server.launch.opened_model import OpenedModel
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.adapters.adapter import open_adapter
from thirdeye.weights.errors import ModelError


def check_adapters(settings: Settings, opened: OpenedModel) -> None:
    """Raises `ModelError` with what is wrong with one of '--lora'."""
    asked = settings.adapters
    if not asked.num_slots:
        return
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
        open_adapter(Path(path), opened.config)
