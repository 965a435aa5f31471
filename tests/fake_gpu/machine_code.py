"""What a compiler made of a kernel, read off its own files; ptxas and cuobjdump are triton's."""

import hashlib
import re
import subprocess
from collections import Counter
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import triton
from triton.runtime.cache import get_cache_manager

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SAID = "cuobjdump.txt"
WAIT, MAY_LAUNCH = "ACQBULK", "PREEXIT"  # of programmatic dependent launch
TOUCHES_MEMORY = re.compile(r"(LD|ST|RED|ATOM)(G|GSTS|L)?(\.|$)")
ADDRESS = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(.*?);", re.MULTILINE)
OPERATION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


def facts(machine_code: Any) -> dict[str, Any]:
    """`buffers`: how many tiles lie in shared memory at once, of those that loops load ahead.
    `waits`: how many of the newest loads may be under way where a loop waits for one.
    `before_wait`: what touches global memory before the kernel before is complete."""
    ttgir = machine_code.asm["ttgir"]
    buffers = re.findall(r"local_alloc .*memdesc<(\d+)x\d+x[^>]*mutable>", ttgir)
    loops = [line for line in ttgir.splitlines() if "async_wait" in line and "%" in line]
    said = _read(machine_code.asm["cubin"])
    operations = OPERATION.findall(said)
    before = operations[: operations.index(WAIT)] if WAIT in operations else operations
    return {
        "buffers": sorted({int(number) for number in buffers}),
        "waits": [int(n) for line in loops for n in re.findall(r"num = (\d+)", line)],
        "shared": machine_code.metadata.shared,
        "divisions": sorted(set(re.findall(r"div\.\w+\.f32", machine_code.asm["ptx"]))),
        "is_dependent": bool(machine_code.metadata.launch_pdl),
        "dependent_waits": operations.count(WAIT),
        "dependent_launches": operations.count(MAY_LAUNCH),
        "before_wait": [name for name in before if TOUCHES_MEMORY.match(name)],
        "spilled_in_products": spilled_in_products(said),
        "kept_before_loads": kept_before_loads(operations),
        "products": products(machine_code.asm["ptx"]),
        "operations": Counter(name for name in operations if _is_telling(name)),
        **resources(said),
    }


def products(ptx: str) -> list[list[Any]]:
    """Of warp groups, in order: the instruction's shape, and how far behind the first one's its
    operands begin, in units of 16 bytes."""
    numbers = {  # address of an operand -> what is added to that of a tile
        name: int(number)
        for name, number in re.findall(r"(?:add.s64|or.b64)\s+(%rd\d+), %rd\d+, (\d+);", ptx)
    }
    found = re.findall(r"wgmma.mma_async\S*\.(m64n\d+k\d+)\S* {[^}]*}, (%rd\d+), (%rd\d+),", ptx)
    if not found:
        return []
    first_a, first_b = (numbers[name] for name in found[0][1:])
    return [[shape, numbers[a] - first_a, numbers[b] - first_b] for shape, a, b in found]


def spilled_in_products(sass: str) -> int:
    """How often the innermost loop that multiplies reads or writes what has found no register;
    -1: there is no such loop."""
    lines = [(int(at, 16), what) for at, what in ADDRESS.findall(sass)]
    loops = [
        (int(target, 16), at)
        for at, what in lines
        for target in re.findall(r"BRA (?:`\(\S+\) *)?0x([0-9a-f]+)", what)
        if int(target, 16) < at
    ]
    bodies = [[what for at, what in lines if start <= at <= stop] for start, stop in loops]
    inner = [body for body in bodies if any("MMA" in what for what in body)]
    spilled = re.compile(r"\b(LDL|STL)\b")
    return min((sum(bool(spilled.search(w)) for w in body) for body in inner), default=-1)


def kept_before_loads(operations: list[str]) -> bool:
    """Whether what is stored before the first tile is loaded lies in front of a barrier that is in
    front of that load."""
    tiles = [i for i, name in enumerate(operations) if name.startswith("LDGSTS.E.BYPASS")]
    before = operations[: tiles[0]] if tiles else []
    stored = [i for i, name in enumerate(before) if name.startswith("STG")]
    return bool(stored) and any(name.startswith("BAR.SYNC") for name in before[stored[-1] :])


def _is_telling(operation: str) -> bool:
    return operation.startswith(("LDG", "HMMA", "HGMMA", "CCTL"))


def resources(said: str) -> dict[str, int]:
    """Registers a thread, and bytes of a thread's stack, where what has no register goes."""
    (registers,), (stack,) = re.findall(r"REG:(\d+)", said), re.findall(r"STACK:(\d+)", said)
    return {"registers": int(registers), "stack": int(stack)}


def _read(cubin: bytes) -> str:
    """Its resources and its machine code, kept where triton keeps the cubin: half a second each."""
    kept = get_cache_manager(hashlib.sha256(triton.__version__.encode() + cubin).hexdigest())
    if (path := kept.get_file(SAID)) is not None:
        return Path(path).read_text()
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [TOOLS / "cuobjdump", "-res-usage", "-sass", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(kept.put(done.stdout, SAID, binary=False)).read_text()
