"""What the name of a GGUF file says: its quantization, and which part of a split file it is."""

import re
from pathlib import PurePath

PART = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})$")
QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])"
    r"((?:UD-)?(?:I?Q|TQ)\d(?:_[A-Za-z0-9]+)*|MXFP4(?:_[A-Za-z0-9]+)*|NVFP4|BF16|F16|F32)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def without_part(path: PurePath) -> str:
    """The file's name without its ending and without '-00001-of-00003'."""
    return PART.sub("", path.stem)


def part_of(path: PurePath) -> tuple[int, int]:
    """Which part it is, from 1, and of how many: (1, 1) for a file that is whole."""
    match = PART.search(path.stem)
    return (int(match["number"]), int(match["count"])) if match else (1, 1)


def quantization_of(path: PurePath) -> str | None:
    """As `Q4_K_M`, in capitals: the last one that the name shows, else its folder's."""
    for text in (without_part(path), path.parent.name):
        if found := QUANTIZATION.findall(text):
            return str(found[-1]).upper()
    return None
