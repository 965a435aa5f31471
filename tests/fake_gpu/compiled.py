"""Kernels as this server asks for them, compiled for sm_90, and what the compiler made of them.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.compiled

One line of JSON. Compiling takes no GPU; ptxas and cuobjdump are triton's own.
"""

import json
import re
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
import triton

from tests.fake_gpu import driver
from tests.fake_gpu.engine import MULTIPROCESSORS, pretending
from tests.gpu.attention import attend_by, decode_case
from tests.model.tiny import LLAMA
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.kernels.begin_step import begin_step
from thirdeye.model.kernels.choose_tokens import choose_tokens
from thirdeye.model.kernels.rope_kv import rope_and_write
from thirdeye.model.parts.rope import Rope
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_fp8 import Fp8KVCache

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
CPU = torch.device("cpu")
OF_A_STEPS_ENDS = ("begin_step_kernel", "limits_kernel", "masses_kernel", "pick_kernel")


def main() -> None:
    notes = driver.install("paged_attention_kernel", "rope_kv_kernel", *OF_A_STEPS_ENDS)
    with torch.inference_mode(), pretending():
        attend_by(
            TritonAttention(num_multiprocessors=MULTIPROCESSORS),
            decode_case(1, 600, 32, 8, 128, torch.bfloat16, CPU),
        )
        cache = Fp8KVCache(LLAMA, 8, 16, CPU)
        config = LLAMA.rope
        assert config is not None
        turns = Rope(config, 64, Placement(torch.float32, CPU)).at(torch.arange(3))
        qkv = torch.zeros(3, 8 * LLAMA.head_dim)
        rope_and_write(qkv, turns.cos, turns.sin, torch.arange(3), *cache.layer(0))
        table = torch.zeros(5, 48, dtype=torch.int32)
        begin_step(torch.zeros(4, dtype=torch.int32), table, first_block=16, block_size=16)
        choose_tokens(torch.zeros(4, 128256), table, torch.arange(4), advance=True)
    report = {name: facts(machine_code) for name, machine_code in notes.compiled.items()}
    print(json.dumps(report))


def facts(machine_code: Any) -> dict[str, Any]:
    """`buffers`: how many tiles lie in shared memory at once, of those that loops load ahead.
    `waits`: how many of the newest loads may be under way where a loop waits for one."""
    ttgir = machine_code.asm["ttgir"]
    buffers = re.findall(r"memdesc<(\d+)x\d+x\d+x\w+, [^>]*mutable>", ttgir)
    loops = [line for line in ttgir.splitlines() if "async_wait" in line and "%" in line]
    return {
        "buffers": sorted({int(number) for number in buffers}),
        "waits": [int(n) for line in loops for n in re.findall(r"num = (\d+)", line)],
        "shared": machine_code.metadata.shared,
        "divisions": sorted(set(re.findall(r"div\.\w+\.f32", machine_code.asm["ptx"]))),
        **resources(machine_code.asm["cubin"]),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """Registers a thread, and bytes of a thread's stack, where what has no register goes."""
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    (registers,), (stack,) = re.findall(r"REG:(\d+)", said), re.findall(r"STACK:(\d+)", said)
    return {"registers": int(registers), "stack": int(stack)}


if __name__ == "__main__":
    main()
