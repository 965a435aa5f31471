"""Layers with experts in one file, decoded by our engine and by llama.cpp in turns.

Our engine is as `thirdeye serve` builds it, without guesses; one greedy answer a round, its first
token left out. Of theirs `llama-bench` tells tokens a second, of products alone. Both by the clock,
which other programs disturb: on a quiet machine, the median of the rounds' ratios.
"""

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.engine.bench_drafts import make_engine
from tests.bench.kernels.experts_file import VOCAB, write_experts_file
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request, SamplingParams


def beside(
    peer: str, mix: str, num_layers: int, num_threads: int, num_tokens: int, num_rounds: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write_experts_file(Path(folder) / f"experts-{mix}.gguf", mix, num_layers)
        core, _ = make_engine(str(file), num_threads, speculation="off", kv_memory=0.25)
        our_rate(core, num_tokens, "warm")  # the first step is recorded
        rounds = [
            (
                our_rate(core, num_tokens, str(number)),
                peer_rate(peer, file, num_threads, num_tokens),
            )
            for number in range(num_rounds)
        ]
    ours, theirs = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    ratio = statistics.median(mine / other for mine, other in rounds)
    print(
        f"{mix} {num_layers} layers, {num_threads} threads: {ours:.1f} tokens/s, "
        f"the peer {theirs:.1f}, ratio {ratio:.3f}",
        flush=True,
    )
    figures = {"ours": ours, "peer": theirs, "ratio": ratio, "rounds": rounds}
    print(json.dumps({"experts_beside": figures, "mix": mix, "layers": num_layers}), flush=True)


def our_rate(core: EngineCore, num_tokens: int, name: str) -> float:
    """Tokens a second, behind the first."""
    prompt = [(7 * place + len(name)) % VOCAB for place in range(8)]
    sampling = SamplingParams(max_tokens=num_tokens + 1, temperature=0.0, ignore_eos=True)
    core.add(Request(request_id=name, prompt_token_ids=prompt, sampling=sampling))
    begun, found = 0.0, 0
    while core.has_work:
        found += sum(len(output.token_ids) for output in core.step())
        begun = begun or (time.perf_counter() if found else 0.0)
    assert found == num_tokens + 1, found
    return num_tokens / (time.perf_counter() - begun)


def peer_rate(peer: str, file: Path, num_threads: int, num_tokens: int) -> float:
    command = [peer, "-m", str(file), "-p", "0", "-n", str(num_tokens), "-t", str(num_threads)]
    done = subprocess.run(
        [*command, "-r", "1", "-o", "json"], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout)[0]["avg_ts"])
