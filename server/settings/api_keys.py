"""Files of keys: one a line."""

from pathlib import Path


def keys_in(file: Path) -> tuple[str, ...]:
    """# starts a comment. Raises OSError, or UnicodeDecodeError."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def check_key_file(file: Path) -> Path:
    """Raises ValueError: a file without a key would leave the server open to all."""
    try:
        keys = keys_in(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"Cannot be read ({reason})") from None
    if not keys:
        raise ValueError("Holds no key: one a line, please")
    return file
