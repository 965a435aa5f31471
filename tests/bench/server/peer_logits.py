"""How far llama.cpp or a relative is from fp32 of a file: its own logits, activations and all.

    python -m tests.bench.server.peer_logits OUT --include FOLDER... --libraries FOLDER
                        [--gguf FILE] [--model OTHER] [--threads 2] [--backends]

`--include`: where its build's `llama.h` and `ggml.h` lie; `--libraries`: its shared libraries, to
which a small program (`peer_logits.c`) is linked. The text, its windows and the measure are those
of `thirdeye eval kl`: fp32 of FILE [the default model]. `--model`: another file for the peer.
`--backends`: its kernels are libraries that it loads by itself, the best for this processor.

OUT keeps the logits, float32 [tokens, vocab_size]: `make bench-cpu ARGS="--logits NAME=OUT"` puts
what they tell beside that peer's speed. The last line is JSON.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.native.library import Library
from thirdeye.server.eval.quality import EXACT, STEP, TEXT, Quality, Reader, note
from thirdeye.server.load.native_kernels import compiled_library
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.resolve import resolve_model

WINDOW = 512
SOURCE = Path(__file__).with_suffix(".c")


def windows(token_ids: Sequence[int], window: int = WINDOW) -> Iterator[slice]:
    """As `quality.judge` reads: a token alone at the end says nothing."""
    for start in range(0, len(token_ids) - 1, window):
        yield slice(start, min(start + window, len(token_ids)))


@torch.inference_mode()
def judge_logits(checkpoint: Checkpoint, name: str, logits: Tensor) -> Quality:
    """The quality of a peer's logits [tokens, vocab_size] on the page that `eval` reads. Raises
    ValueError for those of another text or vocabulary."""
    token_ids = checkpoint.tokenizer().encode(TEXT.read_text())
    wanted = (len(token_ids), checkpoint.config.vocab_size)
    if tuple(logits.shape) != wanted:
        raise ValueError(f"{name}: logits must be {list(wanted)}, got {list(logits.shape)}.")
    path = compiled_library()
    reader = Reader(checkpoint, Library(Path(path)) if path else None, EXACT)
    quality = Quality(name, "a peer's")
    for part in windows(token_ids, min(WINDOW, checkpoint.config.max_position_embeddings)):
        own = token_ids[part]
        for step, exact in enumerate(reader.read(own)):
            following = torch.tensor(own[step * STEP + 1 : (step + 1) * STEP + 1], dtype=torch.long)
            start = part.start + step * STEP
            theirs = logits[start : start + len(following)].float().log_softmax(-1)
            note(quality, theirs, following, exact[: len(following)].log_softmax(-1))
    return quality


def read_logits(path: Path, vocab_size: int) -> Tensor:
    """float32 [tokens, vocab_size], in memory."""
    return torch.from_numpy(np.fromfile(path, np.float32)).view(-1, vocab_size)


def write_logits(args: argparse.Namespace, checkpoint: Checkpoint, model: Path) -> None:
    """By the peer, to `args.out`."""
    with tempfile.TemporaryDirectory() as folder:
        program, tokens = Path(folder) / "peer_logits", Path(folder) / "tokens"
        np.array(checkpoint.tokenizer().encode(TEXT.read_text()), np.int32).tofile(tokens)
        libraries = args.libraries.resolve()
        named = [f"-l:{file.name}" for file in sorted(libraries.glob("lib*.so")) if is_common(file)]
        subprocess.run(
            [
                *("cc", "-O1", str(SOURCE), "-o", str(program)),
                *(f"-I{include}" for include in args.include),
                *(["-DBACKENDS"] if args.backends else []),
                *(f"-L{libraries}", f"-Wl,-rpath,{libraries}", *named),
            ],
            check=True,
        )
        size, threads = str(checkpoint.config.vocab_size), str(args.threads)
        subprocess.run(
            [
                *(str(program), str(model), str(tokens), str(WINDOW), size, threads),
                *(str(args.out), *([str(libraries)] if args.backends else [])),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )


def is_common(library: Path) -> bool:
    """Whether it is linked to, and not loaded at run time or of no use here."""
    return library.name.startswith(("libllama.", "libggml.", "libggml-base."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--include", type=Path, nargs="+", required=True)
    parser.add_argument("--libraries", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backends", action="store_true")
    args = parser.parse_args()
    gguf = args.gguf or resolve_model(None)
    checkpoint = open_checkpoint(gguf)
    write_logits(args, checkpoint, args.model or gguf)
    found = judge_logits(
        checkpoint, args.out.stem, read_logits(args.out, checkpoint.config.vocab_size)
    )
    figures = {
        "perplexity": found.perplexity,
        "mean KL": found.mean_kl,
        "p99": found.p99_kl,
        "same likeliest token": found.top1,
    }
    print(json.dumps({"file": (args.model or gguf).name, **figures}))


if __name__ == "__main__":
    main()
