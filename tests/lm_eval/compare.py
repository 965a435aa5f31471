"""lm-eval on our server and on `transformers`: the loglikelihood of every item, side by side.

    python -m tests.lm_eval.compare                    a tiny random checkpoint
    python -m tests.lm_eval.compare PATH               any checkpoint that both can read

lm-eval is the judge: it asks the server over HTTP (`local-completions`) and the same fp32 weights
through its `hf` backend, and writes down what each said. It needs `lm-eval[api]` beside the
project's own packages, as docs/conformance.md says; nothing is downloaded.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.live import ROOT, LiveServer
from tests.tiny import tiny_llama

TASK = "thirdeye_questions"
MAX_LENGTH = 256  # the tiny model's context
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none"}
Likelihood = tuple[float, bool]  # log probability of the choice, and whether it is greedy


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far two runs are apart. Loglikelihoods are sums of natural logarithms."""

    num_choices: int
    max_difference: float
    num_greedy_differing: int


@contextmanager
def serving(checkpoint: Path) -> Iterator[str]:
    """The base URL of a server over exact fp32 weights, named `tiny`."""
    exact = ("--quantize", "none", "--dtype", "float32", "--served-model-name", "tiny")
    server = LiveServer([str(checkpoint), *exact]).start()
    try:
        yield server.url
    finally:
        server.stop()


def by_server(url: str, checkpoint: Path, backend: str, out: Path) -> list[Likelihood]:
    """`backend` tokenizes: `huggingface` in lm-eval itself, `remote` by the server's routes."""
    arguments = {
        "model": "tiny",
        "base_url": f"{url}/v1/completions",
        "tokenizer_backend": backend,
        "tokenizer": str(checkpoint),
        "max_length": MAX_LENGTH,
    }
    return _evaluate("local-completions", arguments, out)


def by_transformers(checkpoint: Path, out: Path) -> list[Likelihood]:
    arguments = {"pretrained": str(checkpoint), "dtype": "float32", "max_length": MAX_LENGTH}
    return _evaluate("hf", arguments, out)


def compare(ours: list[Likelihood], theirs: list[Likelihood]) -> Comparison:
    pairs = list(zip(ours, theirs, strict=True))
    return Comparison(
        num_choices=len(pairs),
        max_difference=max(abs(one[0] - other[0]) for one, other in pairs),
        num_greedy_differing=sum(one[1] != other[1] for one, other in pairs),
    )


def _evaluate(model: str, arguments: dict[str, object], out: Path) -> list[Likelihood]:
    """One run of lm-eval, its samples written below `out`. Raises `RuntimeError` with its words."""
    joined = ",".join(f"{name}={value}" for name, value in arguments.items())
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", model, "--model_args", joined),
        *("--tasks", TASK, "--include_path", str(ROOT / "tests" / "lm_eval")),
        *("--batch_size", "4", "--device", "cpu", "--log_samples", "--output_path", str(out)),
    ]
    env = {**os.environ, **OFFLINE, "HF_HOME": str(out / "cache")}  # noqa: TID251 (a child's)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    (samples,) = out.rglob("samples_*.jsonl")
    return _likelihoods(samples)


def _likelihoods(samples: Path) -> list[Likelihood]:
    """Of every choice of every question, in the questions' order."""
    items = [json.loads(line) for line in samples.read_text().splitlines()]
    items.sort(key=lambda item: item["doc_id"])
    answers = [answer for item in items for (answer,) in item["resps"]]
    return [(float(value), str(greedy) == "True") for value, greedy in answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="left out: a tiny random one")
    checkpoint = parser.parse_args().checkpoint
    with TemporaryDirectory() as scratch:
        out = Path(scratch)
        if checkpoint is None:
            checkpoint = out / "model"
            tiny_llama(checkpoint)
        theirs = by_transformers(checkpoint, out / "hf")
        with serving(checkpoint) as url:
            for backend in ("huggingface", "remote"):
                ours = by_server(url, checkpoint, backend, out / backend)
                print(backend, compare(ours, theirs))


if __name__ == "__main__":
    main()
