"""The settings of low-rank adapters."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thirdeye.server.settings.setting import setting

GIB = 1 << 30


def check_named_path(text: str) -> str:
    """NAME=PATH. Raises ValueError."""
    name, _, path = text.partition("=")
    if not (name.strip() and path and name.isprintable()):
        raise ValueError("must be NAME=PATH, the name that requests use and an adapter's folder")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Low-rank adapters of the model: see [adapters.md](adapters.md)."""

    title: ClassVar[str] = "Adapters"

    lora: tuple[str, ...] = setting(
        (), "Serve this adapter, a folder that peft saved", unit="NAME=PATH", check=check_named_path
    )
    lora_dir: Path | None = setting(
        None, "Folder whose adapters may be loaded while the server runs", unit="DIR"
    )
    max_loras: int = setting(8, "Adapters that are loaded at once", at_least=1, at_most=1024)
    lora_memory: float = setting(1.0, "Memory for all of them together", above=0, unit="GIB")

    @property
    def named_paths(self) -> list[tuple[str, str]]:
        """(name, absolute path) of each that is loaded at the start."""
        pairs = (text.partition("=") for text in self.lora)
        return [(name, str(Path(path).expanduser().absolute())) for name, _, path in pairs]

    @property
    def num_slots(self) -> int:
        """0: there are no adapters, nor will there be."""
        return self.max_loras if self.lora or self.lora_dir else 0

    @property
    def memory_bytes(self) -> int:
        return int(self.lora_memory * GIB)
