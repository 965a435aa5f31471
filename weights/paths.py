"""Where files live on this machine; the one module of `weights` that reads the environment.

Variables of the Hugging Face hub are read by huggingface_hub itself; where its cache is, we read
too, to list what is in it without that package.
"""

import os
from pathlib import Path


def models_directory() -> Path:
    """`$XDG_CACHE_HOME/thirdeye/models`, by default under `~/.cache`. It need not exist yet."""
    return _cache_root() / "thirdeye" / "models"


def hub_directory() -> Path:
    """The cache of huggingface_hub, by the variables that it reads. It need not exist."""
    if cache := os.environ.get("HF_HUB_CACHE"):  # noqa: TID251 (this module's job)
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")  # noqa: TID251 (this module's job)
    root = Path(home).expanduser() if home else _cache_root() / "huggingface"
    return root / "hub"


def _cache_root() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")  # noqa: TID251 (this module's job)
    # The XDG specification: a relative path is to be ignored.
    return Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"


def kernels_directory() -> Path:
    """Beside the models: what was compiled on this machine."""
    return models_directory().with_name("kernels")


def child_environment(temporary_directory: Path) -> dict[str, str]:
    """Our environment for a child process, with its temporary files put where we can see and remove
    them."""
    return dict(os.environ, TMPDIR=str(temporary_directory))  # noqa: TID251 (this module's job)
