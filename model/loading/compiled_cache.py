"""Kernels that triton has compiled and keeps: what is damaged is dropped, and compiled again.

triton gives files their names in one step and does not wait for the disk, so that a power cut or a
full disk may leave some empty or cut; what it finds by its name it reads, and each start would end
there. Text that was changed by hand is not found: triton keeps no hashes.
"""

import json
import logging
import shutil
import stat
import struct
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

NAMES_ALONE = {"lock"}  # files that hold nothing
ELF_MAGIC = b"\x7fELF\x02\x01"  # of 64 bits, lowest byte first
TABLES_AT = struct.Struct("<QQ")  # at 32: of segments, of sections
TABLE_SIZES = struct.Struct("<HHHH")  # at 54: an entry's bytes and their number, of each
SECTION = struct.Struct("<IIQQQQ")  # name, type, flags, address, offset, size, and more
NO_BITS = 8  # the type of a section that takes none of the file
MAX_BYTES = 1 << 28


def repair_compiled_cache(device: torch.device) -> None:
    """Before the first kernel is asked for; where none are, nothing is done."""
    if device.type != "cuda" or find_spec("triton") is None:
        return
    from triton import knobs  # noqa: PLC0415 (a GPU's alone)

    for name in drop_damaged(Path(knobs.cache.dir)):
        logger.warning("a compiled kernel was damaged and is compiled again: %s", name)


def drop_damaged(cache: Path) -> list[str]:
    """Delete each kernel one of whose files is; their folders' names."""
    dropped = []
    try:
        folders = sorted(folder for folder in cache.iterdir() if folder.is_dir())
    except OSError:  # none yet, or not for us: triton says so
        return []
    for folder in folders:
        with suppress(OSError):
            if any(is_damaged(file) for file in folder.iterdir() if file.name not in NAMES_ALONE):
                shutil.rmtree(folder)
                dropped.append(folder.name)
    return dropped


def is_damaged(path: Path) -> bool:
    """Raises OSError for what cannot be looked at. Folders are those of files being written."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return False
    if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_BYTES:
        return True
    if path.suffix == ".json":
        return not is_json(path.read_bytes())
    return path.suffix in (".cubin", ".so") and not is_whole_elf(path.read_bytes())


def is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def is_whole_elf(raw: bytes) -> bool:
    """Whether both its tables are there, and every section."""
    if not raw.startswith(ELF_MAGIC) or len(raw) < 64:
        return False
    segments, start = TABLES_AT.unpack_from(raw, 32)
    segment_size, num_segments, size, count = TABLE_SIZES.unpack_from(raw, 54)
    end = max(segments + segment_size * num_segments, start + size * count)
    if size < SECTION.size or end > len(raw):
        return False
    for at in range(start, start + size * count, size):
        _, kind, _, _, offset, length = SECTION.unpack_from(raw, at)
        if kind != NO_BITS and offset + length > len(raw):
            return False
    return True
