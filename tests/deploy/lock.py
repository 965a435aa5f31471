"""deploy/*.lock, what a server runs on to the byte, and its bill of materials: written anew.

make lock       python -m tests.deploy.lock UV, where UV is the program of that name

Versions are those of constraints.txt, which the whole suite runs with. torch is in a file of its
own, with the parts of CUDA that it brings on Linux: on a machine without a GPU its CPU build takes
their place.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.bill_of_materials import bill_of

ROOT = Path(__file__).resolve().parents[2]
LOCK, TORCH_LOCK, BILL = (
    ROOT / "deploy" / name for name in ("requirements.lock", "torch-cuda.lock", "sbom.cdx.json")
)
EXTRAS = ("hub", "otel")
HEADS = {
    LOCK: "# What a server needs beside torch, with each file's hash: `make lock` writes it.\n"
    f"# With the extras {' and '.join(EXTRAS)}.\n",
    TORCH_LOCK: "# torch as the public index has it, on Linux with CUDA: `make lock` writes it.\n"
    "# Without a GPU install a CPU build of the same version instead.\n",
}
_PIN = re.compile(r"^([a-z0-9.-]+)==(\S+?)(?: ; (.+?))? \\$", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    name: str
    version: str
    marker: str  # where it is wanted; empty: everywhere
    hashes: tuple[str, ...]  # SHA-256 of each file that may be installed


def pins_in(text: str) -> list[Pin]:
    return [
        Pin(match[1], match[2], match[3] or "", tuple(_HASH.findall(block)))
        for match, block in _blocks(text)
    ]


def is_torch(name: str) -> bool:
    """torch, and what it alone brings, and only on Linux."""
    return name in ("torch", "triton") or name.startswith(("nvidia-", "cuda-"))


def _blocks(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each pin with its lines."""
    found = [*_PIN.finditer(text)]
    ends = [match.start() for match in found[1:]] + [len(text)]
    return ((match, text[match.start() : end]) for match, end in zip(found, ends, strict=True))


def compiled(uv: str) -> str:
    command = [uv, "pip", "compile", "pyproject.toml", "--constraint", "constraints.txt"]
    command += ["--generate-hashes", "--universal", "--python-version", "3.11", "--quiet"]
    command += ["--no-header", "--no-annotate", *(word for e in EXTRAS for word in ("--extra", e))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def main() -> None:
    blocks = {match[1]: block for match, block in _blocks(compiled(sys.argv[1]))}
    for path, head in HEADS.items():
        mine = [block for name, block in blocks.items() if is_torch(name) is (path == TORCH_LOCK)]
        path.write_text(head + "".join(mine))
    BILL.write_text(json.dumps(bill_of(LOCK, TORCH_LOCK), indent=2) + "\n")


if __name__ == "__main__":
    main()
